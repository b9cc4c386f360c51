//! What differs is named, causes only where they are computed again, and everything else is not known.

use std::fs;

use crate::common::{json, random, run};
use crate::explained::{Case, Machine, OTHER_MEMORY, SIZE, STATED, cause};

use diagnose::explain::{
    ExplainError, Files, NamedConfig, NamedManifest, Question, SuspectKind, explain,
};
use predict::{
    KernelHeader, PageOrder, PredictedEvent, acpi::Qemu, direct, mrtd, qemu::MachineSize,
};
use registers::{Digest48, Register, Registers};
use serde_json::{Value, json};
use simulator::SimulatedModule;

#[test]
fn the_expected_guest_differs_in_nothing() {
    let case = Case::new();
    let explanation = case.explain(case.guest.registers(), &[]);
    assert!(explanation.equal);
    assert_eq!(explanation.recomputations, 0);
}

#[test]
fn another_machine_is_found_from_the_manifest_alone() {
    let case = Case::new();
    let check = |machine: Machine, expected: &str| {
        let explanation = case.explain(&case.registers(&machine), &[]);
        let (kind, what) = cause(&explanation, Register::Rtmr0);
        assert_eq!((kind, what.as_str()), (SuspectKind::Machine, expected));
    };
    let size = |vcpus| MachineSize { vcpus, ..SIZE };
    check(
        Machine {
            size: size(4),
            ..STATED
        },
        "with 4 vCPUs instead of 2",
    );
    check(
        Machine {
            qemu: Qemu::V11_1_3,
            ..STATED
        },
        "with QEMU 11.1.3 instead of 10.0.13",
    );
    check(
        Machine {
            tpm: true,
            ..STATED
        },
        "with a TPM",
    );
    check(
        Machine {
            qemu: Qemu::V11_1_3,
            size: size(24),
            ..STATED
        },
        "with QEMU 11.1.3 instead of 10.0.13 and 24 vCPUs instead of 2",
    );
}

/// The nearest machines are tried first, so one change is found soon. Without the files see the bound, below.
#[test]
fn other_memory_is_found_with_the_files() {
    let case = Case::new();
    let registers = case.registers(&OTHER_MEMORY);
    let (kind, what) = cause(&case.explain_with_files(&registers), Register::Rtmr0);
    assert_eq!(kind, SuspectKind::Machine);
    assert_eq!(what, "with 16384 MiB of memory instead of 2048");
}

#[test]
fn another_page_order_and_a_patched_header_are_found_with_the_files() {
    let case = Case::new();
    let mut registers = *case.guest.registers();
    registers.mrtd = mrtd(&case.file("firmware.fd"), PageOrder::TwoPass).unwrap();
    let (kind, what) = cause(&case.explain_with_files(&registers), Register::Mrtd);
    assert_eq!(kind, SuspectKind::PageOrder);
    assert!(what.contains("two passes"));

    let header = KernelHeader::PatchedByQemu { memory_mib: 2048 };
    let registers = case.registers(&Machine { header, ..STATED });
    let (kind, what) = cause(&case.explain_with_files(&registers), Register::Rtmr1);
    assert_eq!(kind, SuspectKind::KernelHeader);
    assert!(what.contains("changes to its header, for 2048 MiB"));
}

#[test]
fn other_combinations_of_command_line_and_initrd_are_found() {
    let case = Case::new();
    let mut registers = *case.guest.registers();
    let events = direct::rtmr2(&case.image.cmdline, None).unwrap();
    registers.rtmr[2] = predict::replay(Register::Rtmr2, &events);
    let (kind, what) = cause(&case.explain(&registers, &[]), Register::Rtmr2);
    assert_eq!(kind, SuspectKind::BootFiles);
    assert!(
        what.contains("without \" initrd=initrd\", and no initrd"),
        "{what}"
    );
}

