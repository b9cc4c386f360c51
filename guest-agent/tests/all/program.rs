//! The simulated agent as a program: how it says that it serves, how it ends, and what it says when it cannot start.

use crate::world::{MODEL, models, module};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use simulator::SimulatedModule;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// The agent over what lies in a directory.
pub fn agent(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_guest-agent-sim"));
    let listen = format!("unix:{}", directory.join("guest.sock").display());
    command.arg("--listen").arg(listen);
    command.arg("--simulator").arg(directory.join("tdx.sock"));
    command.arg("--config").arg(directory.join("config.json"));
    command.arg("--models").arg(models());
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command.stderr(Stdio::piped());
    command
}

fn write_config(directory: &Path) {
    let root = engine::weights::read(&models().join(MODEL)).unwrap();
    let root = root.root().unwrap();
    let account = format!("0:{}", "11".repeat(32));
    let config = serde_json::json!({
        "version": 1, "profile": "sim", "chain": 20241, "payee": account, "payee_key": "22".repeat(32),
        "stake": account, "lifetime_s": 3600, "jobs_max": 5, "price_step_nano": 10,
        "exposure_max_nano": 1_000_000, "interval_ms": 10,
        "models": [{"id": MODEL, "endpoint": "chat", "root": root.to_string(), "context_tokens": 256,
            "prompt_nano": 1, "completion_nano": 1}],
    });
    std::fs::write(directory.join("config.json"), config.to_string()).unwrap();
}

/// A module that answers on `tdx.sock` for as long as this process lives.
pub fn start_module(module: SimulatedModule, directory: &Path) {
    let listener = UnixListener::bind(directory.join("tdx.sock")).unwrap();
    std::thread::spawn(move || simulator::serve(&listener, module));
}

/// Started and ready, with the line that said so.
pub fn ready(directory: &Path) -> (Child, serde_json::Value) {
    let mut child = agent(directory).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let line = serde_json::from_str(&line).unwrap_or_else(|error| {
        child.kill().unwrap();
        panic!("{error}: {line}")
    });
    (child, line)
}

#[test]
fn a_serving_agent_says_so_and_ends_when_it_is_told_to() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let directory = tempfile::tempdir().unwrap();
        start_module(module(), directory.path());
        write_config(directory.path());
        let (mut child, line) = ready(directory.path());
        assert_eq!(line["ready"], true);
        assert_eq!(line["keyset"].as_str().map(str::len), Some(64));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{signal}: {status}");
    }
}

/// Exit code 1 and, after the line that says what is simulated, one line with all of `said`.
fn check(output: &Output, said: &[&str]) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let lines: Vec<_> = text.lines().collect();
    let [simulated, reason] = lines[..] else {
        panic!("not two lines: {text}");
    };
    assert!(simulated.contains("SIMULATED"), "{text}");
    assert!(reason.starts_with("guest-agent-sim: "), "{text}");
    for said in said {
        assert!(reason.contains(said), "`{said}` in: {text}");
    }
    assert_eq!(output.stdout, b"", "it did not say that it is ready");
}

#[test]
fn an_agent_that_cannot_start_says_why_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    check(
        &agent(directory).output().unwrap(),
        &["measured configuration", "config.json", "No such file"],
    );

    std::fs::write(directory.join("config.json"), "{\n\"version\": 1}\n").unwrap();
    check(
        &agent(directory).output().unwrap(),
        &["does not parse", "missing field"],
    );

    std::fs::write(directory.join("config.json"), vec![b' '; 1 << 20]).unwrap();
    check(
        &agent(directory).output().unwrap(),
        &["65537 bytes or more"],
    );

    write_config(directory);
    check(
        &agent(directory).output().unwrap(),
        &["extending the simulated RTMR3", "No such file"],
    );

    start_module(module(), directory);
    let config = std::fs::read_to_string(directory.join("config.json")).unwrap();
    let odd = config.replace(MODEL, "no-such-model");
    std::fs::write(directory.join("config.json"), odd).unwrap();
    check(&agent(directory).output().unwrap(), &["no-such-model"]);
}

#[test]
fn a_malformed_source_is_misuse() {
    let directory = tempfile::tempdir().unwrap();
    for option in ["--config", "--simulator"] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_guest-agent-sim"));
        command
            .args(["--listen", "vsock:9000", "--models"])
            .arg(models());
        for each in ["--config", "--simulator"] {
            let source = if each == option { "vsock:2" } else { "a" };
            command.args([each, source]);
        }
        let output = command.current_dir(directory.path()).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains("neither a path nor vsock:CID:PORT"),
            "{option}: {text}"
        );
    }
}
