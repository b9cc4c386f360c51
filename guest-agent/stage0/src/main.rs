//! PID 1 of the initrd.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A message may contain what was read; the location is enough.
    std::panic::set_hook(Box::new(|info| match info.location() {
        Some(at) => eprintln!("stage0: panic at {}:{}", at.file(), at.line()),
        None => eprintln!("stage0: panic"),
    }));
    match stage0::boot() {
        Ok(never) => match never {},
        Err(failure) => stage0::stop("stage0", &failure),
    }
}
