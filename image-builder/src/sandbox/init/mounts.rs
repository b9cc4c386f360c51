//! Single mounts of the sandbox.

use std::fs;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::sandbox::SandboxError;

/// What the program may do with something that is shown to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Look at it.
    Read,
    /// Change it.
    Write,
    /// Use it as a device.
    Device,
}

impl Access {
    fn flags(self) -> MsFlags {
        match self {
            Self::Read => MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Self::Write => MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
            Self::Device => MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        }
    }
}

/// Mounts an empty file system at `target`.
pub fn tmpfs(target: &Path, mode: &str) -> nix::Result<()> {
    let options = format!("mode={mode}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )
}

/// Mounts the new process namespace's `/proc`.
pub fn proc(target: &Path) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    match mount(Some("proc"), target, Some("proc"), flags, None::<&str>) {
        Ok(()) => Ok(()),
        // The kernel gives a new one only to who sees all of the old one (mount_too_revealing).
        Err(Errno::EPERM) => Err(SandboxError::Forbidden(
            "parts of /proc are covered up, as containers do it, and so a new one may not be mounted; run outside of the \
             container, or uncover it (`--security-opt systempaths=unconfined`)"
                .into(),
        )),
        Err(error) => Err(SandboxError::step("mounting /proc")(error)),
    }
}

/// Shows `source` with everything mounted below it at `target`.
///
/// A bind takes the mount's flags along and cannot change them in the same call, so each mount is then changed in place. Flags
/// of the host's mounts are kept: a user namespace may not take them away, and asking would fail.
pub fn bind(source: &Path, target: &Path, access: Access) -> Result<(), SandboxError> {
    let doing = || format!("showing {}", shown(source).display());
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(source), target, None::<&str>, flags, None::<&str>)
        .map_err(SandboxError::step(doing()))?;
    for path in mounts_below(target)? {
        match restrict(&path, access.flags()) {
            // Below a directory that this user cannot enter, and neither can the program.
            Err(Errno::EACCES) if path != target => {}
            done => done.map_err(SandboxError::step(doing()))?,
        }
    }
    Ok(())
}

/// Makes the root itself read-only; what is mounted in it keeps its own flags.
pub fn seal(root: &Path) -> Result<(), SandboxError> {
    restrict(root, Access::Read.flags()).map_err(SandboxError::step("making the root read-only"))
}

fn restrict(path: &Path, flags: MsFlags) -> nix::Result<()> {
    let has = statvfs(path)?.flags();
    let kept = KEPT.iter().filter(|(flag, _)| has.contains(*flag));
    let flags = kept.fold(flags, |flags, (_, kept)| flags | *kept);
    let change = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    mount(None::<&str>, path, None::<&str>, change, None::<&str>)
}

/// Every mount point at or below `target`. Where mounts lie on top of each other, what is done to the path is done to the one that
/// shows; it cannot be taken off later (see `lock_mounts`).
fn mounts_below(target: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let path = "/old/proc/self/mountinfo";
    let text = fs::read_to_string(path).map_err(SandboxError::step("listing mounts"))?;
    let points = text.lines().filter_map(mount_point);
    Ok(points.filter(|point| point.starts_with(target)).collect())
}

/// The fifth field of a line of proc_pid_mountinfo(5), its `\040` and the like turned back.
fn mount_point(line: &str) -> Option<PathBuf> {
    let field = line.split(' ').nth(4)?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).and_then(|digits| {
            let digits = str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        match octal {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(bytes).into())
}

/// A path as the host knows it.
fn shown(source: &Path) -> PathBuf {
    let relative = source.strip_prefix("/old").unwrap_or(source);
    Path::new("/").join(relative)
}

/// Flags of a mount that a user namespace may not take away. The times of reading are kept by the kernel when none is named.
const KEPT: [(FsFlags, MsFlags); 4] = [
    (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
    (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
    (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
    (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_is_the_fifth_field_with_its_escapes_undone() {
        let check = |line: &str, expected: Option<&str>| {
            assert_eq!(mount_point(line), expected.map(PathBuf::from));
        };
        check(
            "36 35 98:0 /mnt1 /new/usr rw,noatime master:1 - ext3 /dev/root rw",
            Some("/new/usr"),
        );
        check("1 2 3:4 / /a\\040b\\134c rw - x y z", Some("/a b\\c"));
        check("1 2 3:4 / /a\\9 rw", Some("/a\\9"));
        check("1 2 3:4 / /ends\\ rw", Some("/ends\\"));
        check("1 2 3:4 /", None);
        check("", None);
    }
}
