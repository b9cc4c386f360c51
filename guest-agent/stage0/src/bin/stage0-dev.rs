//! The first program of a developers' guest: opens the root as `stage0` does, then runs a shell on the console, and the agent
//! beside it.
//!
//! Whoever has the console is root, so such a guest protects nothing. It is a separate program, in images of profile `dev`
//! only, so that no production image has code that starts a shell. It has no job control beyond that of `setsid`.

use nix::sys::wait::{WaitPidFlag, waitpid};
use stage0::Failure;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

const CONSOLE: &str = "/dev/console";
/// The shell on a terminal of its own: no process controls the console yet.
const SHELL: [&str; 4] = ["/usr/bin/setsid", "--ctty", "--wait", "/bin/bash"];
const ENVIRONMENT: [(&str, &str); 3] = [
    ("PATH", "/usr/sbin:/usr/bin"),
    ("HOME", "/root"),
    ("TERM", "vt100"),
];
/// Before the shell is started again, so that one that cannot run does not fill the console.
const PAUSE: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(failure) => stage0::stop("stage0-dev", &failure),
    }
}

fn run() -> Result<std::convert::Infallible, Failure> {
    // A developer may use it on a machine without TDX.
    let arguments = stage0::enter(|failure| {
        eprintln!("stage0-dev: {failure}");
        Ok(())
    })?;
    eprintln!("stage0-dev: THIS GUEST IS INSECURE: whoever has its console is root");
    match agent(&arguments) {
        Ok(()) => eprintln!("stage0-dev: the agent runs beside the shell"),
        Err(error) => eprintln!("stage0-dev: the agent was not started: {error}"),
    }
    loop {
        if let Err(error) = shell() {
            eprintln!("stage0-dev: the shell was not started: {error}");
        }
        // Orphans are children of PID 1 and stay zombies until it reaps them.
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|state| state.pid().is_some()) {}
        std::thread::sleep(PAUSE);
    }
}

fn agent(arguments: &[CString]) -> std::io::Result<()> {
    let mut words = arguments
        .iter()
        .map(|word| OsStr::from_bytes(word.as_bytes()));
    let program = words.next().unwrap_or_default();
    Command::new(program)
        .args(words)
        .env_clear()
        .stdin(Stdio::null())
        .spawn()
        .map(drop)
}

fn shell() -> std::io::Result<()> {
    let console = || File::options().read(true).write(true).open(CONSOLE);
    let [program, arguments @ ..] = SHELL;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(console()?)
        .stdout(console()?)
        .stderr(console()?)
        .status()
        .map(drop)
}
