//! The program: what it prints, and with which exit code it ends.

use std::{fs, path::Path, process::Output};

use crate::common::{NOW_UNIX_S, json, made, random, run};
use attest::Manifest;
use base64::{Engine, engine::general_purpose::STANDARD};
use registers::Digest48;
use simulator::SimulatedModule;

/// A directory as a provider would have it, the manifest made by the program itself.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("agent", b"agent binary");
    write("config", b"config bytes");
    let out = run(
        directory.path(),
        &[
            "manifest",
            "process",
            "--agent",
            "agent",
            "--config",
            "config",
            "--out",
            "manifest.json",
        ],
    );
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    assert!(out.stdout.is_empty());

    let mut module = SimulatedModule::new(NOW_UNIX_S, &mut random("cli")).unwrap();
    for event in [b"agent binary", b"config bytes"] {
        module.extend(3, &Digest48::of(event)).unwrap();
    }
    write("quote", &module.quote(&[0x5a; 64]));
    write("collateral.json", module.collateral_json());
    write("root.der", module.root_der());
    directory
}

fn verify(directory: &Path, report_data: &str, more: &[&str]) -> Output {
    let fixed = [
        "quote",
        "verify",
        "--quote",
        "quote",
        "--collateral",
        "collateral.json",
        "--manifest",
        "manifest.json",
        "--at",
        "1790000000",
        "--json",
        "--report-data",
        report_data,
    ];
    run(directory, &[&fixed[..], more].concat())
}

#[test]
fn the_manifest_is_the_librarys() {
    let directory = directory();
    let written = fs::read(directory.path().join("manifest.json")).unwrap();
    assert_eq!(Manifest::from_json(&written), Ok(crate::common::manifest()));
    assert_eq!(written, crate::common::manifest().to_json());
    let printed = run(
        directory.path(),
        &[
            "manifest", "process", "--agent", "agent", "--config", "config",
        ],
    );
    assert_eq!(printed.stdout, written);
}

#[test]
fn a_believed_quote_ends_with_0_and_names_its_root() {
    let directory = directory();
    let out = verify(
        directory.path(),
        &"5a".repeat(64),
        &["--insecure-test-root", "root.der"],
    );
    assert_eq!(
        out.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let printed = json(&out);
    assert_eq!(
        (&printed["verified"], &printed["root"]),
        (&true.into(), &"insecure-test".into())
    );
    assert_eq!(
        printed["registers"],
        serde_json::to_value(crate::common::manifest().registers()).unwrap()
    );
}

#[test]
fn a_refused_quote_ends_with_1_and_a_sentence() {
    let directory = directory();
    let stale = verify(
        directory.path(),
        &"00".repeat(64),
        &["--insecure-test-root", "root.der"],
    );
    assert_eq!(stale.status.code(), Some(1));
    assert_eq!(json(&stale)["verified"], false);
    assert!(String::from_utf8_lossy(&stale.stderr).contains("ask for a fresh one"));

    let unnamed_root = verify(directory.path(), &"5a".repeat(64), &[]);
    assert_eq!(unnamed_root.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unnamed_root.stderr).contains("does not lead to the root"));
}

