//! What differs is named, causes only where they are computed again, and everything else is not known.

mod common;

use std::fs;

use common::{image, json, random, run};
use measurements::{
    Digest48, EventLog, ImageManifest, MachineSize, Manifest, Register, Registers,
    acpi::{Qemu, acpi_files},
    explain::{
        DifferenceKind, ExplainError, Explanation, Files, Finding, Paper, Question, SuspectKind,
        explain,
    },
    guest_shape, limits,
    predict::{
        Boot, FirmwareBuild, Inputs, KernelHeader, PageOrder, Platform, Prediction, direct, mrtd,
        predict,
    },
};
use serde_json::{Value, json};
use simulator::SimulatedModule;

const SIZE: MachineSize = MachineSize {
    vcpus: 2,
    memory_mib: 2048,
};

/// An image of a proven machine, its guest's manifest, and its files.
struct Case {
    folder: tempfile::TempDir,
    image: ImageManifest,
    guest: Manifest,
    kernel: Vec<u8>,
}

struct Machine {
    size: MachineSize,
    qemu: Qemu,
    tpm: bool,
    header: KernelHeader,
}

const STATED: Machine = Machine {
    size: SIZE,
    qemu: Qemu::V10_0_13,
    tpm: false,
    header: KernelHeader::AsOnDisk,
};

const OTHER_MEMORY: Machine = Machine {
    size: MachineSize {
        vcpus: 2,
        memory_mib: 16 * 1024,
    },
    ..STATED
};

impl Case {
    fn new() -> Case {
        let (folder, image) = image::image();
        let kernel = kernel_with_header();
        fs::write(folder.path().join("kernel"), &kernel).unwrap();
        let mut case = Case {
            guest: Manifest::vm(&image, Digest48::of(b"config")),
            folder,
            image,
            kernel,
        };
        let prediction = case.on(&STATED);
        let mut value: Value = serde_json::from_slice(&case.image.to_json()).unwrap();
        value["registers"] =
            serde_json::to_value(measurements::BootRegisters::from(&prediction)).unwrap();
        value["events"] = serde_json::to_value(&prediction.events).unwrap();
        value["files"]["kernel"]["sha256"] =
            measurements::Digest32::of(&case.kernel).to_string().into();
        let digest = measurements::Digest32::of(b"package").to_string();
        value["packages"] = json!([
            {"name": "linux-image-6.12", "version": "6.12.1", "sha256": digest, "role": "kernel"},
            {"name": "ovmf", "version": "2025.02", "sha256": digest, "role": "firmware"},
        ]);
        case.image = ImageManifest::from_json(value.to_string().as_bytes()).unwrap();
        case.guest = Manifest::vm(&case.image, Digest48::of(b"config"));
        fs::write(
            case.folder.path().join("manifest.json"),
            case.image.to_json(),
        )
        .unwrap();
        case
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(name)).unwrap()
    }

    /// What the image measures to on another machine.
    fn on(&self, machine: &Machine) -> Prediction {
        let (firmware, initrd) = (self.file("firmware.fd"), self.file("initrd"));
        let shape = guest_shape(machine.size, machine.qemu, machine.tpm);
        predict(&Inputs {
            platform: Platform::new(
                &firmware,
                FirmwareBuild::UP_TO_STABLE202502,
                machine.size.memory_mib,
            ),
            page_order: PageOrder::SinglePass,
            acpi: &acpi_files(&shape).unwrap(),
            boot: Boot::Direct {
                kernel: &self.kernel,
                initrd: Some(&initrd),
                cmdline: &self.image.cmdline,
                header: machine.header,
            },
        })
        .unwrap()
    }

    fn registers(&self, machine: &Machine) -> Registers {
        let mut registers = self.on(machine).registers();
        registers.rtmr[3] = self.guest.registers().rtmr[3];
        registers
    }

    fn papers(&self) -> Vec<Paper> {
        vec![
            Paper::from_json("guest.json", &self.guest.to_json()).unwrap(),
            Paper::from_json("image.json", &self.image.to_json()).unwrap(),
        ]
    }

    fn explain(&self, quoted: &Registers, logs: &[EventLog]) -> Explanation {
        let papers = self.papers();
        explain(&Question {
            papers: &papers,
            quoted,
            logs,
            files: None,
        })
        .unwrap()
    }

    fn explain_with_files(&self, quoted: &Registers) -> Explanation {
        let papers = self.papers();
        let (firmware, initrd) = (self.file("firmware.fd"), self.file("initrd"));
        explain(&Question {
            papers: &papers,
            quoted,
            logs: &[],
            files: Some(Files {
                firmware: &firmware,
                kernel: &self.kernel,
                initrd: &initrd,
            }),
        })
        .unwrap()
    }
}

/// The made kernel with a setup header, so that QEMU would change it.
fn kernel_with_header() -> Vec<u8> {
    let mut file = common::made::kernel();
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    file[0x211] = 1;
    file[0x236..0x238].copy_from_slice(&2u16.to_le_bytes());
    file
}

