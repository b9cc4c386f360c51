//! One signer for each wallet: who settles holds a lock on the state file's neighbour and on the wallet's key file; where the state is
//! a database that hosts share, it holds the lease in it, too.
//!
//! Promises: of all processes of this host that share the state file or the key file, one signs at a time. The kernel gives the lock
//! back when its holder ends, however it ends; there is no time to wait for and nothing to clean up. Of all hosts that share a
//! database, one signs at a time; the lease of one that was killed runs out by the database's clock.
//!
//! Lacks: a signer on another host with another database, or one with copies of both files. The chain shows those: their messages take
//! numbers that these books did not give ([`SettleError::OldBooks`](crate::settle::SettleError::OldBooks)).

use crate::error::Error;
use crate::limits::{SIGNER_LEASE, SIGNER_POLL, SIGNER_WAIT};
use crate::store::{LeaseId, Store};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// What must be locked to sign for a wallet.
#[derive(Clone)]
pub struct SignerLock {
    beside_state: Option<PathBuf>,
    key_file: Option<PathBuf>,
    /// The books with the lease, and for how long it is taken.
    shared: Option<(Store, Duration)>,
}

/// The lock, until dropped.
pub struct Held {
    #[expect(dead_code, reason = "held for their locks")]
    files: Vec<File>,
    lease: Option<Lease>,
}

/// A lease, which is renewed until dropped.
struct Lease {
    id: LeaseId,
    store: Store,
    renewing: JoinHandle<()>,
}

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
    #[error(
        "another host signs for this wallet now ({holder}); it settles for both, or try again when it has ended"
    )]
    Leased { holder: String },
    #[error(transparent)]
    Store(#[from] Error),
}

impl SignerLock {
    /// For the books in `state` and the key in `key_file`, if it comes from a file.
    pub fn new(state: &Path, key_file: Option<&Path>) -> Self {
        let mut name = state.as_os_str().to_owned();
        name.push(".signer");
        SignerLock {
            beside_state: Some(name.into()),
            key_file: key_file.map(Path::to_owned),
            shared: None,
        }
    }

    /// The same for books that hosts share.
    pub fn shared(store: &Store, key_file: Option<&Path>) -> Self {
        SignerLock {
            beside_state: None,
            key_file: key_file.map(Path::to_owned),
            shared: Some((store.clone(), SIGNER_LEASE)),
        }
    }

    /// The same with a lease for this time.
    #[cfg(test)]
    pub(crate) fn leased_for(mut self, time: Duration) -> Self {
        self.shared = self.shared.map(|(store, _)| (store, time));
        self
    }

    /// Waits for its turn, at most [`SIGNER_WAIT`].
    pub async fn acquire(&self) -> Result<Held, LockError> {
        let started = Instant::now();
        loop {
            match self.attempt().await {
                Err(LockError::Busy { .. } | LockError::Leased { .. })
                    if started.elapsed() < SIGNER_WAIT =>
                {
                    tokio::time::sleep(SIGNER_POLL).await;
                }
                done => return done,
            }
        }
    }

    async fn attempt(&self) -> Result<Held, LockError> {
        let files = self.lock_files()?;
        let lease = match &self.shared {
            Some((store, time)) => Some(Lease::take(store, *time).await?),
            None => None,
        };
        Ok(Held { files, lease })
    }

    /// The locks of this host, if nobody has them.
    pub(crate) fn lock_files(&self) -> Result<Vec<File>, LockError> {
        let mut files = Vec::new();
        if let Some(path) = &self.beside_state {
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create(true).truncate(false);
            let mut beside = lock(path, options.mode(0o600))?;
            let written = beside
                .set_len(0)
                .and_then(|()| beside.rewind())
                .and_then(|()| writeln!(beside, "process {}", std::process::id()));
            written.map_err(|error| LockError::Io {
                file: path.clone(),
                error,
            })?;
            files.push(beside);
        }
        if let Some(path) = &self.key_file {
            files.push(lock(path, OpenOptions::new().read(true))?);
        }
        Ok(files)
    }
}

impl Held {
    /// What a message is begun with in books that hosts share.
    pub(crate) fn lease(&self) -> Option<LeaseId> {
        self.lease.as_ref().map(|lease| lease.id)
    }
}

impl Lease {
    async fn take(store: &Store, time: Duration) -> Result<Self, LockError> {
        let id = LeaseId::new()?;
        let taken = store.on_disk(move |s| s.take_lease(&id, &holder(), time));
        if let Some(holder) = taken.await? {
            return Err(LockError::Leased { holder });
        }
        let renewed = store.clone();
        let renewing = tokio::spawn(async move {
            loop {
                tokio::time::sleep(time / 3).await;
                match renewed.on_disk(move |s| s.renew_lease(&id, time)).await {
                    Ok(true) => {}
                    // The next message is not begun, and says so.
                    Ok(false) => return tracing::warn!("the lease to sign was lost"),
                    Err(error) => tracing::warn!(%error, "the lease to sign was not renewed"),
                }
            }
        });
        Ok(Lease {
            id,
            store: store.clone(),
            renewing,
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.renewing.abort();
        // Else others wait until it runs out.
        if let Err(error) = self.store.end_lease(&self.id) {
            tracing::warn!(%error, "the lease to sign was not given back");
        }
    }
}

/// What a host says of itself to others.
fn holder() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("host {}, process {}", host.trim(), std::process::id())
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
        let held = one.lock_files().expect("nobody has it");
        for second in [&one, &other] {
            let busy = second.lock_files().expect_err("one at a time");
            assert!(matches!(busy, LockError::Busy { .. }), "{busy}");
        }
        let said = one.lock_files().expect_err("one at a time").to_string();
        let own = format!("process {},", std::process::id());
        assert!(said.contains(&own), "{said}");
        // Another key is another wallet's affair.
        let apart = SignerLock::new(&at("other.sqlite"), None);
        drop(apart.lock_files().expect("free"));
        drop(held);
        other.lock_files().expect("given back");
    }
}
