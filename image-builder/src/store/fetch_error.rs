//! What can go wrong while fetching, and whose fault it is.

use std::io;
use std::path::Path;

use crate::lock::{Digest, LockError};

/// Why a file is not in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// The lock is wrong, or what it lists is not in the archive that it lists.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The archive has the digest that the lock names, and yet not the content that the lock promises.
    #[error(
        "the archive {archive} is the one in the lock, but its member {member} {problem}: the lock contradicts itself"
    )]
    Contents {
        /// The archive's file name.
        archive: String,
        /// The member looked for.
        member: String,
        /// What was found.
        problem: String,
    },
    /// The mirror answered, and answered wrongly.
    #[error("the mirror of {url} {fault}")]
    Mirror {
        /// What was asked for.
        url: String,
        /// What it did.
        fault: MirrorFault,
    },
    /// The mirror could not be reached or the connection broke; a later run resumes.
    #[error(
        "the network failed after {got} of {expected} bytes of {url}: {reason}; run again to resume"
    )]
    Network {
        /// What was asked for.
        url: String,
        /// Bytes that are in the partial file.
        got: u64,
        /// Bytes wanted.
        expected: u64,
        /// What the system said.
        reason: String,
    },
    /// The store could not be read or written.
    #[error("{doing} {path}: {reason}")]
    Disk {
        /// A verb in the -ing form.
        doing: &'static str,
        /// The file or directory.
        path: String,
        /// For callers that tell a full disk from a forbidden one.
        kind: io::ErrorKind,
        /// What the system said.
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
pub enum MirrorFault {
    /// It answered with a status other than 200 or 206.
    #[error("answered with HTTP status {0}")]
    Status(u16),
    /// It announced or sent more or fewer bytes than the file has.
    #[error("announced {got} bytes where the lock has {expected}")]
    Length {
        /// What it announced.
        got: u64,
        /// What the lock says.
        expected: u64,
    },
    /// It went on sending past the end.
    #[error("sent more than the {expected} bytes in the lock")]
    TooLong {
        /// What the lock says.
        expected: u64,
    },
    /// It sent more than any file of this kind has.
    #[error("sent more than {bytes_max} bytes")]
    Endless {
        /// The limit.
        bytes_max: u64,
    },
    /// It sent another range than the one asked for.
    #[error("answered a range request with `{got}`")]
    Range {
        /// Its Content-Range.
        got: String,
    },
    /// It sent other bytes.
    #[error("sent a file with SHA-256 {got} where the lock has {expected}")]
    WrongDigest {
        /// Of what it sent.
        got: Digest,
        /// What the lock says.
        expected: Digest,
    },
}
