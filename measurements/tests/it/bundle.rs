//! `measurements bundle`, as a person runs it.

use std::{fs, path::Path, process::Output};

use crate::common::{NOW_UNIX_S, json, manifest, random, run, vector};
use diagnose::bundle::Bundle;
use simulator::SimulatedModule;

const AT: &str = "2026-09-21T14:13:20Z";

/// A directory with what a simulated guest hands out, and its bundle.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    let mut module = SimulatedModule::new(NOW_UNIX_S, &mut random("cli bundle")).unwrap();
    for event in manifest().rtmr3_events() {
        module.extend(3, &event.digest).unwrap();
    }
    write("quote", &module.quote(&[0x5a; 64]));
    write("collateral.json", module.collateral_json());
    write("root.der", module.root_der());
    write("manifest.json", &manifest().to_json());
    let events = serde_json::to_vec(manifest().rtmr3_events()).unwrap();
    write("events.json", &events);
    let out = make(
        directory.path(),
        &[
            "--manifest",
            "manifest.json",
            "--event-log",
            "events.json",
            "--report-data",
            &"5a".repeat(64),
        ],
    );
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    assert!(errors(&out).contains(NOT_ANCHORED));
    directory
}

fn make(directory: &Path, more: &[&str]) -> Output {
    let first = [
        "bundle",
        "make",
        "--quote",
        "quote",
        "--collateral",
        "collateral.json",
        "--out",
        "b",
    ];
    run(directory, &[&first, more].concat())
}

fn inspect(directory: &Path, more: &[&str]) -> Output {
    let first = ["bundle", "inspect", "--bundle", "b", "--root", "root.der"];
    run(directory, &[&first, more].concat())
}

fn verify(directory: &Path, more: &[&str]) -> Output {
    let first = ["bundle", "verify", "--bundle", "b", "--root", "root.der"];
    run(directory, &[&first, more].concat())
}

