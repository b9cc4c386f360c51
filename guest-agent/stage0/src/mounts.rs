//! The kernel's own file systems, and the step from the initrd to the verified root.

use crate::failure::Failure;
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};
use std::io::ErrorKind;

/// Where the root is mounted until it becomes the root.
pub(crate) const NEW_ROOT: &str = "/newroot";
const NOTHING: Option<&str> = None;
const CLOSED: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);

/// Directory, file system, flags. `/dev` is all devices; nothing else may hold one.
const KERNEL: [(&str, &str, MsFlags); 3] = [
    (
        "/dev",
        "devtmpfs",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
    ),
    ("/proc", "proc", CLOSED),
    ("/sys", "sysfs", CLOSED),
];
/// Where the kernel wants its configuration mounted (Documentation/filesystems/configfs.rst).
const CONFIGURATION: &str = "/sys/kernel/config";
/// Memory that the agent may write to, and how much: directory, options.
const MEMORY: [(&str, &str); 2] = [
    ("/newroot/run", "size=16m,mode=0755"),
    ("/newroot/tmp", "size=64m,mode=1777"),
];

/// Mounts `/dev`, `/proc` and `/sys`.
pub(crate) fn kernel() -> Result<(), Failure> {
    for (directory, system, flags) in KERNEL {
        make_directory(directory)?;
        mount(Some(system), directory, Some(system), flags, NOTHING)
            .map_err(Failure::system("mounting a file system of the kernel"))?;
    }
    Ok(())
}

/// Mounts the file system through which a guest asks for quotes, if a module provides it.
pub(crate) fn configuration() -> Result<(), Failure> {
    if !std::path::Path::new(CONFIGURATION).is_dir() {
        return Ok(());
    }
    let system = Some("configfs");
    mount(system, CONFIGURATION, system, CLOSED, NOTHING)
        .map_err(Failure::system("mounting the kernel's configuration"))
}

/// A directory of the initrd, which may exist already.
pub(crate) fn make_directory(directory: &str) -> Result<(), Failure> {
    match std::fs::create_dir(directory) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            Err(Failure::io("creating a directory of the initrd")(error))
        }
        _ => Ok(()),
    }
}

/// Makes the verified root the only root. The image has the empty directories that are mounted on.
pub(crate) fn switch() -> Result<(), Failure> {
    for (directory, options) in MEMORY {
        mount(
            Some("tmpfs"),
            directory,
            Some("tmpfs"),
            CLOSED,
            Some(options),
        )
        .map_err(Failure::system("mounting memory in the root"))?;
    }
    let moving = MsFlags::MS_MOVE;
    for (directory, ..) in KERNEL {
        let target = format!("{NEW_ROOT}{directory}");
        mount(Some(directory), target.as_str(), NOTHING, moving, NOTHING).map_err(
            Failure::system("moving a file system of the kernel into the root"),
        )?;
    }
    // The kernel's initramfs cannot be unmounted or pivoted away from: Documentation/filesystems/ramfs-rootfs-initramfs.rst
    // says to mount over it. What stays below it is the measured initrd.
    chdir(NEW_ROOT)
        .and_then(|()| mount(Some("."), "/", NOTHING, moving, NOTHING))
        .and_then(|()| chroot("."))
        .and_then(|()| chdir("/"))
        .map_err(Failure::system("switching to the root"))
}
