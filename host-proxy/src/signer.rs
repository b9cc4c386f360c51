//! One signer for each wallet: who settles holds a lock on the state file's neighbour and on the wallet's key file.
//!
//! Promises: of all processes of this host that share the state file or the key file, one signs at a time. The kernel gives the lock
//! back when its holder ends, however it ends; there is no time to wait for and nothing to clean up.
//!
//! Lacks: a signer on another host, or one with copies of both files. The chain shows those: their messages take numbers that these
//! books did not give ([`SettleError::OldBooks`](crate::settle::SettleError::OldBooks)).

use crate::limits::{SIGNER_POLL, SIGNER_WAIT};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::time::Instant;

/// What must be locked to sign for a wallet.
#[derive(Debug, Clone)]
pub struct SignerLock {
    beside_state: PathBuf,
    key_file: Option<PathBuf>,
}

/// The lock, until dropped.
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "held for their locks")] Vec<File>);

/// Why this process does not sign.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error(
        "another process{} signs for this wallet now ({} is locked); it settles for both, or try again when it has ended",
        holder.as_deref().map(|pid| format!(", {pid},")).unwrap_or_default(), file.display()
    )]
    Busy {
        file: PathBuf,
        /// Its process id, where it is known.
        holder: Option<String>,
    },
    #[error("{} cannot be locked: {error}", file.display())]
    Io { file: PathBuf, error: io::Error },
}

impl SignerLock {
    /// For the books in `state` and the key in `key_file`, if it comes from a file.
    pub fn new(state: &Path, key_file: Option<&Path>) -> Self {
        let mut name = state.as_os_str().to_owned();
        name.push(".signer");
        SignerLock {
            beside_state: name.into(),
            key_file: key_file.map(Path::to_owned),
        }
    }

    /// Waits for its turn, at most [`SIGNER_WAIT`].
    pub async fn acquire(&self) -> Result<Held, LockError> {
        let started = Instant::now();
        loop {
            match self.try_acquire() {
                Err(LockError::Busy { .. }) if started.elapsed() < SIGNER_WAIT => {
                    tokio::time::sleep(SIGNER_POLL).await;
                }
                done => return done,
            }
        }
    }

    /// The lock, if nobody has it.
    pub fn try_acquire(&self) -> Result<Held, LockError> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut beside = lock(&self.beside_state, options.mode(0o600))?;
        let written = beside
            .set_len(0)
            .and_then(|()| beside.rewind())
            .and_then(|()| writeln!(beside, "process {}", std::process::id()));
        written.map_err(|error| LockError::Io {
            file: self.beside_state.clone(),
            error,
        })?;
        let key = self.key_file.as_deref();
        let key = key.map(|file| lock(file, OpenOptions::new().read(true)));
        let key = key.transpose()?;
        Ok(Held([Some(beside), key].into_iter().flatten().collect()))
    }
}

fn lock(file: &Path, options: &OpenOptions) -> Result<File, LockError> {
    let failed = |error| LockError::Io {
        file: file.to_owned(),
        error,
    };
    let mut opened = options.open(file).map_err(failed)?;
    match opened.try_lock() {
        Ok(()) => Ok(opened),
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // A key file says no holder, and is not shown.
            if file.extension().is_some_and(|end| end == "signer") {
                let _ = (&mut opened).take(32).read_to_string(&mut holder);
            }
            let holder = holder.trim();
            Err(LockError::Busy {
                file: file.to_owned(),
                holder: (!holder.is_empty()).then(|| holder.to_owned()),
            })
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::directory;

    #[test]
    fn of_two_books_with_one_key_file_one_signs() {
        let directory = directory();
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("wallet.key"), "x").expect("written");
        let key = at("wallet.key");
        let one = SignerLock::new(&at("one.sqlite"), Some(&key));
        let other = SignerLock::new(&at("other.sqlite"), Some(&key));
        let held = one.try_acquire().expect("nobody has it");
        for second in [&one, &other] {
            let busy = second.try_acquire().expect_err("one at a time");
            assert!(matches!(busy, LockError::Busy { .. }), "{busy}");
        }
        let said = one.try_acquire().expect_err("one at a time").to_string();
        let own = format!("process {},", std::process::id());
        assert!(said.contains(&own), "{said}");
        // Another key is another wallet's affair.
        let apart = SignerLock::new(&at("other.sqlite"), None);
        drop(apart.try_acquire().expect("free"));
        drop(held);
        other.try_acquire().expect("given back");
    }
}
