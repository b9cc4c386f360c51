//! Files on which the program was wrong once, from other projects, in a directory beside the clone: each command of a case's
//! `cmd`, with the end and the words that its `expect` demands. Packages, archives and models are `image-builder`'s cases.

use crate::common::run;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A case's directory, the arguments of a command there, its exit code, and what it says.
type Row = (&'static str, &'static str, i32, &'static [&'static str]);

fn check(cases: &Path, (case, arguments, code, words): Row) -> String {
    let split: Vec<&str> = arguments.split_whitespace().collect();
    let output = run(&cases.join(case), &split);
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(
        output.status.code(),
        Some(code),
        "{case}: {arguments}: {said}"
    );
    for words in words {
        assert!(
            said.contains(words),
            "{case}: {arguments}: `{words}` in {said}"
        );
    }
    said
}

#[test]
fn files_of_other_projects_are_read_predicted_and_named() {
    let Some(cases) = without::cases() else {
        return;
    };
    for row in ROWS {
        check(&cases, *row);
    }
}

/// Hardware measured the second one into RTMR0, and none into RTMR1.
#[test]
fn logs_of_older_firmware_have_both_separators_in_rtmr0() {
    let Some(cases) = without::cases() else {
        return;
    };
    for log in ["CCEL_data_ovmf", "CCEL_unpadded.data.bin"] {
        let arguments = ["replay", "--event-log", log];
        let said = run(&cases.join(EDK2), &arguments);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let separators = said.lines().filter(|line| line.contains("SEPARATOR"));
        let of: Vec<bool> = separators.map(|line| line.contains("RTMR0")).collect();
        assert_eq!(of, [true, true], "{log}: {said}");
    }
}

#[test]
fn every_case_is_looked_at() {
    let Some(cases) = without::cases() else {
        return;
    };
    let entries = fs::read_dir(&cases).unwrap();
    let entries = entries.map(|entry| entry.unwrap().path());
    let there: BTreeSet<String> = entries
        .filter(|path| path.join("cmd").is_file())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let here = ROWS.iter().map(|row| row.0.to_owned());
    let known: BTreeSet<String> = here.chain(OF_IMAGE_BUILDER.map(str::to_owned)).collect();
    assert_eq!(there, known);
}

const EDK2: &str = "01-edk2-before-202411";
const SILENT: &str = "02-edk2-without-cc-measurement";
const TEXT: &str = "03-edk2-release-as-text";
const SHELL: &str = "04-shape-shell-words";
const FORMS: &str = "05-quote-forms";
const DATES: &str = "06-not-yet-valid-blames-collateral";
const GPU: &str = "09-gpu-trailing-byte";
const OF_IMAGE_BUILDER: [&str; 7] = [
    "10-apt-byhash-race",
    "11-apt-foreign-alternative",
    "12-apt-one-odd-paragraph",
    "13-apt-dates",
    "15-deb-corners",
    "16-deb-two-xz-streams",
    "17-model-not-whole",
];

const NO_DRIVER: &[&str] = &[
    "no driver that measures (TdTcg2Dxe)",
    "RTMR0 to RTMR2 of its guests stay zero",
];
const RELEASE: &[&str] = &["is no edk2 release", "written like 202502"];
const ONE: &[&str] = &["\"vcpus\": 1,"];
const TWO: &[&str] = &["\"vcpus\": 2,"];
/// A link where a firmware should be: the release was read.
const NO_FIRMWARE: &[&str] = &["OVMF.fd: the firmware has no TDX metadata"];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Debian 12's, of stable202211.
    (EDK2, "predict --firmware OVMF-2022.11.fd --edk2 202402 --vcpus 2 --memory 2G", 1, NO_DRIVER),
    (SILENT, "predict --firmware OVMF.fd --edk2 202211 --vcpus 2 --memory 2G", 1, NO_DRIVER),
    (SILENT, "predict --firmware OVMF.fd --vcpus 2 --memory 2G", 1, NO_DRIVER),
    (TEXT, "predict --firmware OVMF.fd --edk2 202508 --vcpus 2 --memory 2G", 1, NO_FIRMWARE),
    (TEXT, "predict --firmware OVMF.fd --edk2 2025.08 --vcpus 2 --memory 2G", 1, NO_FIRMWARE),
    (TEXT, "predict --firmware OVMF.fd --edk2 2025.05 --vcpus 2 --memory 2G", 1, NO_FIRMWARE),
    (TEXT, "predict --firmware OVMF.fd --edk2 stable202502 --vcpus 2 --memory 2G", 1, NO_FIRMWARE),
    (TEXT, "predict --firmware OVMF.fd --edk2 1 --vcpus 2 --memory 2G", 2, RELEASE),
    (TEXT, "predict --firmware OVMF.fd --edk2 foo --vcpus 2 --memory 2G", 2, RELEASE),
    (SHELL, "shape --qemu 10.0.13 --from-qemu-file q11-escquote.txt", 0, ONE),
    (SHELL, "shape --qemu 10.0.13 --from-qemu-file q12-single.txt", 0, TWO),
    (SHELL, "shape --qemu 10.0.13 --from-qemu-file q13-bs.txt", 0, TWO),
    (FORMS, "quote parse --quote tdx-v4-tappd.hex", 0, &["nothing below is verified"]),
    (FORMS, "quote parse --quote tdx-v4-azure", 0, &["nothing below is verified"]),
    // Read, and of another guest than the log.
    (FORMS, "replay --event-log ccel.bin --quote tdx-v4-tappd.hex", 1, &["RTMR0"]),
    (FORMS, "replay --event-log CCEL-table.bin", 1, &["the ACPI table CCEL", "/sys/firmware/acpi/tables/data/CCEL"]),
    (FORMS, "quote verify --quote oak-exact.bin --collateral intel-tcb-info.json", 1,
        &["Intel's answer about TCB info", "wanted is one JSON object"]),
    (DATES, "quote verify --quote quote.bin --collateral collateral.json --at 2026-03-20T00:00:00Z", 1,
        &["the certificate of the peer's platform, which came in its quote, is of a later day than the one judged at",
          "2026-03-30T19:08:31Z", "the collateral is not at fault"]),
    (GPU, "gpu verify --evidence hopper_coco_report1.txt --chain hopper_coco_certs1.txt --no-rim", 1,
        &["1 byte behind its signature", "zeros"]),
    (GPU, "gpu verify --evidence coco-trim.txt --chain hopper_coco_certs1.txt --no-rim \
           --nonce 87d8e24ab336adafe228d49e83d745f6dba4ae505372b6a5704820856b343fec", 0,
        &["Chain and signature hold"]),
];
