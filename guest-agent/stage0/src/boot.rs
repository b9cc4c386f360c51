//! The steps of the boot, in order.

use crate::command_line::CommandLine;
use crate::failure::{Failure, errno_of};
use crate::limits::{
    CLOCK_BYTES_MAX, COMMAND_LINE_BYTES_MAX, DEVICES_BYTES_MAX, MODULE_NAME_BYTES_MAX, MODULES_MAX,
    START_BYTES_MAX,
};
use crate::start::{AGENT, arguments};
use crate::{devices, disk, mounts};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};
use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString};
use std::fs::File;
use std::io::Read;

const MODULES: &str = "/modules";
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
    for name in modules()? {
        load(&name).or_else(refused)?;
    }
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

fn modules() -> Result<Vec<String>, Failure> {
    let doing = Failure::io("listing the modules");
    let names = std::fs::read_dir(MODULES).and_then(|entries| {
        // One more than allowed is enough to see that there are too many.
        let names = entries
            .take(MODULES_MAX + 1)
            .map(|entry| Ok(entry?.file_name()));
        names.collect::<std::io::Result<Vec<_>>>()
    });
    load_order(names.map_err(doing)?).ok_or(Failure::Modules)
}

/// The names of `/modules` in the order of their bytes, which is the order in which they need each other. `None` if there
/// are too many, or one is not the name of a module.
fn load_order(names: Vec<OsString>) -> Option<Vec<String>> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let module = |name: &String| {
        name.len() <= MODULE_NAME_BYTES_MAX && name.ends_with(".ko") && name.bytes().all(plain)
    };
    if names.len() > MODULES_MAX {
        return None;
    }
    let mut names: Vec<String> = names
        .into_iter()
        .map(|name| name.into_string().ok())
        .collect::<Option<_>>()?;
    names.sort_unstable();
    names.iter().all(module).then_some(names)
}

fn load(name: &str) -> Result<(), Failure> {
    let failure = |errno: Errno| Failure::Module {
        name: name.into(),
        errno,
    };
    let file =
        File::open(format!("{MODULES}/{name}")).map_err(|error| failure(errno_of(&error)))?;
    finit_module(&file, c"", ModuleInitFlags::empty()).map_err(failure)
}

/// The kernel takes no further module in this boot, signed or not, and this cannot be undone (`kernel.modules_disabled`,
/// Documentation/admin-guide/sysctl/kernel.rst). What was loaded is in the initrd, which was measured.
fn close() -> Result<(), Failure> {
    let doing = "disabling further modules";
    std::fs::write(MODULES_DISABLED, "1").map_err(Failure::io(doing))
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

    fn check(names: &[&str]) -> Option<Vec<String>> {
        load_order(names.iter().map(OsString::from).collect())
    }

    #[test]
    fn modules_load_in_the_order_of_their_names() {
        assert_eq!(check(&[]).unwrap(), [""; 0]);
        assert_eq!(
            check(&["10-dm-verity.ko", "02-dm_mod.ko", "01-virtio_blk.ko"]).unwrap(),
            ["01-virtio_blk.ko", "02-dm_mod.ko", "10-dm-verity.ko"]
        );
        for bad in [
            "01-virtio_blk.ko.xz",
            "readme",
            "a b.ko",
            "a\n.ko",
            "\u{e9}.ko",
        ] {
            assert_eq!(check(&["01-virtio_blk.ko", bad]), None, "{bad}");
        }
        assert_eq!(check(&[&format!("{}.ko", "a".repeat(62))]), None);
        assert!(check(&vec!["a.ko"; MODULES_MAX]).is_some());
        assert!(check(&vec!["a.ko"; MODULES_MAX + 1]).is_none());
    }

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
