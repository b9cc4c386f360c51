//! The run directory: sockets, logs and the software TPM's state of one launch.
//!
//! A lock, which the kernel releases however its holder dies, tells a running launch from the remains of a dead one. Only
//! what this program creates is ever removed, and only sockets where a socket is expected.

use crate::error::{Context, Error, Fault};
use crate::limits::SOCKET_PATH_BYTES_MAX;
use std::fs::{self, DirBuilder, File, Metadata, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Locked until this value is dropped.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

/// Sockets of one machine.
const SOCKETS: [&str; 5] = [VSOCK, VHOST, QMP, MONITOR, TPM];
/// Where the simulated TDX module listens, if a launch starts it; another one cleans up its own.
pub(super) const MODULE: &str = "vsock.sock_9100";
/// Where the guest's configuration is served, for every machine of a launch.
const CONFIG: &str = "vsock.sock_9101";
/// Where a proxy connects.
pub(super) const VSOCK: &str = "vsock.sock";
/// Between QEMU and vhost-device-vsock.
pub(super) const VHOST: &str = "vhost.sock";
/// Between QEMU and us.
pub(super) const QMP: &str = "qmp.sock";
/// Between QEMU and the operator, or a test.
pub(super) const MONITOR: &str = "monitor.sock";
/// Between QEMU and swtpm.
pub(super) const TPM: &str = "tpm.sock";
/// State of the software TPM.
pub(super) const TPM_STATE: &str = "tpm";
/// The software TPM's log of commands: the simulated TDX module reads it.
pub(super) const TPM_LOG: &str = "swtpm.log";
/// What the guest prints.
pub(super) const SERIAL: &str = "serial.log";
/// What QEMU was given.
pub(super) const LAUNCHED: &str = "launched.json";
const LOCK: &str = "lock";

impl RunDirectory {
    /// Makes the directory if need be, locks it, and removes what a dead launch left behind.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let shown = || format!("the run directory {}", path.display());
        // Who can connect to these sockets can use the guest, and stop it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .context(Fault::Host, shown)?;
        let real = path.canonicalize().context(Fault::Host, shown)?;
        check_name(&real)?;
        check_private(&real, &real.metadata().context(Fault::Host, shown)?)?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(real.join(LOCK));
        let lock = lock.context(Fault::Host, shown)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(refused(
                    path,
                    "is used by another launch: each guest needs its own run directory",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error).context(Fault::Host, shown),
        }
        let directory = RunDirectory {
            path: real,
            _lock: lock,
        };
        directory.remove_socket(CONFIG)?;
        directory.clear()?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes what a machine that is no more leaves behind. Logs stay until they are overwritten.
    pub(super) fn clear(&self) -> Result<(), Error> {
        for name in SOCKETS {
            self.remove_socket(name)?;
        }
        self.removed(fs::remove_file(self.join(LAUNCHED)))?;
        self.removed(fs::remove_dir_all(self.join(TPM_STATE)))
    }

    /// Removes a socket that a dead program left behind.
    pub(super) fn remove_socket(&self, name: &str) -> Result<(), Error> {
        let path = self.join(name);
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => Err(refused(
                &path,
                "is not a socket and will not be removed: choose another run directory",
            )),
            Ok(_) => self.removed(fs::remove_file(path)),
            Err(error) => self.removed(Err(error)),
        }
    }

    /// Makes an empty directory for the TPM's state: each machine begins with a TPM that has measured nothing.
    pub(super) fn make_tpm_state(&self) -> Result<(), Error> {
        let made = DirBuilder::new().mode(0o700).create(self.join(TPM_STATE));
        self.checked(made)
    }

    /// Writes a file whole or not at all: another program may be waiting for it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let unfinished = self.join(&format!("{name}.new"));
        let written =
            fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, self.join(name)));
        self.checked(written)
    }

    fn removed(&self, result: io::Result<()>) -> Result<(), Error> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => self.checked(other),
        }
    }

    /// Names this directory in an error.
    pub(super) fn checked<T>(&self, result: io::Result<T>) -> Result<T, Error> {
        result.context(Fault::Host, || {
            format!("the run directory {}", self.path.display())
        })
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        for name in SOCKETS.into_iter().chain([CONFIG]) {
            if let Err(error) = self.remove_socket(name) {
                tracing::warn!(%error, "a socket stays behind");
            }
        }
    }
}

