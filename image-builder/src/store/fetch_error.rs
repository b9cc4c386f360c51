//! What can go wrong while fetching, and whose fault it is.

use std::io;
use std::path::Path;

use crate::lock::LockError;
use registers::Digest32;

/// Why a file is not in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum FetchError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(
        "the archive {archive} is the one in the lock, but its member {member} {problem}: the lock contradicts itself"
    )]
    Contents {
        archive: String,
        member: String,
        problem: String,
    },
    #[error("the mirror of {url} {fault}")]
    Mirror { url: String, fault: MirrorFault },
    #[error(
        "the network failed after {got} of {expected} bytes of {url}: {reason}; run again to resume"
    )]
    Network {
        url: String,
        got: u64,
        expected: u64,
        reason: String,
    },
    #[error("{doing} {path}: {reason}")]
    Disk {
        doing: &'static str,
        path: String,
        kind: io::ErrorKind,
        reason: String,
    },
}

impl FetchError {
    /// Whose fault it is, so that a person knows where to look.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Lock(_) | Self::Contents { .. } => Fault::Lock,
            Self::Mirror { .. } => Fault::Mirror,
            Self::Network { .. } => Fault::Network,
            Self::Disk { .. } => Fault::Disk,
        }
    }

    /// Makes a `map_err` argument for file operations.
    pub(crate) fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Disk {
            doing,
            path: path.display().to_string(),
            kind: error.kind(),
            reason: error.to_string(),
        }
    }
}

/// Where a failure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The recipe.
    Recipe,
    /// The lock file.
    Lock,
    /// The server that was asked.
    Mirror,
    /// Nobody's: the archive dropped what the lock names, as archives do.
    Gone,
    /// The way to it.
    Network,
    /// The store's disk.
    Disk,
}

impl Fault {
    /// One lower-case word, for `--json`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Recipe => "recipe",
            Self::Lock => "lock",
            Self::Mirror => "mirror",
            Self::Gone => "gone",
            Self::Network => "network",
            Self::Disk => "disk",
        }
    }
}

/// What a mirror did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum MirrorFault {
    #[error("answered with HTTP status {0}")]
    Status(u16),
    #[error("announced {got} bytes where the lock has {expected}")]
    Length { got: u64, expected: u64 },
    #[error("sent more than the {expected} bytes in the lock")]
    TooLong { expected: u64 },
    #[error("sent more than {bytes_max} bytes")]
    Endless { bytes_max: u64 },
    #[error("answered a range request with `{got}`")]
    Range { got: String },
    #[error("sent a file with SHA-256 {got} where the lock has {expected}")]
    WrongDigest { got: Digest32, expected: Digest32 },
}