fn one(explanation: &Explanation, register: Register) -> &Finding {
    let mut all = explanation.registers.iter();
    all.find(|finding| finding.register == register).unwrap()
}

/// The only cause of the only register that differs.
fn cause(explanation: &Explanation, register: Register) -> (SuspectKind, String) {
    for finding in &explanation.registers {
        assert_eq!(
            finding.equal,
            Some(finding.register != register),
            "{finding:?}"
        );
    }
    let finding = one(explanation, register);
    assert!(finding.certain && !explanation.equal);
    assert_eq!(finding.suspects.len(), 1, "{finding:?}");
    (finding.suspects[0].kind, finding.suspects[0].what.clone())
}

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
    registers.rtmr[2] = measurements::predict::replay(Register::Rtmr2, &events);
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
    let mut papers = case.papers();
    papers.push(Paper::from_json("other.json", value.to_string().as_bytes()).unwrap());

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
            papers: &papers,
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
    let other = Manifest::vm(&case.image, Digest48::of(b"other config"));
    let mut papers = case.papers();
    papers.push(Paper::from_json("other.json", &other.to_json()).unwrap());
    let explanation = explain(&Question {
        papers: &papers,
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
    assert!(explanation.recomputations < limits::EXPLAIN_RECOMPUTATIONS_MAX);
}

/// Register, type, digest and data.
type Logged<'a> = (u32, u32, Digest48, &'a [u8]);

/// A dstack list: the register, the type and the digest of each event.
fn log(events: &[Logged<'_>]) -> EventLog {
    let list: Vec<Value> = events
        .iter()
        .map(|(register, kind, digest, data)| {
            json!({"imr": register, "event_type": kind, "digest": digest.to_string(), "event": "",
                "event_payload": hex::encode(data)})
        })
        .collect();
    EventLog::parse_dstack(Value::from(list).to_string().as_bytes()).unwrap()
}

/// RTMR1 and RTMR2 as the image has them, changed, and the registers that the change leads to.
fn logged<'a>(case: &Case, change: impl FnOnce(&mut Vec<Logged<'a>>)) -> (EventLog, Registers) {
    let kind = |register| if register == 1 { 0x8000_0007 } else { 6 };
    let number = |register| match register {
        Register::Rtmr1 => 1,
        _ => 2,
    };
    let booted = case
        .image
        .events
        .iter()
        .filter(|e| e.register != Register::Rtmr0);
    let mut events: Vec<Logged<'a>> = booted
        .map(|e| {
            (
                number(e.register),
                kind(number(e.register)),
                e.digest,
                &[][..],
            )
        })
        .collect();
    change(&mut events);
    let log = log(&events);
    let mut registers = *case.guest.registers();
    registers.rtmr[1..3].copy_from_slice(&log.replay().rtmr[1..3]);
    (log, registers)
}

