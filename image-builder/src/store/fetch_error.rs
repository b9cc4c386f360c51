//! What can go wrong while fetching, as far as another try or another mirror may help.

use registers::Digest32;

use crate::error::{Error, Fault};

/// Why a file is not in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum FetchError {
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
    #[error(transparent)]
    Other(#[from] Error),
}

impl FetchError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Mirror { .. } => Fault::Mirror,
            Self::Network { .. } => Fault::Network,
            Self::Other(error) => error.fault(),
        }
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        Self::new(error.fault(), error.to_string())
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
