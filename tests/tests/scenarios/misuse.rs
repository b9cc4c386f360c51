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
        &["payouts", "settle", "--config", "x", "--channel", "nowhere"],
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

/// The programs of a host. What is asked of one is asked of all.
const PROGRAMS: [&str; 7] = [
    "chrysalis",
    "chrysalis-ledger",
    "chrysalis-simulator",
    "engine",
    "host-proxy",
    "image-builder",
    "measurements",
];

/// All of them but `engine` where only this test was asked for: a stack does not need it.
fn programs() -> impl Iterator<Item = &'static str> {
    let built = common::programs().path("engine").exists();
    if !built {
        without::skip("engine", "it is not built");
    }
    { PROGRAMS.into_iter() }.filter(move |program| built || *program != "engine")
}

fn printed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The one JSON object on standard output.
fn error_object(output: &Output) -> serde_json::Value {
    let text = printed(&output.stdout);
    let object: serde_json::Value = serde_json::from_str(&text).expect(&text);
    let said = object["error"].as_str().expect(&text);
    let asides = ["\n\n", "Usage:", "For more information", "error: "];
    assert!(!asides.iter().any(|aside| said.contains(aside)), "{said}");
    assert!(object["fault"].is_string(), "{object}");
    object
}

#[test]
fn every_program_says_its_exit_codes_and_its_version_alike() {
    for program in programs() {
        let help = printed(&run(program, &["--help"]).stdout);
        let codes = "Exit code: 0 done, 1 refused or failed, 2 wrong arguments.";
        assert!(help.contains(codes), "{program}: {help}");

        let version = run(program, &["--version"]);
        assert_eq!(version.status.code(), Some(0), "{program}");
        let version = printed(&version.stdout);
        // `NAME 0.1.0 (0123456789ab)`, with `or later` in a development build.
        let (named, commit) = version.trim().split_once(" (").expect(&version);
        let commit = commit.strip_suffix(')').expect(&version);
        assert_eq!(named, format!("{program} {}", env!("CARGO_PKG_VERSION")));
        let digits = commit.trim_end_matches(" or later");
        let hex = digits.len() >= 12 && digits.bytes().all(|b| b.is_ascii_hexdigit());
        assert!(hex || commit == "unknown commit", "{version}");
    }
}

#[test]
fn misuse_ends_every_program_with_2_and_under_json_with_an_object() {
    for program in programs() {
        check(program, &["--nonsense"], 2, "--nonsense");
        let output = run(program, &["--nonsense", "--json"]);
        assert_eq!(output.status.code(), Some(2), "{program}");
        // The simulator prints JSON always and takes no such option.
        if program != "chrysalis-simulator" {
            let object = error_object(&output);
            assert_eq!(object["fault"], "arguments", "{program}");
        }
    }
}

#[test]
fn a_bad_value_is_one_sentence_under_json() {
    let config = ["--config", "x"];
    for (program, arguments) in [
        (
            "chrysalis",
            &["channel", "open", config[0], config[1], "--deposit", "zz"][..],
        ),
        (
            "chrysalis-ledger",
            &["serve", "--db", "x", "--listen", "zz"],
        ),
        ("engine", &["run", "x", "--threads", "zz"]),
        ("engine", &["bench", "--threads", "zz"]),
        (
            "host-proxy",
            &["payouts", "settle", config[0], config[1], "--channel", "zz"],
        ),
        ("image-builder", &["verify", "x", "--allow-unchecked", "zz"]),
        (
            "measurements",
            &["image", "verify", "--image", "x", "--allow-unchecked", "zz"],
        ),
    ] {
        if !programs().any(|built| built == program) {
            continue;
        }
        let output = run(program, &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(2), "{program} {arguments:?}");
        let object = error_object(&output);
        assert_eq!(object["fault"], "arguments", "{program}");
        let said = object["error"].as_str().expect("a text");
        assert!(said.starts_with("invalid value 'zz'"), "{program}: {said}");
    }
    // What is missing is listed.
    let output = run("chrysalis", &["channel", "open", "--json"]);
    let object = error_object(&output);
    assert!(object.to_string().contains("--config"), "{object}");
}

#[test]
fn a_missing_file_ends_every_program_with_1_and_is_named_once() {
    let absent = "/nonexistent/chrysalis";
    for (program, arguments) in [
        ("chrysalis", &["attest", "--config", absent][..]),
        ("chrysalis", &["channel", "show", "--config", absent]),
        ("chrysalis-ledger", &["serve", "--db", absent]),
        ("engine", &["run", absent, "--prompt", "x"]),
        ("host-proxy", &["serve", "--config", absent]),
        ("host-proxy", &["channels", "--config", absent]),
        ("host-proxy", &["address", "--config", absent]),
        (
            "host-proxy",
            &["collateral", "fetch", "--config", absent, "--quote", absent],
        ),
        (
            "host-proxy",
            &[
                "launch",
                "--image",
                absent,
                "--tools",
                absent,
                "--config",
                absent,
                "--run",
                "/nonexistent/r",
            ],
        ),
        ("image-builder", &["inspect", absent]),
        ("image-builder", &["verify", absent, "--insecure-unsigned"]),
        ("image-builder", &["diff", absent, absent]),
        ("image-builder", &["sbom", absent]),
        ("image-builder", &["verify", "/", "--public-key", absent]),
        ("image-builder", &["sign", "/", "--key", absent]),
        ("image-builder", &["lock", absent]),
        (
            "image-builder",
            &["build", absent, "--out", "/nonexistent/out"],
        ),
        ("image-builder", &["model", "verify", absent]),
        ("measurements", &["quote", "parse", "--quote", absent]),
        (
            "measurements",
            &["quote", "verify", "--quote", absent, "--collateral", absent],
        ),
        ("measurements", &["replay", "--event-log", absent]),
        ("measurements", &["bundle", "verify", "--bundle", absent]),
        (
            "measurements",
            &["gpu", "verify", "--evidence", absent, "--no-rim"],
        ),
        ("measurements", &["image", "verify", "--image", absent]),
        (
            "measurements",
            &["match", "--set", absent, "--quote", absent],
        ),
    ] {
        if !programs().any(|built| built == program) {
            continue;
        }
        let output = run(program, arguments);
        let words = printed(&output.stderr);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{program} {arguments:?}: {words}"
        );
        assert_eq!(
            words.matches(absent).count(),
            1,
            "{program} {arguments:?}: {words}"
        );
        let cause = "No such file or directory";
        assert!(
            words.matches(cause).count() <= 1,
            "{program} {arguments:?}: {words}"
        );
        let asked = run(program, &[arguments, &["--json"]].concat());
        // Where a command has no --json, that is misuse, and said in JSON as well.
        assert!(matches!(asked.status.code(), Some(1 | 2)), "{arguments:?}");
        error_object(&asked);
    }
}
