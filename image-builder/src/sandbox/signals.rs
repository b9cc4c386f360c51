//! Waiting for a child as both halves do: signals go in, the exit code comes out.
//!
//! The signals are blocked and taken one at a time with `sigwait`, so there is no handler and nothing runs in between.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::SandboxError;

/// The signals that a person or a supervisor ends a program with, and the one that says that a child has ended.
pub fn signals() -> SigSet {
    let mut set = SigSet::empty();
    for signal in PASSED {
        set.add(signal);
    }
    set.add(Signal::SIGCHLD);
    set
}

/// Waits until `child` has ended, buries every other child on the way, and returns the child's exit code, or 128 and the
/// number of the signal that ended it. [`signals`] must be blocked.
pub fn attend(child: Pid) -> Result<u8, SandboxError> {
    let signals = signals();
    loop {
        if let Some(code) = bury(child)? {
            return Ok(code);
        }
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {}
            // It may be gone already; then the next round finds out.
            Ok(signal) => drop(kill(child, signal)),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(SandboxError::step("waiting for a signal")(error)),
        }
    }
}

/// Takes the exit status of every child that has ended.
fn bury(child: Pid) -> Result<Option<u8>, SandboxError> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => code = Some(status as u8),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                code = Some(128 + signal as u8);
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(code),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(SandboxError::step("waiting for the program")(error)),
        }
    }
}

const PASSED: [Signal; 4] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
];