/// An empty initrd is measured, no initrd is not.
#[test]
fn an_empty_initrd_and_another_manifests_files_are_found() {
    let case = Case::new();
    let options = |line: &str| {
        let text = format!("{line} initrd=initrd\0");
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        Digest48::of(&bytes)
    };
    let rtmr2 = |options, initrd| Digest48::ZERO.extended_by(&options).extended_by(&initrd);
    // The same image with another command line and initrd.
    let other_line = format!("{} quiet", case.image.cmdline);
    let other_initrd = Digest48::of(b"another initrd");
    let mut value: Value = serde_json::from_slice(&case.image.to_json()).unwrap();
    value["cmdline"] = other_line.as_str().into();
    value["registers"]["rtmr2"] = json!(rtmr2(options(&other_line), other_initrd));
    let events = value["events"].as_array_mut().unwrap();
    let of_rtmr2 = events.iter_mut().filter(|e| e["register"] == "rtmr2");
    for (event, digest) in of_rtmr2.zip([options(&other_line), other_initrd]) {
        event["digest"] = json!(digest);
    }
    let mut manifests = case.manifests();
    manifests.push(NamedManifest::from_json("other.json", value.to_string().as_bytes()).unwrap());

    let line = options(&case.image.cmdline);
    let initrd = Digest48::of(&case.file("initrd"));
    let (own, other) = ("the manifest's", "of other.json");
    for (options, initrd, line_of, initrd_of) in [
        (
            line,
            Digest48::of(b""),
            format!("{own} command line"),
            "an empty initrd".into(),
        ),
        (
            line,
            other_initrd,
            format!("{own} command line"),
            format!("the initrd {other}"),
        ),
        (
            options(&other_line),
            initrd,
            format!("the command line {other}"),
            format!("{own} initrd"),
        ),
    ] {
        let mut quoted = *case.guest.registers();
        quoted.rtmr[2] = rtmr2(options, initrd);
        let explanation = explain(&Question {
            manifests: &manifests,
            quoted: &quoted,
            logs: &[],
            configs: &[],
            files: None,
        });
        let (kind, what) = cause(&explanation.unwrap(), Register::Rtmr2);
        let with = "with the firmware's \" initrd=initrd\"";
        assert_eq!(kind, SuspectKind::BootFiles);
        assert_eq!(what, format!("with {line_of}, {with}, and {initrd_of}"));
    }
}

#[test]
fn another_manifests_quote_and_a_boot_that_ended_early_are_found() {
    let case = Case::new();
    let other = case.image.guest(Digest48::of(b"other config"), &[]);
    let mut manifests = case.manifests();
    manifests.push(NamedManifest::from_json("other.json", &other.to_json()).unwrap());
    let explanation = explain(&Question {
        manifests: &manifests,
        quoted: other.registers(),
        logs: &[],
        configs: &[],
        files: None,
    })
    .unwrap();
    let (kind, what) = cause(&explanation, Register::Rtmr3);
    assert_eq!(kind, SuspectKind::OtherManifest);
    assert_eq!(what, "in the guest of other.json");

    let mut registers = *case.guest.registers();
    registers.rtmr[3] = Digest48::ZERO.extended_by(&case.guest.rtmr3_events()[0].digest);
    let (kind, what) = cause(&case.explain(&registers, &[]), Register::Rtmr3);
    assert_eq!(kind, SuspectKind::Incomplete);
    assert!(what.starts_with("after the first 1 of 2 events"));
}

#[test]
fn what_nobody_knows_is_said_to_be_unknown_within_the_bound() {
    let case = Case::new();
    let unknown = Digest48::of(b"unknown");
    let mut registers = Registers {
        mrtd: unknown,
        rtmr: [unknown; 4],
    };
    // Known with the image's files, and only then.
    registers.rtmr[0] = case.registers(&OTHER_MEMORY).rtmr[0];
    let explanation = case.explain(&registers, &[]);
    for finding in &explanation.registers {
        assert!(finding.suspects.is_empty() && !finding.certain);
        assert_eq!(finding.component, None);
    }
    assert!(explanation.recomputations < diagnose::limits::EXPLAIN_RECOMPUTATIONS_MAX);
}

#[test]
fn files_of_another_image_and_papers_of_no_kind_are_refused() {
    let case = Case::new();
    let files = Files {
        firmware: b"x",
        kernel: b"y",
        initrd: b"z",
    };
    let ask = |manifests: &[NamedManifest]| {
        explain(&Question {
            manifests,
            quoted: case.guest.registers(),
            logs: &[],
            configs: &[],
            files: Some(files),
        })
    };
    assert!(matches!(
        ask(&case.manifests()),
        Err(ExplainError::OtherFile {
            file: "firmware",
            ..
        })
    ));
    assert_eq!(
        ask(&case.manifests()[..1]),
        Err(ExplainError::FilesWithoutImage)
    );
    assert_eq!(ask(&[]), Err(ExplainError::NoManifest));
    for bytes in [&b"{}"[..], b"[]", b"", b"\xff"] {
        assert_eq!(
            NamedManifest::from_json("x", bytes).err(),
            Some(ExplainError::NoPaper)
        );
    }
}