#[test]
fn misuse_ends_with_2() {
    let directory = directory();
    for arguments in [
        &["quote", "verify"][..],
        &["nonsense"],
        &["quote", "parse", "--quote", "quote", "--nonsense"],
    ] {
        assert_eq!(
            run(directory.path(), arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    assert_eq!(verify(directory.path(), "5a", &[]).status.code(), Some(2));
    let upper_case = "5A".repeat(64);
    assert_eq!(
        verify(directory.path(), &upper_case, &[]).status.code(),
        Some(2)
    );
}

#[test]
fn bad_files_end_with_1_and_name_the_file() {
    let directory = directory();
    fs::write(directory.path().join("long"), vec![0; 20_000]).unwrap();
    for (name, words) in [
        ("missing", "missing"),
        ("agent", "agent is not a TDX quote"),
        ("long", "long is longer"),
    ] {
        let out = run(directory.path(), &["quote", "parse", "--quote", name]);
        assert_eq!(out.status.code(), Some(1));
        assert!(out.stdout.is_empty());
        assert!(
            String::from_utf8_lossy(&out.stderr).contains(words),
            "{name}"
        );
    }
    let out = run(
        directory.path(),
        &[
            "manifest", "process", "--agent", "missing", "--config", "config", "--out", "new",
        ],
    );
    assert_eq!(out.status.code(), Some(1));
    assert!(!directory.path().join("new").exists());
}

#[test]
fn parse_prints_what_the_quote_says() {
    let directory = directory();
    let out = run(
        directory.path(),
        &["quote", "parse", "--quote", "quote", "--json"],
    );
    assert_eq!(out.status.code(), Some(0));
    let printed = json(&out);
    assert_eq!(printed["version"], 4);
    assert_eq!(
        printed["rtmr3"],
        crate::common::manifest().registers().rtmr[3].to_string()
    );
    let people = run(directory.path(), &["quote", "parse", "--quote", "quote"]);
    assert!(String::from_utf8_lossy(&people.stderr).contains("nothing below is verified"));
}

/// The verification with what a caller names, under the test root.
fn verify_with(directory: &Path, more: &[&str]) -> Output {
    ask(directory, "verify", more)
}

fn ask(directory: &Path, command: &str, more: &[&str]) -> Output {
    let fixed = [
        "quote",
        command,
        "--quote",
        "quote",
        "--collateral",
        "collateral.json",
        "--root",
        "root.pem",
        "--at",
        "2026-09-21T14:13:20Z",
        "--json",
    ];
    run(directory, &[&fixed[..], more].concat())
}

fn write_pem(directory: &Path) {
    let der = fs::read(directory.join("root.der")).unwrap();
    let pem = format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        STANDARD.encode(der)
    );
    fs::write(directory.join("root.pem"), pem).unwrap();
}

#[test]
fn a_quote_alone_is_inspected_and_never_called_verified() {
    let directory = directory();
    write_pem(directory.path());
    let report_data = "5a".repeat(64);
    for (more, registers, bound, words) in [
        (
            &[][..],
            false,
            false,
            "registers not compared with anything",
        ),
        (
            &["--report-data", &report_data],
            false,
            true,
            "registers not compared with anything",
        ),
        (
            &["--manifest", "manifest.json"],
            true,
            false,
            "report data not compared with anything",
        ),
    ] {
        let asked = ask(directory.path(), "verify", more);
        assert_eq!(asked.status.code(), Some(1), "nobody is verified");
        let out = ask(directory.path(), "inspect", more);
        assert_eq!(out.stdout, asked.stdout);
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(0), "{stderr}");
        assert!(stderr.contains(words), "{stderr}");
        assert!(stderr.contains("nobody is verified"), "{stderr}");
        assert!(stderr.contains("INSECURE"), "{stderr}");
        let printed = json(&out);
        assert_eq!(
            (
                &printed["outcome"],
                &printed["verified"],
                &printed["registers_compared"],
                &printed["report_data_compared"]
            ),
            (
                &"inspected".into(),
                &false.into(),
                &registers.into(),
                &bound.into()
            )
        );
    }
    let stale = ask(
        directory.path(),
        "inspect",
        &["--report-data", &"00".repeat(64)],
    );
    assert_eq!(stale.status.code(), Some(1));
}

#[test]
fn a_policy_file_decides_with_or_without_a_manifest() {
    let directory = directory();
    write_pem(directory.path());
    let write = |name: &str, policy: serde_json::Value| {
        fs::write(directory.path().join(name), policy.to_string()).unwrap();
    };
    let registers = serde_json::to_value(crate::common::manifest().registers()).unwrap();
    let mut others = registers.clone();
    others["rtmr1"] = "11".repeat(48).into();
    write("platform.json", serde_json::json!({ "version": 1 }));
    write(
        "whole.json",
        serde_json::json!({ "version": 1, "registers": [others, registers] }),
    );
    write(
        "other.json",
        serde_json::json!({ "version": 1, "registers": [others] }),
    );
    write(
        "new.json",
        serde_json::json!({ "version": 1, "registers": [registers], "tcb": { "evaluation_number_min": 19 } }),
    );
    write(
        "wrong.json",
        serde_json::json!({ "version": 1, "registerz": [] }),
    );
    let report_data = "5a".repeat(64);
    let manifest = ["--manifest", "manifest.json"];
    for (policy, manifest, code, words) in [
        ("whole.json", &[][..], 0, "verified: "),
        ("whole.json", &manifest, 0, "verified: "),
        ("platform.json", &manifest, 0, "verified: "),
        ("platform.json", &[], 1, "lists no registers"),
        ("other.json", &[], 1, "RTMR1"),
        (
            "other.json",
            &manifest,
            1,
            "the manifest's are not among them",
        ),
        ("new.json", &manifest, 1, "evaluation number 18"),
        ("wrong.json", &manifest, 1, "registerz"),
    ] {
        let named = ["--policy", policy, "--report-data", &report_data];
        let out = verify_with(directory.path(), &[&named[..], manifest].concat());
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{policy}: {stderr}");
        assert!(stderr.contains(words), "{policy}: {stderr}");
    }
}

#[test]
fn a_quote_is_read_from_hexadecimal_text_too() {
    let directory = directory();
    let bytes = fs::read(directory.path().join("quote")).unwrap();
    let binary = run(directory.path(), &["quote", "parse", "--quote", "quote"]);
    for text in [
        hex::encode(&bytes),
        format!("0x{}\n", hex::encode_upper(&bytes)),
    ] {
        fs::write(directory.path().join("text"), text).unwrap();
        let out = run(directory.path(), &["quote", "parse", "--quote", "text"]);
        assert_eq!(out.stdout, binary.stdout);
    }
    for text in ["", "0x", "04", "zz"] {
        fs::write(directory.path().join("text"), text).unwrap();
        let out = run(directory.path(), &["quote", "parse", "--quote", "text"]);
        assert_eq!(out.status.code(), Some(1), "{text:?}");
    }
}

#[test]
fn the_program_believes_a_real_quote_as_of_its_day() {
    let Some(quote) = crate::common::vector("quotes/dcap-qvl/tdx_quote") else {
        return;
    };
    let collateral = crate::common::vector("quotes/dcap-qvl/tdx_quote_collateral.json").unwrap();
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("quote"), quote).unwrap();
    fs::write(directory.path().join("collateral.json"), collateral).unwrap();
    let at = |time: &str| {
        run(
            directory.path(),
            &[
                "quote",
                "inspect",
                "--quote",
                "quote",
                "--collateral",
                "collateral.json",
                "--at",
                time,
            ],
        )
    };
    let good = at("2025-06-19T12:32:27Z");
    let stderr = String::from_utf8_lossy(&good.stderr).into_owned();
    assert_eq!(good.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("signed by TDX hardware; registers not compared with anything"));
    for (late, words) in [
        ("2026-06-19T12:32:27Z", "the collateral has expired"),
        (
            "2035-06-19T12:32:27Z",
            "the certificate of the peer's platform, which came in its quote, has expired",
        ),
    ] {
        let late = at(late);
        assert_eq!(late.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&late.stderr).contains(words));
    }
    assert_eq!(at("June").status.code(), Some(2));
}

