//! A running `host-proxy`.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// `host-proxy ARGUMENTS --config CONFIG`, killed when dropped.
pub fn command(arguments: &[&str], config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_host-proxy"));
    command
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Waits for the first line of a server with `--json`, and returns its address.
pub async fn listen_address(server: &mut Child) -> String {
    let mut line = String::new();
    let stdout = server.stdout.as_mut().expect("piped");
    let read = BufReader::new(stdout).read_line(&mut line).await;
    read.expect("a line");
    let ready: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(ready["ready"], true);
    ready["listen"].as_str().expect("an address").to_owned()
}

pub fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().expect("running").cast_signed());
    kill(pid, signal).expect("signalled");
}
