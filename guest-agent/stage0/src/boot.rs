//! The steps of the boot, in order.

use crate::command_line::CommandLine;
use crate::failure::{Failure, errno_of};
use crate::limits::{CLOCK_BYTES_MAX, COMMAND_LINE_BYTES_MAX, DEVICES_BYTES_MAX, START_BYTES_MAX};
use crate::start::{AGENT, arguments};
use crate::{devices, disk, modules, mounts};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Read;

const MODULES_DISABLED: &str = "/proc/sys/kernel/modules_disabled";
const CLOCK: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
/// The agent's environment is empty. The kernel turns parameters that it does not know into variables of its first program,
/// and no variable may influence what the agent loads or trusts.
const ENVIRONMENT: [&CStr; 0] = [];

/// From the initrd to the agent. Returns only with a failure.
pub fn boot() -> Result<Infallible, Failure> {
    let arguments = enter(Err)?;
    eprintln!("stage0: starting the agent");
    nix::unistd::execve(AGENT, &arguments, &ENVIRONMENT)
        .map_err(Failure::system("starting the agent"))
}

/// From the initrd into the verified root. Returns the agent's arguments, its own name first. `refused` decides about a module
/// that does not load: returning the failure ends the boot, as it must where all modules are needed.
pub fn enter(refused: fn(Failure) -> Result<(), Failure>) -> Result<Vec<CString>, Failure> {
    let line = prepare(refused)?;
    eprintln!("stage0: modules loaded");
    let line = CommandLine::new(&line)?;
    if line.asks_for_tsc() {
        clock()?;
    }
    let root = line.root()?;
    let layout = disk::wait()?;
    disk::open(&root, layout)?;
    read_ahead(&format!("{}/agent", mounts::NEW_ROOT));
    // Its superblock was read and checked under its hash. Each further block is checked when it is read.
    eprintln!("stage0: root verified");
    mounts::switch()?;
    let start = read("/start", "/start", START_BYTES_MAX)?;
    Ok(arguments(&start)?)
}

/// Mounts the kernel's file systems, loads the modules, binds their drivers to the listed devices, and returns the command line.
/// Afterwards the kernel takes no further module.
pub fn prepare(refused: fn(Failure) -> Result<(), Failure>) -> Result<Vec<u8>, Failure> {
    mounts::kernel()?;
    let drivers = read(devices::LIST, "/devices", DEVICES_BYTES_MAX)?;
    let drivers = devices::list(&drivers).ok_or(Failure::Devices)?;
    devices::hold()?;
    modules::load_all(refused)?;
    mounts::configuration()?;
    devices::bind(&drivers)?;
    close()?;
    // One byte more for the kernel's line feed.
    read(
        "/proc/cmdline",
        "the command line",
        COMMAND_LINE_BYTES_MAX + 1,
    )
}

/// Whether the kernel reads time from the TSC, as it was told to: it falls back to another clock, which is the host's, if it
/// distrusts the TSC. `tsc-early` is the TSC before its frequency was refined.
fn clock() -> Result<(), Failure> {
    let name = read(CLOCK, "the name of the clock", CLOCK_BYTES_MAX)?;
    match name.as_slice() {
        b"tsc\n" | b"tsc-early\n" => Ok(()),
        _ => Err(Failure::Clock),
    }
}

/// The kernel takes no further module in this boot, signed or not, and this cannot be undone (`kernel.modules_disabled`,
/// Documentation/admin-guide/sysctl/kernel.rst). What was loaded is in the initrd, which was measured.
fn close() -> Result<(), Failure> {
    let doing = "disabling further modules";
    std::fs::write(MODULES_DISABLED, "1").map_err(Failure::io(doing))
}

/// Has the kernel read a file in the background, so that the agent's first pages and its hashing of itself find it in
/// memory. It only saves time, so a failure is ignored: a missing file is reported when it is executed.
fn read_ahead(path: &str) {
    if let Ok(file) = File::open(path) {
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
    }
}

/// A whole file, if it is not longer than `bytes_max`.
fn read(path: &str, what: &'static str, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::Unreadable {
            what,
            errno: errno_of(&error),
        })?;
    match bytes.len() <= bytes_max {
        true => Ok(bytes),
        false => Err(Failure::TooLong(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::errno::Errno;

    #[test]
    fn a_file_that_is_too_long_or_not_there_is_refused() {
        let own = std::env::current_exe().unwrap();
        let own = own.to_str().unwrap();
        assert_eq!(read(own, "it", 16), Err(Failure::TooLong("it")));
        let Err(Failure::Unreadable { errno, .. }) = read("/nowhere/at/all", "it", 16) else {
            panic!("a file that does not exist was read");
        };
        assert_eq!(errno, Errno::ENOENT);
    }
}
