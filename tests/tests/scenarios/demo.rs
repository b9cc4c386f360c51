//! The demo as a person starts it: all of it, and one byte changed at each place.

use crate::common;
use serde_json::Value;
use std::ffi::OsStr;
use std::process::{Command, Output, Stdio};

/// `cargo demo` with its compilation, of which nothing is left to do.
fn demo(arguments: &[&str]) -> Output {
    output(common::programs().path("demo"), arguments)
}

/// `cargo demo` after its compilation.
fn scenario(arguments: &[&str]) -> Output {
    output(common::programs().path("scenario"), arguments)
}

fn output(program: impl AsRef<OsStr>, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command.output().expect("it starts")
}

#[test]
fn an_answer_is_sealed_attested_and_paid_with_a_process_for_a_guest() {
    let report = report(demo(&["--json", "--process"]));
    figures_agree(&report, &["attest", "first_token", "total"]);
    assert_eq!(report["image"], Value::Null);
}

#[test]
fn an_answer_is_sealed_attested_and_paid_with_a_measured_machine_for_a_guest() {
    let report = report(scenario(&["--json"]));
    figures_agree(
        &report,
        &["build", "boot", "attest", "first_token", "total"],
    );
    for (name, digits) in [
        ("mrtd", 96),
        ("rtmr0", 96),
        ("rtmr1", 96),
        ("rtmr2", 96),
        ("rootfs_digest", 64),
        ("lock_digest", 64),
    ] {
        let digest = report["image"][name].as_str().expect("digests are strings");
        assert_eq!(digest.len(), digits, "{name}");
        assert!(
            digest.bytes().any(|byte| byte != b'0'),
            "{name} is not zero"
        );
    }
}

fn report(output: Output) -> Value {
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{err}");
    serde_json::from_str(out.lines().last().expect("a last line")).expect("JSON")
}

fn figures_agree(report: &Value, timed: &[&str]) {
    assert_eq!(report["attestation"]["verified"], true);
    assert_eq!(report["attestation"]["root"], "insecure-test");
    assert_eq!(report["attestation"]["registers_match"], true);
    assert_eq!(report["embeddings"]["dimensions"], 384);
    let similarity = |name: &str| report["embeddings"][name].as_f64().expect("a number");
    assert!(
        similarity("similar") > similarity("dissimilar") + 0.2,
        "{report}"
    );
    assert!(
        report["chat"]["text"]
            .as_str()
            .is_some_and(|text| text.trim().len() > 10),
        "{report}"
    );
    assert!(
        report["chat"]["tokens"]
            .as_u64()
            .is_some_and(|tokens| tokens > 3),
        "{report}"
    );
    assert_eq!(report["receipt"]["verified"], true);
    assert_eq!(report["receipt"]["digest"].as_str().map(str::len), Some(64));
    let amount = |name: &str| -> i128 {
        report["payout"][name]
            .as_str()
            .expect("amounts are strings")
            .parse()
            .expect("of digits")
    };
    assert_eq!(
        amount("paid_after_nano") - amount("paid_before_nano"),
        amount("price_nano")
    );
    let grown = amount("wallet_after_nano") - amount("wallet_before_nano");
    assert_eq!(grown, amount("price_nano") - amount("fee_nano"));
    assert!(grown > 0 && amount("fee_nano") > 0);
    for name in timed {
        assert!(
            report["seconds"][*name].as_f64().is_some_and(|s| s > 0.0),
            "{report}"
        );
    }
}

#[test]
fn one_changed_byte_is_refused_by_whom_it_concerns() {
    let cases = [
        ("quote", "attest::verify refused the quote"),
        ("envelope", "guest-agent refused the envelope"),
        ("answer", "wire::seal refused the answer"),
        ("receipt", "wire::receipt refused the receipt"),
        ("charge", "settlement::charge refused the charge"),
        ("voucher", "host-proxy refused the voucher"),
    ];
    for (place, refusal) in cases {
        refuses(&["--process", "--tamper", place], &[refusal]);
    }
}

#[test]
fn a_changed_image_is_refused_by_its_register_or_stops_itself() {
    let quote = "attest::verify refused the quote";
    let cases = [
        ("initrd", [quote, "RTMR2 is"]),
        ("cmdline", [quote, "RTMR2 is"]),
        ("firmware", [quote, "MRTD is"]),
        (
            "rootfs",
            ["the guest stopped itself", "dm-verity device corrupted"],
        ),
    ];
    for (place, said) in cases {
        refuses(&["--tamper", place], &said);
    }
}

fn refuses(arguments: &[&str], said: &[&str]) {
    let output = scenario(arguments);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {err}");
    for words in said {
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    assert!(!err.contains("panicked"), "{arguments:?}: {err}");
}

#[test]
fn misuse_is_exit_code_2() {
    for arguments in [
        &["--tamper", "nothing"][..],
        &["--unknown"],
        &["--keep", "--tamper", "quote"],
        &["--process", "--tamper", "initrd"],
    ] {
        assert_eq!(demo(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
