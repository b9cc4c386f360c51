//! The program: what it prints, and with which exit code it ends.

mod common;

use std::{fs, path::Path, process::Output};

use common::{NOW_UNIX_S, json, random, run};
use measurements::{Digest48, Manifest};
use simulator::SimulatedModule;

/// A folder as a provider would have it, the manifest made by the program itself.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("agent", b"agent binary");
    write("config", b"config bytes");
    let out = run(
        folder.path(),
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
    folder
}

fn verify(folder: &Path, report_data: &str, more: &[&str]) -> Output {
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
    run(folder, &[&fixed[..], more].concat())
}

#[test]
fn the_manifest_is_the_librarys() {
    let folder = folder();
    let written = fs::read(folder.path().join("manifest.json")).unwrap();
    assert_eq!(Manifest::from_json(&written), Ok(common::manifest()));
    assert_eq!(written, common::manifest().to_json());
    let printed = run(
        folder.path(),
        &[
            "manifest", "process", "--agent", "agent", "--config", "config",
        ],
    );
    assert_eq!(printed.stdout, written);
}

#[test]
fn a_believed_quote_ends_with_0_and_names_its_root() {
    let folder = folder();
    let out = verify(
        folder.path(),
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
        serde_json::to_value(common::manifest().registers()).unwrap()
    );
}

#[test]
fn a_refused_quote_ends_with_1_and_a_sentence() {
    let folder = folder();
    let stale = verify(
        folder.path(),
        &"00".repeat(64),
        &["--insecure-test-root", "root.der"],
    );
    assert_eq!(stale.status.code(), Some(1));
    assert_eq!(json(&stale)["verified"], false);
    assert!(String::from_utf8_lossy(&stale.stderr).contains("ask for a fresh one"));

    let unnamed_root = verify(folder.path(), &"5a".repeat(64), &[]);
    assert_eq!(unnamed_root.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unnamed_root.stderr).contains("does not lead to the root"));
}

#[test]
fn misuse_ends_with_2() {
    let folder = folder();
    for arguments in [
        &["quote", "verify"][..],
        &["nonsense"],
        &["quote", "parse", "--quote", "quote", "--nonsense"],
    ] {
        assert_eq!(
            run(folder.path(), arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    assert_eq!(verify(folder.path(), "5a", &[]).status.code(), Some(2));
    let upper_case = "5A".repeat(64);
    assert_eq!(
        verify(folder.path(), &upper_case, &[]).status.code(),
        Some(2)
    );
}

#[test]
fn bad_files_end_with_1_and_name_the_file() {
    let folder = folder();
    fs::write(folder.path().join("long"), vec![0; 20_000]).unwrap();
    for (name, words) in [
        ("missing", "missing"),
        ("agent", "agent is not a TDX quote"),
        ("long", "long is longer"),
    ] {
        let out = run(folder.path(), &["quote", "parse", "--quote", name]);
        assert_eq!(out.status.code(), Some(1));
        assert!(out.stdout.is_empty());
        assert!(
            String::from_utf8_lossy(&out.stderr).contains(words),
            "{name}"
        );
    }
    let out = run(
        folder.path(),
        &[
            "manifest", "process", "--agent", "missing", "--config", "config", "--out", "new",
        ],
    );
    assert_eq!(out.status.code(), Some(1));
    assert!(!folder.path().join("new").exists());
}

#[test]
fn parse_prints_what_the_quote_says() {
    let folder = folder();
    let out = run(
        folder.path(),
        &["quote", "parse", "--quote", "quote", "--json"],
    );
    assert_eq!(out.status.code(), Some(0));
    let printed = json(&out);
    assert_eq!(printed["version"], 4);
    assert_eq!(
        printed["rtmr3"],
        common::manifest().registers().rtmr[3].to_string()
    );
    let people = run(folder.path(), &["quote", "parse", "--quote", "quote"]);
    assert!(String::from_utf8_lossy(&people.stderr).contains("nothing below is verified"));
}
