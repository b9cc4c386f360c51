//! Bad input to any program of a stack: a named error, exit code 2 for misuse and 1 for refusal, and help that teaches.

use crate::common;
use std::process::{Command, Output, Stdio};

fn run(program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(common::programs().path(program));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("it starts")
}

fn check(program: &str, arguments: &[&str], code: i32, said: &str) {
    let output = run(program, arguments);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert_eq!(
        output.status.code(),
        Some(code),
        "{program} {arguments:?}: {err}"
    );
    assert!(
        out.contains(said) || err.contains(said),
        "{program} {arguments:?} says `{said}`: {out}{err}"
    );
    assert!(!err.contains("panic"), "{program} {arguments:?}: {err}");
}

#[test]
fn help_teaches_by_example() {
    for program in [
        "guest-agent",
        "guest-agent-sim",
        "host-proxy",
        "chrysalis",
        "chrysalis-simulator",
    ] {
        check(program, &["--help"], 0, "Example");
    }
}

#[test]
fn misuse_is_exit_code_2_and_names_what_was_wrong() {
    for program in [
        "guest-agent",
        "guest-agent-sim",
        "host-proxy",
        "chrysalis",
        "chrysalis-simulator",
    ] {
        check(program, &["--nonsense"], 2, "--nonsense");
    }
    check(
        "chrysalis",
        &["channel", "open", "--config", "x", "--deposit", "much"],
        2,
        "much",
    );
    check(
        "host-proxy",
        &["settle", "--config", "x", "--channel", "nowhere"],
        2,
        "nowhere",
    );
    let listen = ["--listen", "tcp:1", "--config", "x", "--models", "x"];
    check(
        "guest-agent",
        &listen,
        2,
        "neither vsock:PORT nor unix:PATH",
    );
}

#[test]
fn a_missing_file_is_exit_code_1_and_named() {
    let absent = "/nonexistent/chrysalis";
    for command in ["attest", "serve"] {
        check("chrysalis", &[command, "--config", absent], 1, absent);
    }
    check("host-proxy", &["serve", "--config", absent], 1, absent);
    let agent = [
        "--listen",
        "unix:/nonexistent/guest.sock",
        "--config",
        absent,
        "--models",
        absent,
    ];
    check(
        "guest-agent-sim",
        &[&["--simulator", absent][..], &agent].concat(),
        1,
        absent,
    );
    check(
        "chrysalis-simulator",
        &[
            "--socket",
            "/nonexistent/chrysalis/s",
            "--out",
            "/proc/nothing",
        ],
        1,
        "/proc/nothing",
    );
}
