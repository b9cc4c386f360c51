//! PID 1 of a test guest: sends a counted pattern to the host and switches the machine off.

use nix::sys::reboot::{RebootMode, reboot};
use stage0::{CommandLine, Failure, stream};
use std::process::ExitCode;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => stage0::stop("stream", &failure),
    }
}

fn run() -> Result<(), Failure> {
    let line = stage0::prepare(Err)?;
    eprintln!("stream: modules loaded");
    let bytes = CommandLine::new(&line)?
        .stream_bytes()?
        .unwrap_or(stream::BYTES);
    stream::stream(bytes)?;
    eprintln!("stream: everything arrived");
    match reboot(RebootMode::RB_POWER_OFF) {
        Ok(never) => match never {},
        Err(errno) => Err(Failure::System {
            doing: "switching the machine off",
            errno,
        }),
    }
}
