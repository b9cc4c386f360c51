//! The run directory: sockets, logs and the software TPM's state of one launch.
//!
//! A lock, which the kernel releases however its holder dies, tells a running launch from the remains of a dead one. Only
//! what this program makes is ever removed, and only sockets where a socket is expected.

use crate::limits::SOCKET_PATH_BYTES_MAX;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};

/// A directory that is ours alone until this value is dropped.
#[derive(Debug)]
pub(super) struct RunDirectory {
    path: PathBuf,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirectoryError {
    /// The system refuses something.
    #[error("the run directory {path}: {source}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another launch is running in it.
    #[error("another launch is running in {}: give each guest a directory of its own", .0.display())]
    Busy(PathBuf),
    /// Something of another kind is where a socket belongs.
    #[error("{} is not a socket and will not be removed: choose another run directory", .0.display())]
    Foreign(PathBuf),
    /// The sockets' paths would be too long.
    #[error("{} is too long for a Unix socket (at most {SOCKET_PATH_BYTES_MAX} bytes): choose a shorter run directory", .0.display())]
    TooLong(PathBuf),
    /// QEMU and swtpm split their options at these.
    #[error("{} has a comma, a control character or is not UTF-8: choose another directory", .0.display())]
    Name(PathBuf),
}

/// Sockets of one machine.
const SOCKETS: [&str; 5] = [VSOCK, VHOST, QMP, MONITOR, TPM];
/// Where the guest's configuration is served, for every machine of a launch. Whoever serves another port of the guest's
/// host, as the simulated module does, cleans up its own.
const CONFIG: &str = "vsock.sock_9101";
/// Where a proxy connects.
pub(super) const VSOCK: &str = "vsock.sock";
/// Between QEMU and vhost-device-vsock.
pub(super) const VHOST: &str = "vhost.sock";
/// Between QEMU and us.
pub(super) const QMP: &str = "qmp.sock";
/// Between QEMU and whoever else looks at the machine: the operator, or a test.
pub(super) const MONITOR: &str = "monitor.sock";
/// Between QEMU and swtpm.
pub(super) const TPM: &str = "tpm.sock";
/// State of the software TPM.
pub(super) const TPM_STATE: &str = "tpm";
/// What the software TPM was told: the simulated module reads it.
pub(super) const TPM_LOG: &str = "swtpm.log";
/// What the guest prints.
pub(super) const SERIAL: &str = "serial.log";
/// What QEMU was given.
pub(super) const LAUNCHED: &str = "launched.json";
const LOCK: &str = "lock";

impl RunDirectory {
    /// Makes the directory if need be, locks it, and removes what a dead launch left behind.
    pub(super) fn open(path: &Path) -> Result<Self, RunDirectoryError> {
        let refuse = |source| RunDirectoryError::Io {
            path: path.to_owned(),
            source,
        };
        // Who can connect to these sockets can use the guest, and stop it.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(refuse)?;
        let path = path.canonicalize().map_err(refuse)?;
        check_name(&path)?;
        let lock = File::options()
            .create(true)
            .append(true)
            .open(path.join(LOCK))
            .map_err(refuse)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunDirectoryError::Busy(path)),
            Err(TryLockError::Error(source)) => return Err(refuse(source)),
        }
        let directory = RunDirectory { path, _lock: lock };
        directory.remove_socket(CONFIG)?;
        directory.clear()?;
        Ok(directory)
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Something in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Removes what a machine that is no more leaves behind. Logs stay until they are overwritten.
    pub(super) fn clear(&self) -> Result<(), RunDirectoryError> {
        for name in SOCKETS {
            self.remove_socket(name)?;
        }
        self.removed(fs::remove_file(self.join(LAUNCHED)))?;
        self.removed(fs::remove_dir_all(self.join(TPM_STATE)))
    }

    /// Removes the socket `name`.
    fn remove_socket(&self, name: &str) -> Result<(), RunDirectoryError> {
        let path = self.join(name);
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => Err(RunDirectoryError::Foreign(path)),
            Ok(_) => self.removed(fs::remove_file(path)),
            Err(error) => self.removed(Err(error)),
        }
    }

    /// Makes an empty directory for the TPM's state: each machine begins with a TPM that has measured nothing.
    pub(super) fn make_tpm_state(&self) -> Result<(), RunDirectoryError> {
        let made = DirBuilder::new().mode(0o700).create(self.join(TPM_STATE));
        made.map_err(|source| self.fault(source))
    }

    /// Writes a file whole or not at all: somebody may be waiting for it.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), RunDirectoryError> {
        let unfinished = self.join(&format!("{name}.new"));
        let written =
            fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, self.join(name)));
        written.map_err(|source| self.fault(source))
    }

    fn removed(&self, result: io::Result<()>) -> Result<(), RunDirectoryError> {
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.fault(error)),
            _ => Ok(()),
        }
    }

    pub(super) fn fault(&self, source: io::Error) -> RunDirectoryError {
        RunDirectoryError::Io {
            path: self.path.clone(),
            source,
        }
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
pub(super) fn check_name(path: &Path) -> Result<(), RunDirectoryError> {
    let plain = |text: &str| !text.chars().any(|c| c == ',' || c.is_control());
    if !path.to_str().is_some_and(plain) {
        return Err(RunDirectoryError::Name(path.to_owned()));
    }
    let longest = path.join(CONFIG);
    match longest.as_os_str().as_bytes().len() <= SOCKET_PATH_BYTES_MAX {
        true => Ok(()),
        false => Err(RunDirectoryError::TooLong(longest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_live_launch_is_refused_and_a_dead_ones_remains_are_removed() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/run");
        let first = RunDirectory::open(&path).expect("made");
        assert!(matches!(
            RunDirectory::open(&path),
            Err(RunDirectoryError::Busy(_))
        ));
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
    fn what_is_no_socket_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let precious = directory.path().join(QMP);
        fs::write(&precious, "precious").expect("written");
        assert!(
            matches!(RunDirectory::open(directory.path()), Err(RunDirectoryError::Foreign(path)) if path.ends_with(QMP))
        );
        assert_eq!(fs::read(&precious).expect("read"), b"precious");
    }

    #[test]
    fn names_that_would_be_read_as_something_else_are_refused() {
        let parent = tempfile::tempdir().expect("a directory");
        for name in ["a,b", "a\nb"] {
            assert!(matches!(
                RunDirectory::open(&parent.path().join(name)),
                Err(RunDirectoryError::Name(_))
            ));
        }
        let long = parent.path().join("x".repeat(100));
        assert!(matches!(
            RunDirectory::open(&long),
            Err(RunDirectoryError::TooLong(_))
        ));
    }
}