/// MRTD of a firmware that QEMU does not start is for people who have another host.
#[test]
fn a_prediction_says_where_qemu_does_not_follow_the_design_guide() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("firmware.fd");
    let [bfv, cfv, hob, temporary] = made::SECTIONS;
    let permanent = [0, 0, 0x1000_0000, 0x1000, 4, 2];
    for (sections, by_qemu) in [
        (vec![temporary, cfv, bfv, hob], true),
        (vec![temporary, cfv, bfv, hob, permanent], false),
    ] {
        fs::write(&path, made::firmware_of(&sections)).unwrap();
        let arguments = ["predict", "--firmware", "firmware.fd", "--json"];
        let output = run(directory.path(), &arguments);
        assert_eq!(output.status.code(), Some(0));
        let printed = json(&output);
        assert_eq!(printed["mrtd"].as_str().unwrap().len(), 96);
        let why = printed["not_by_qemu"].as_str();
        assert_eq!(why.is_none_or(|why| !why.contains("PermMem")), by_qemu);
        assert_eq!(printed["usable_in_policy"].is_null(), by_qemu);
        let machine = ["--vcpus", "2", "--memory", "2G"];
        let output = run(directory.path(), &[&arguments[..], &machine].concat());
        assert_eq!(output.status.code(), Some(if by_qemu { 0 } else { 1 }));
    }
}

#[test]
fn a_file_in_the_place_of_another_is_named_with_what_is_wanted() {
    let directory = directory();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    let mut table = vec![0; 56];
    table[..8].copy_from_slice(b"CCEL\x38\0\0\0");
    write("CCEL", &table);
    write("table.b64", STANDARD.encode(&table).as_bytes());
    write(
        "tcb.json",
        br#"{"tcbInfo": {"id": "TDX"}, "signature": "00"}"#,
    );
    write("cut.json", br#"[{"imr": 3, "event_ty"#);
    let quote = fs::read(directory.path().join("quote")).unwrap();
    write("cut.bin", &quote[..2000]);
    write("quote.b64", STANDARD.encode(&quote).as_bytes());
    let wanted_log = "wanted is a copy of a TDX guest's /sys/firmware/acpi/tables/data/CCEL";
    for (arguments, expected) in [
        (
            &["replay", "--event-log", "CCEL"][..],
            "the ACPI table CCEL",
        ),
        (&["replay", "--event-log", "CCEL"], wanted_log),
        (
            &["replay", "--event-log", "table.b64"],
            "the ACPI table CCEL",
        ),
        (&["replay", "--event-log", "quote.b64"], "it is a TDX quote"),
        (
            &["replay", "--event-log", "tcb.json"],
            "Intel's answer about TCB info",
        ),
        (&["replay", "--event-log", "cut.json"], "it was cut"),
        (&["quote", "parse", "--quote", "cut.bin"], "it was cut"),
        (
            &["quote", "parse", "--quote", "CCEL"],
            "the ACPI table CCEL",
        ),
        (
            &["quote", "parse", "--quote", "tcb.json"],
            "Intel's answer about TCB info",
        ),
        (
            &[
                "quote",
                "verify",
                "--quote",
                "quote.b64",
                "--collateral",
                "tcb.json",
            ],
            "tcb.json is not collateral: it is Intel's answer about TCB info",
        ),
        (
            &[
                "quote",
                "verify",
                "--quote",
                "quote.b64",
                "--collateral",
                "quote",
            ],
            "quote is not collateral: it is a TDX quote",
        ),
        (
            &[
                "bundle",
                "make",
                "--quote",
                "quote",
                "--collateral",
                "tcb.json",
                "--out",
                "b",
            ],
            "tcb.json is not collateral",
        ),
    ] {
        let output = run(directory.path(), arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(expected), "{text}");
    }
}