#[test]
fn the_program_says_who_is_at_fault_and_exits_with_it() {
    let case = Case::new();
    let directory = case.directory.path();
    fs::write(directory.join("guest.json"), case.guest.to_json()).unwrap();
    let write_quote = |registers| {
        let mut module =
            SimulatedModule::new(crate::common::NOW_UNIX_S, &mut random("explain")).unwrap();
        module.boot(registers);
        fs::write(directory.join("quote.bin"), module.quote(&[0; 64])).unwrap();
    };
    let all = [
        "explain",
        "--manifest",
        "guest.json",
        "--manifest",
        "manifest.json",
        "--image",
        ".",
        "--quote",
        "quote.bin",
    ];
    write_quote(*case.guest.registers());
    assert_eq!(run(directory, &all).status.code(), Some(0));
    let quote = fs::read(directory.join("quote.bin")).unwrap();
    fs::write(directory.join("quote.bin"), hex::encode(quote)).unwrap();
    assert_eq!(
        run(directory, &all).status.code(),
        Some(0),
        "in hexadecimal"
    );

    let size = MachineSize { vcpus: 4, ..SIZE };
    write_quote(case.registers(&Machine { size, ..STATED }));
    let output = run(directory, &all);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("RTMR0 differs."), "{text}");
    assert!(text.contains("exactly what it would be with 4 vCPUs instead of 2."));
    let output = run(directory, &[&all[..], &["--json"]].concat());
    let value = json(&output);
    assert_eq!(value["equal"], false);
    assert_eq!(value["registers"][1]["register"], "rtmr0");
    assert_eq!(value["registers"][1]["suspects"][0]["kind"], "machine");
    assert_eq!(value["registers"][1]["certain"], true);
    let misused = |arguments: &[&str]| {
        let output = run(directory, arguments);
        assert!(output.stdout.is_empty());
        output.status.code() == Some(2)
    };
    assert!(misused(&["explain", "--quote", "quote.bin"]));
    let nine = ["--manifest", "guest.json"].repeat(diagnose::limits::EXPLAIN_MANIFESTS_MAX - 1);
    assert!(misused(&[&all[..], &nine].concat()));
    let eight = run(directory, &[&all[..], &nine[2..]].concat());
    assert_eq!(eight.status.code(), Some(1), "as many as may be");
    let without_image = ["explain", "--manifest", "guest.json", "--image", "."];
    assert!(misused(&[&without_image[..], &all[7..]].concat()));
}

/// The expected registers, but for one as firmware of that release would have made it of these events.
fn with_one_of(
    case: &Case,
    events: &[PredictedEvent],
    release: &str,
    register: Register,
) -> Registers {
    let layout = release.parse::<predict::Edk2Release>().unwrap().layout();
    let of = |event: &&PredictedEvent| event.register == register;
    let events: Vec<_> = events.iter().filter(of).cloned().collect();
    let relaid = layout.relaid(register, &events).unwrap();
    let mut registers = *case.guest.registers();
    let index = usize::from(register == Register::Rtmr1);
    registers.rtmr[index] = predict::replay(register, &relaid);
    registers
}

#[test]
fn firmware_of_another_generation_is_named() {
    let case = Case::new();
    for (release, words) in [
        (
            "202402",
            "with firmware of edk2 stable202302 to stable202408",
        ),
        ("202211", "with firmware of edk2 stable202211"),
    ] {
        for register in [Register::Rtmr0, Register::Rtmr1] {
            let registers = with_one_of(&case, &case.image.events, release, register);
            let (kind, what) = cause(&case.explain(&registers, &[]), register);
            assert_eq!(kind, SuspectKind::FirmwareGeneration, "{register}: {what}");
            assert!(what.starts_with(words), "{what}");
        }
    }
}

/// An older host has both: firmware of another generation and another QEMU, and it changes the kernel's header.
#[test]
fn firmware_of_another_generation_in_another_machine_is_named_with_it() {
    let case = Case::new();
    let header = KernelHeader::PatchedByQemu { memory_mib: 2048 };
    let size = MachineSize { vcpus: 8, ..SIZE };
    let other = case.on(&Machine {
        size,
        header,
        ..STATED
    });
    for (register, more) in [
        (Register::Rtmr0, "and with 8 vCPUs instead of 2"),
        (
            Register::Rtmr1,
            "QEMU's changes to its header, for 2048 MiB",
        ),
    ] {
        let registers = with_one_of(&case, &other.events, "202402", register);
        let (kind, what) = cause(&case.explain_with_files(&registers), register);
        assert_eq!(kind, SuspectKind::FirmwareGeneration, "{register}: {what}");
        assert!(
            what.contains("stable202302 to stable202408") && what.contains(more),
            "{what}"
        );
    }
}

