//! What differs is named, causes only where they are computed again, and everything else is not known.

use std::fs;

use crate::common::{json, random, run};
use crate::explained::{Case, Machine, OTHER_MEMORY, SIZE, STATED, cause};

use diagnose::explain::{ExplainError, Files, NamedManifest, Question, SuspectKind, explain};
use predict::{KernelHeader, PageOrder, acpi::Qemu, direct, mrtd, qemu::MachineSize};
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
    let other = case.image.guest(Digest48::of(b"other config"));
    let mut manifests = case.manifests();
    manifests.push(NamedManifest::from_json("other.json", &other.to_json()).unwrap());
    let explanation = explain(&Question {
        manifests: &manifests,
        quoted: other.registers(),
        logs: &[],
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