/// Refuses directories whose name QEMU or swtpm would read as something else.
pub(super) fn check_name(path: &Path) -> Result<(), Error> {
    let plain = |text: &str| !text.chars().any(|c| c == ',' || c.is_control());
    if !path.to_str().is_some_and(plain) {
        return Err(refused(
            path,
            "contains a comma or a control character, or is not UTF-8: choose another directory",
        ));
    }
    let longest = path.join(CONFIG);
    match longest.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        true => Ok(()),
        false => {
            let words = format!(
                "is too long for a Unix socket (at most {SOCKET_PATH_BYTES_MAX} bytes): choose a shorter run directory"
            );
            Err(refused(&longest, &words))
        }
    }
}

/// Refuses a directory that was there before and that others may enter: its sockets have no other guard.
fn check_private(path: &Path, found: &Metadata) -> Result<(), Error> {
    let own = nix::unistd::geteuid().as_raw();
    if found.uid() != own {
        let words = format!(
            "belongs to user {}; it must belong to user {own}",
            found.uid()
        );
        return Err(refused(path, &words));
    }
    let mode = found.mode() & 0o777;
    if mode & 0o077 != 0 {
        let words =
            format!("has mode {mode:o}, so that other users can reach the guest: chmod 700");
        return Err(refused(path, &words));
    }
    Ok(())
}

fn refused(path: &Path, words: &str) -> Error {
    Error::new(Fault::Configuration, format!("{} {words}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn refusal(path: &Path) -> String {
        let error = RunDirectory::open(path).expect_err("refused");
        error.to_string()
    }

    #[test]
    fn a_live_launch_is_refused_and_a_dead_ones_remains_are_removed() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/run");
        let first = RunDirectory::open(&path).expect("made");
        assert!(refusal(&path).contains("is used by another launch"));
        drop(first);
        for name in SOCKETS.into_iter().chain([CONFIG]) {
            drop(UnixListener::bind(path.join(name)).expect("a socket"));
        }
        fs::create_dir_all(path.join("tpm/deep")).expect("made");
        fs::write(path.join(LAUNCHED), "{}").expect("written");
        // The simulator's, which may be waiting already.
        let other = UnixListener::bind(path.join("vsock.sock_9100")).expect("a socket");
        let second = RunDirectory::open(&path).expect("cleared");
        let left: Vec<_> = fs::read_dir(&path)
            .expect("read")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        assert_eq!(left.len(), 2, "{left:?}");
        drop((second, other));
    }

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let set = |mode| {
            let mode = fs::Permissions::from_mode(mode);
            fs::set_permissions(directory.path(), mode).expect("set");
        };
        for mode in [0o755, 0o770, 0o701] {
            set(mode);
            let refusal = refusal(directory.path());
            assert!(refusal.contains(&format!("has mode {mode:o}")), "{refusal}");
        }
        set(0o700);
        drop(RunDirectory::open(directory.path()).expect("private"));
    }

    #[test]
    fn what_is_no_socket_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let run = directory.path().join("run");
        drop(RunDirectory::open(&run).expect("made"));
        let precious = run.join(QMP);
        fs::write(&precious, "precious").expect("written");
        let refusal = refusal(&run);
        assert!(
            refusal.contains(&format!("/{QMP} is not a socket")),
            "{refusal}"
        );
        assert_eq!(fs::read(&precious).expect("read"), b"precious");
    }

    #[test]
    fn names_that_would_be_read_as_something_else_are_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        for name in ["a,b", "a\nb"] {
            assert!(refusal(&parent.path().join(name)).contains("a comma or a control character"));
        }
        let long = parent.path().join("x".repeat(100));
        assert!(refusal(&long).contains("is too long for a Unix socket"));
    }
}