/// The image's own firmware has no driver: whatever its manifest says, RTMR0 to RTMR2 of its guest are zero.
#[test]
fn firmware_that_measures_nothing_is_named_and_nothing_is_computed_for_it() {
    let case = Case::new();
    let mut firmware = case.file("firmware.fd");
    firmware[0x1000 + 56] ^= 1; // the driver's name
    let mut value: Value = serde_json::from_slice(&case.image.to_json()).unwrap();
    value["files"]["firmware"]["sha256"] = registers::Digest32::of(&firmware).to_string().into();
    let manifest = NamedManifest::from_json("image.json", value.to_string().as_bytes()).unwrap();
    let ask = |quoted: &Registers| {
        explain(&Question {
            manifests: std::slice::from_ref(&manifest),
            quoted,
            logs: &[],
            configs: &[],
            files: Some(Files {
                firmware: &firmware,
                kernel: &case.kernel,
                initrd: &case.file("initrd"),
            }),
        })
        .unwrap()
    };
    for (index, register) in [Register::Rtmr0, Register::Rtmr1, Register::Rtmr2]
        .into_iter()
        .enumerate()
    {
        let mut zero = *case.guest.registers();
        zero.rtmr[index] = Digest48::ZERO;
        let explanation = ask(&zero);
        let found = &explanation.registers[index + 1].suspects;
        let kinds: Vec<_> = found.iter().map(|suspect| suspect.kind).collect();
        assert_eq!(kinds, [SuspectKind::FirmwareMeasuresNothing], "{register}");
    }
    let explanation = ask(&case.registers(&OTHER_MEMORY));
    let finding = &explanation.registers[1];
    assert!(finding.suspects.is_empty() && !finding.certain);
}

#[test]
fn another_configuration_is_found_and_its_fields_are_named() {
    let case = Case::new();
    let stated = br#"{"models":[{"id":"a","root":"11"}],"limit":5}"#;
    let other = br#"{"models":[{"id":"a","root":"22"}],"limit":6}"#;
    let guest = |config: &[u8]| case.image.guest(Digest48::of(config), &[]);
    let config = |name: &str, bytes: &[u8]| NamedConfig {
        name: name.into(),
        bytes: bytes.to_vec(),
    };
    let ask = |quoted: &Registers, configs: &[NamedConfig]| {
        let manifest = NamedManifest::from_json("guest.json", &guest(stated).to_json()).unwrap();
        explain(&Question {
            manifests: &[manifest],
            quoted,
            logs: &[],
            configs,
            files: None,
        })
        .unwrap()
    };
    let quoted = *guest(other).registers();
    let both = [config("expected.json", stated), config("found.json", other)];
    for configs in [&both[..], &[both[1].clone(), both[0].clone()]] {
        let explanation = ask(&quoted, configs);
        let (kind, what) = cause(&explanation, Register::Rtmr3);
        assert_eq!(kind, SuspectKind::Application);
        assert_eq!(
            what,
            r#"with the manifest's agent and the configuration found.json, which differ in limit (6 instead of 5), models[0].root ("22" instead of "11")"#
        );
    }
    let (_, what) = cause(&ask(&quoted, &both[1..]), Register::Rtmr3);
    assert_eq!(
        what,
        "with the manifest's agent and the configuration found.json"
    );
    // Neither: the agent or a configuration that nobody named.
    let explanation = ask(&quoted, &both[..1]);
    let finding = &explanation.registers[4];
    assert!(finding.suspects.is_empty() && !finding.certain);
    assert_eq!(finding.decided_by, "the agent or its configuration");
}

#[test]
fn the_program_says_agent_or_configuration_and_which_field() {
    let case = Case::new();
    let directory = case.directory.path();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.join(name), bytes).unwrap();
    let configs = [&br#"{"limit":5}"#[..], br#"{"limit":6}"#];
    let [stated, other] = configs.map(|config| case.image.guest(Digest48::of(config), &[]));
    write("guest.json", &stated.to_json());
    write("a.json", configs[0]);
    write("b.json", configs[1]);
    let mut module = SimulatedModule::new(crate::common::NOW_UNIX_S, &mut random("rtmr3")).unwrap();
    module.boot(*other.registers());
    write("quote.bin", &module.quote(&[0; 64]));
    let ask = |more: &[&str]| {
        let fixed = [
            "explain",
            "--manifest",
            "guest.json",
            "--quote",
            "quote.bin",
        ];
        let output = run(directory, &[&fixed[..], more].concat());
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = ask(&[]);
    assert!(
        said.contains("what differs is the agent or its configuration"),
        "{said}"
    );
    assert!(
        said.contains("Only RTMR3 differs: the agent or its configuration."),
        "{said}"
    );
    let said = ask(&["--config", "a.json", "--config", "b.json"]);
    assert!(
        said.contains("the configuration b.json, which differ in limit (6 instead of 5)"),
        "{said}"
    );
}