fn errors(out: &Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

const NOT_ANCHORED: &str = "not anchored: the time it says it was made is its maker's word";

#[test]
fn a_bundle_verifies_what_the_verifier_names() {
    let directory = directory();
    let bound = "5a".repeat(64);
    let full = [
        "--at",
        AT,
        "--manifest",
        "manifest.json",
        "--report-data",
        &bound,
    ];
    let out = verify(directory.path(), &[&full[..], &["--json"]].concat());
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    let printed = json(&out);
    assert_eq!(printed["outcome"], "verified");
    assert_eq!(printed["verified"], true);
    assert_eq!(printed["anchored"], false);
    assert_eq!(printed["root"], "insecure-test");
    assert_eq!(printed["manifest_from"], "verifier");
    assert_eq!(printed["judged_at"], AT);
    assert_eq!(printed["event_logs"], serde_json::json!(["runtime"]));
    assert!(errors(&out).contains("INSECURE"));
    assert!(errors(&out).contains(NOT_ANCHORED));

    let out = verify(directory.path(), &full);
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(text.contains("anchored"), "{text}");
    assert!(errors(&out).contains("verified: "));
}

#[test]
fn a_bundle_by_its_own_word_holds_and_verifies_nobody() {
    let directory = directory();
    let out = verify(directory.path(), &["--at", AT, "--json"]);
    assert_eq!(out.status.code(), Some(1), "nobody is verified");
    let inspected = inspect(directory.path(), &["--at", AT, "--json"]);
    assert_eq!(inspected.status.code(), Some(0), "{}", errors(&inspected));
    assert_eq!(inspected.stdout, out.stdout);
    let printed = json(&out);
    assert_eq!(printed["outcome"], "inspected");
    assert_eq!(printed["verified"], false);
    assert_eq!(printed["manifest_from"], "bundle");
    assert_eq!(printed["report_data_from"], "bundle");
    let words = errors(&out);
    assert!(words.contains("NOT VERIFIED"), "{words}");
    assert!(
        words.contains("the manifest came from the bundle itself"),
        "{words}"
    );
    assert!(words.contains(NOT_ANCHORED), "{words}");
}

#[test]
fn a_refused_bundle_ends_with_1_and_a_sentence() {
    let directory = directory();
    let check = |more: &[&str], words: &str| {
        let out = verify(directory.path(), more);
        assert_eq!(out.status.code(), Some(1), "{more:?}");
        assert!(errors(&out).contains(words), "{more:?}: {}", errors(&out));
    };
    // The simulated collateral is of another day than the bundle.
    check(
        &["--at", "2036-01-01T00:00:00Z", "--json"],
        "refused: quote: ",
    );
    check(
        &["--at", AT, "--report-data", &"00".repeat(64)],
        NOT_ANCHORED,
    );
    let other = attest::Manifest::process(registers::Digest48::ZERO, registers::Digest48::ZERO);
    fs::write(directory.path().join("other.json"), other.to_json()).unwrap();
    check(
        &["--at", AT, "--manifest", "other.json"],
        "refused: quote: ",
    );

    let path = directory.path().join("b");
    let mut bytes = fs::read(&path).unwrap();
    bytes.push(0);
    fs::write(&path, bytes).unwrap();
    let out = verify(directory.path(), &["--at", AT]);
    assert_eq!(out.status.code(), Some(1));
    assert!(errors(&out).contains("not the one encoding"));
}

#[test]
fn a_part_that_cannot_be_read_is_bundled_by_nobody() {
    let directory = directory();
    let bundled = fs::read(directory.path().join("b")).unwrap();
    fs::write(directory.path().join("bad"), "{}").unwrap();
    let check = |more: &[&str], code: i32, words: &str| {
        let out = make(directory.path(), more);
        assert_eq!(out.status.code(), Some(code), "{more:?}");
        assert!(errors(&out).contains(words), "{more:?}: {}", errors(&out));
    };
    check(&["--manifest", "bad"], 1, "the manifest of the bundle: ");
    check(&["--event-log", "bad"], 1, "reading bad");
    check(
        &["--event-log", "quote"],
        1,
        "quote is not an event log: it is a TDX quote",
    );
    check(
        &["--gpu-evidence", "bad"],
        1,
        "the GPU evidence of the bundle: ",
    );
    check(&["--rim", "bad"], 2, "--gpu-evidence");
    assert_eq!(fs::read(directory.path().join("b")).unwrap(), bundled);
    let out = run(
        directory.path(),
        &["bundle", "verify", "--bundle", "b", "--at", "now"],
    );
    assert_eq!(out.status.code(), Some(2));
}

/// A bundle that was made in the past, of a quote whose collateral was fresh then.
#[test]
fn a_real_quote_holds_at_the_time_it_was_made_and_not_now() {
    let quote = vector("quotes/dcap-qvl/tdx_quote");
    let collateral = vector("quotes/dcap-qvl/tdx_quote_collateral.json");
    let (Some(quote), Some(collateral)) = (quote, collateral) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("quote"), quote).unwrap();
    fs::write(directory.path().join("collateral.json"), collateral).unwrap();
    let out = make(directory.path(), &[]);
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    let path = directory.path().join("b");
    let mut bundle = Bundle::from_cbor(&fs::read(&path).unwrap()).unwrap();
    assert!(bundle.made_unix_s > NOW_UNIX_S - 365 * 86_400);
    bundle.made_unix_s = 1_750_332_747;
    fs::write(&path, bundle.to_cbor().unwrap()).unwrap();

    let verify = |more: &[&str]| {
        let first = ["bundle", "inspect", "--bundle", "b", "--json"];
        run(directory.path(), &[&first, more].concat())
    };
    let out = verify(&["--at", "made"]);
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    let printed = json(&out);
    assert_eq!(printed["root"], "intel");
    assert_eq!(printed["judged_at"], "2025-06-19T11:32:27Z");
    assert_eq!(printed["judged_at_from"], "bundle");
    assert_eq!(printed["verified"], false);
    assert!(errors(&out).contains("judged at a time that is its maker's word"));

    let out = verify(&[]);
    assert_eq!(out.status.code(), Some(1), "{}", errors(&out));
    assert_eq!(json(&out)["judged_at_from"], "verifier");
}