#[test]
fn a_log_names_the_event_and_the_component() {
    let case = Case::new();
    let check = |register,
                 change: &dyn Fn(&mut Vec<Logged<'static>>),
                 expected: (DifferenceKind, usize, Option<&str>, &[&str])| {
        let (log, registers) = logged(&case, change);
        let explanation = case.explain(&registers, &[log]);
        let finding = one(&explanation, register);
        assert_eq!(finding.log_replays, Some(true));
        let difference = finding.first_difference.as_ref().unwrap();
        let component = finding.component.as_ref();
        let got = (
            difference.kind,
            difference.index,
            component.and_then(|component| component.file.as_deref()),
        );
        assert_eq!(got, (expected.0, expected.1, expected.2));
        assert_eq!(finding.certain, got.0 != DifferenceKind::Rearranged);
        assert_eq!(component.map_or(&[][..], |c| &c.packages), expected.3);
    };
    let new = Digest48::of(b"something else");
    let (r1, r2) = (Register::Rtmr1, Register::Rtmr2);
    let packages = ["linux-image-6.12 6.12.1"];
    use DifferenceKind::{Changed, Extra, Missing, Rearranged};
    check(
        r1,
        &|e| e[0].2 = new,
        (Changed, 0, Some("kernel"), &packages),
    );
    check(r2, &|e| e[6].2 = new, (Changed, 1, Some("initrd"), &[]));
    check(r2, &|e| e[5].2 = new, (Changed, 0, None, &[]));
    check(
        r1,
        &|e| e.insert(3, (1, 6, new, &[])),
        (Extra, 3, None, &[]),
    );
    check(
        r1,
        &|e| {
            e.remove(2);
        },
        (Missing, 2, None, &[]),
    );
    check(r1, &|e| e.swap(0, 1), (Rearranged, 0, None, &[]));
}

#[test]
fn words_of_a_command_line_are_compared_only_where_they_were_measured() {
    let case = Case::new();
    let text = format!("{} initrd=initrd", case.image.cmdline).replace("ttyS0", "hvc0");
    let mut data: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    data.extend([0, 0]);
    let (log, registers) = logged(&case, |events| {
        events[5] = (2, 0xd, Digest48::of(&data), &data);
    });
    let explanation = case.explain(&registers, &[log]);
    let difference = one(&explanation, Register::Rtmr2).first_difference.clone();
    let words = difference.unwrap().words.unwrap();
    assert_eq!(words.missing, ["console=ttyS0"]);
    assert_eq!(words.added, ["console=hvc0"]);

    let component = |explanation: &Explanation| {
        let finding = one(explanation, Register::Rtmr2).clone();
        finding.component.unwrap()
    };
    assert_eq!(component(&explanation).what, "the command line");
    assert_eq!(component(&explanation).file, None);

    // Another root file system is another word, and then the file is named.
    let other = format!("chrysalis.root={}", "5".repeat(64));
    let words = case.image.cmdline.split(' ').map(|word| {
        let root = word.starts_with("chrysalis.root=");
        if root { other.as_str() } else { word }
    });
    let text = format!("{} initrd=initrd\0", words.collect::<Vec<_>>().join(" "));
    let data_of_root: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (log, registers) = logged(&case, |events| {
        events[5] = (2, 0xd, Digest48::of(&data_of_root), &data_of_root);
    });
    let explanation = case.explain(&registers, &[log]);
    let named = component(&explanation);
    assert!(
        named.what.starts_with("the root file system"),
        "{}",
        named.what
    );
    assert_eq!(named.file.as_ref(), Some(&case.image.files.root.name));

    let (log, registers) = logged(&case, |events| {
        events[5] = (2, 0xd, Digest48::of(b"another text"), &data);
    });
    let explanation = case.explain(&registers, &[log]);
    let difference = one(&explanation, Register::Rtmr2).first_difference.clone();
    assert_eq!(difference.unwrap().words, None);
}

#[test]
fn a_log_that_does_not_lead_to_the_quote_is_not_used() {
    let case = Case::new();
    let (log, mut registers) = logged(&case, |events| events[0].2 = Digest48::of(b"x"));
    registers.rtmr[1] = Digest48::of(b"another register");
    let explanation = case.explain(&registers, &[log]);
    let finding = one(&explanation, Register::Rtmr1);
    assert_eq!(finding.log_replays, Some(false));
    assert!(finding.first_difference.is_none() && !finding.certain);
}

#[test]
fn files_of_another_image_and_papers_of_no_kind_are_refused() {
    let case = Case::new();
    let files = Files {
        firmware: b"x",
        kernel: b"y",
        initrd: b"z",
    };
    let ask = |papers: &[Paper]| {
        explain(&Question {
            papers,
            quoted: case.guest.registers(),
            logs: &[],
            files: Some(files),
        })
    };
    assert!(matches!(
        ask(&case.papers()),
        Err(ExplainError::OtherFile {
            file: "firmware",
            ..
        })
    ));
    assert_eq!(
        ask(&case.papers()[..1]),
        Err(ExplainError::FilesWithoutImage)
    );
    assert_eq!(ask(&[]), Err(ExplainError::NoManifest));
    for bytes in [&b"{}"[..], b"[]", b"", b"\xff"] {
        assert_eq!(
            Paper::from_json("x", bytes).err(),
            Some(ExplainError::NoPaper)
        );
    }
}

#[test]
fn the_program_says_who_is_at_fault_and_exits_with_it() {
    let case = Case::new();
    let folder = case.folder.path();
    fs::write(folder.join("guest.json"), case.guest.to_json()).unwrap();
    let write_quote = |registers| {
        let mut module = SimulatedModule::new(common::NOW_UNIX_S, &mut random("explain")).unwrap();
        module.boot(registers);
        fs::write(folder.join("quote.bin"), module.quote(&[0; 64])).unwrap();
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
    assert_eq!(run(folder, &all).status.code(), Some(0));

    let size = MachineSize { vcpus: 4, ..SIZE };
    write_quote(case.registers(&Machine { size, ..STATED }));
    let output = run(folder, &all);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("RTMR0 differs."), "{text}");
    assert!(text.contains("exactly what it would be with 4 vCPUs instead of 2."));
    let output = run(folder, &[&all[..], &["--json"]].concat());
    let value = json(&output);
    assert_eq!(value["equal"], false);
    assert_eq!(value["registers"][1]["register"], "rtmr0");
    assert_eq!(value["registers"][1]["suspects"][0]["kind"], "machine");
    assert_eq!(value["registers"][1]["certain"], true);
    let misused = |arguments: &[&str]| {
        let output = run(folder, arguments);
        assert!(output.stdout.is_empty());
        output.status.code() == Some(2)
    };
    assert!(misused(&["explain", "--quote", "quote.bin"]));
    let nine = ["--manifest", "guest.json"].repeat(limits::EXPLAIN_MANIFESTS_MAX - 1);
    assert!(misused(&[&all[..], &nine].concat()));
    let eight = run(folder, &[&all[..], &nine[2..]].concat());
    assert_eq!(eight.status.code(), Some(1), "as many as may be");
    let without_image = ["explain", "--manifest", "guest.json", "--image", "."];
    assert!(misused(&[&without_image[..], &all[7..]].concat()));
}
