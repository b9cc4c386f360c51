//! Why there is no new lock.

use crate::lock::debian::{IndexError, KeyError, ReleaseError, Unsolved};
use crate::lock::package_lock::PackageLockError;
use crate::store::{Fault, FetchError};

/// Why there is no new lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum LockingError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{url} {error}")]
    Release { url: String, error: ReleaseError },
    #[error("the key {file} {error}")]
    Key { file: String, error: KeyError },
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Unsolved(#[from] Unsolved),
    #[error("{package} leads to {found} kernels in the archive; a recipe needs one")]
    Kernel { package: String, found: usize },
    #[error("no mirror shows {suite} as it should be: {}", sentences(.tried))]
    Nowhere {
        suite: String,
        tried: Vec<LockingError>,
    },
    #[error("the input {name} {problem}")]
    Input { name: String, problem: String },
    #[error("there is no {name} in the lock to update")]
    NotLocked { name: String },
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
            Self::Unsolved(error) if error.is_of_the_index() => Fault::Mirror,
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