#[test]
fn a_report_in_hex_is_bundled_with_its_rims() {
    let directory = directory();
    for (name, into) in [
        ("go-nvtrust/attestationReport.txt", "report.txt"),
        ("go-nvtrust/gpuAkCertChain.txt", "chain.pem"),
        (
            "nvtrust/Driver_RIM_test_no_gpu.swidtag",
            "rims/driver.swidtag",
        ),
        (
            "nvtrust/1010_0200_882_96005E0001_test_no_gpu.swidtag",
            "rims/vbios.swidtag",
        ),
    ] {
        let Some(bytes) = vector(&format!("nvidia/{name}")) else {
            return;
        };
        fs::create_dir_all(directory.path().join("rims")).unwrap();
        fs::write(directory.path().join(into), bytes).unwrap();
    }
    // A simulated module of the day of the GPU evidence.
    let mut module = SimulatedModule::new(1_700_000_000, &mut random("gpu")).unwrap();
    for event in manifest().rtmr3_events() {
        module.extend(3, &event.digest).unwrap();
    }
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("quote", &module.quote(&[0x5a; 64]));
    write("collateral.json", module.collateral_json());
    write("root.der", module.root_der());
    write("rims/other.xml", b"<other/>");
    let gpu = [
        "--gpu-evidence",
        "report.txt",
        "--gpu-chain",
        "chain.pem",
        "--rim",
        "rims",
    ];
    let out = make(directory.path(), &gpu);
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    assert!(errors(&out).contains("left aside: rims/other.xml"));

    let out = inspect(directory.path(), &["--at", "1700000000", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
    let printed = json(&out);
    assert_eq!(printed["gpu_root"], "nvidia");
    assert_eq!(printed["manifest_from"], "nobody");
    assert_eq!(printed["gpus"]["compared_with_rims"], true);
    assert_eq!(printed["gpus"]["each"][0]["driver"], "545.00");
    assert!(errors(&out).contains("the nonce was not checked"));
    let out = verify(
        directory.path(),
        &["--at", "1700000000", "--gpu-nonce", &"00".repeat(32)],
    );
    assert_eq!(out.status.code(), Some(1));
    assert!(errors(&out).contains("refused: GPUs: "));
}

/// What a client's endpoint hands out, in each of its forms.
#[test]
fn the_evidence_of_a_worker_is_read_and_verified_for_the_verifiers_nonce() {
    let directory = directory();
    let (keyset, nonce) = (b"a keyset".to_vec(), [9; 32]);
    let digest = wire::KeysetDigest::of(&keyset);
    let mut module = SimulatedModule::new(NOW_UNIX_S, &mut random("worker")).unwrap();
    for event in manifest().rtmr3_events() {
        module.extend(3, &event.digest).unwrap();
    }
    let bound = registers::ReportData::bind(&digest.0, &nonce, registers::GpuBinding::None);
    let events = manifest().rtmr3_events().to_vec();
    let events = events.into_iter().map(|event| wire::Event {
        name: event.name,
        digest: event.digest.0,
    });
    let quote = module.quote(&bound.0);
    let evidence = wire::Evidence::new(keyset, quote, events.collect(), None);
    let bytes = wire::Bundle::new(
        evidence.encode(),
        wire::Endorsement::Direct([0; 64]),
        module.collateral_json().to_vec(),
        None,
    )
    .encode();
    let object = serde_json::json!({ "verified": true, "bundle": hex::encode(&bytes) });
    fs::write(directory.path().join("root.der"), module.root_der()).unwrap();
    let full = [
        "--at",
        AT,
        "--manifest",
        "manifest.json",
        "--json",
        "--nonce",
    ];
    let nonce = hex::encode(nonce);
    for form in [
        bytes.clone(),
        hex::encode(&bytes).into_bytes(),
        object.to_string().into_bytes(),
    ] {
        fs::write(directory.path().join("b"), form).unwrap();
        let out = verify(directory.path(), &[&full[..], &[&nonce]].concat());
        assert_eq!(out.status.code(), Some(0), "{}", errors(&out));
        let printed = json(&out);
        assert_eq!(printed["verified"], true);
        assert_eq!(printed["keyset"], digest.to_string());
        assert_eq!(printed["made"], serde_json::Value::Null);
        assert!(errors(&out).contains("endorsement"), "{}", errors(&out));
    }
    let stale = verify(directory.path(), &[&full[..], &[&"00".repeat(32)]].concat());
    assert_eq!(stale.status.code(), Some(1));
    assert!(errors(&stale).contains("binds other data"));
    let another = [&nonce[..], "--keyset", &"00".repeat(32)];
    let another = verify(directory.path(), &[&full[..], &another].concat());
    assert_eq!(another.status.code(), Some(1));
    for misuse in [
        &["--at", "made"][..],
        &["--nonce", "00"],
        &["--keyset", &nonce],
        &["--nonce", &nonce, "--report-data", &"5a".repeat(64)],
    ] {
        let out = verify(directory.path(), misuse);
        assert_eq!(out.status.code(), Some(2), "{misuse:?}");
    }
}
