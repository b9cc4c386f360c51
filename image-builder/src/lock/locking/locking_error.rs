//! Why there is no new lock.

use crate::lock::debian::{IndexError, KeyError, ReleaseError, Unsolved};
use crate::lock::package_lock::PackageLockError;
use crate::store::{Fault, FetchError};

/// Why there is no new lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockingError {
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The suite's release file is wrong.
    #[error("{url} {error}")]
    Release {
        /// Where it came from.
        url: String,
        /// What is wrong.
        error: ReleaseError,
    },
    /// A key that the recipe pins cannot be used.
    #[error("the key {file} {error}")]
    Key {
        /// Its file, as the recipe names it.
        file: String,
        /// What is wrong.
        error: KeyError,
    },
    /// The index is wrong.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The recipe asks for what the archive does not have.
    #[error(transparent)]
    Unsolved(#[from] Unsolved),
    /// The kernel's package is none, or stands for none or several.
    #[error("{package} leads to {found} kernels in the archive; a recipe needs one")]
    Kernel {
        /// What the recipe names.
        package: String,
        /// How many.
        found: usize,
    },
    /// No mirror shows a suite as it should be.
    #[error("no mirror shows {suite} as it should be: {}", sentences(.tried))]
    Nowhere {
        /// Which suite.
        suite: String,
        /// What is the matter with each.
        tried: Vec<LockingError>,
    },
    /// An input cannot be locked.
    #[error("the input {name} {problem}")]
    Input {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// What is to be updated is not there.
    #[error("there is no {name} in the lock to update")]
    NotLocked {
        /// What was named.
        name: String,
    },
    /// What came out would not be read back.
    #[error(transparent)]
    Lock(#[from] PackageLockError),
}

impl LockingError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Fetch(error) => error.fault(),
            Self::Release { .. } | Self::Index(_) => Fault::Mirror,
            Self::Nowhere { tried, .. } => tried.first().map_or(Fault::Mirror, Self::fault),
            Self::Key { .. }
            | Self::Unsolved(_)
            | Self::Kernel { .. }
            | Self::Input { .. }
            | Self::NotLocked { .. } => Fault::Recipe,
            Self::Lock(_) => Fault::Lock,
        }
    }
}

fn sentences(tried: &[LockingError]) -> String {
    let tried: Vec<_> = tried.iter().map(LockingError::to_string).collect();
    tried.join("; ")
}
