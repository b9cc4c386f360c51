//! Why there is no volume, or why one is not believed.

use std::io;
use std::path::Path;

use crate::formats::erofs::writer::RootError;
use crate::image::BuildError;

/// Why a directory was not packed or a volume not accepted.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum ModelError {
    #[error("{path}: {problem}")]
    Refused { path: String, problem: &'static str },
    #[error("{path}: more than {max} {what}")]
    TooMuch {
        path: String,
        what: &'static str,
        max: u64,
    },
    #[error("{path} has no file of weights (*.safetensors)")]
    NoWeights { path: String },
    #[error("there is no {path} to leave out")]
    NothingToLeaveOut { path: String },
    #[error(
        "`{id}` cannot be a model's name: letters, digits, `.`, `-` and `_`, at most 64 of them, the first no dot"
    )]
    Id { id: String },
    #[error("{doing} {path}: {error}")]
    Disk {
        doing: &'static str,
        path: String,
        error: io::Error,
    },
    #[error(transparent)]
    FileSystem(#[from] RootError),
    #[error(
        "{path} is there and holds no model volume; name a directory that is new, empty, or a volume's"
    )]
    Occupied { path: String },
    #[error(transparent)]
    OutputDir(BuildError),
    #[error("the description of the volume {0}")]
    Description(String),
    #[error(transparent)]
    Unread(#[from] ::model::volume::VolumeError),
    #[error("the volume is not what it should be: {0}")]
    Volume(String),
    #[error("the statement about the files {0}")]
    Statement(String),
}

impl ModelError {
    /// One lower-case word, for `--json`.
    pub fn fault(&self) -> &'static str {
        match self {
            Self::Refused { .. }
            | Self::TooMuch { .. }
            | Self::NoWeights { .. }
            | Self::NothingToLeaveOut { .. }
            | Self::Id { .. } => "model",
            Self::Disk { .. } => "disk",
            Self::FileSystem(_) => "tool",
            Self::Occupied { .. } => "output",
            Self::OutputDir(error) => error.fault(),
            Self::Description(_) | Self::Unread(_) | Self::Volume(_) | Self::Statement(_) => {
                "volume"
            }
        }
    }

    /// Makes a `map_err` argument for file operations.
    pub(super) fn disk(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> Self {
        move |error| Self::Disk {
            doing,
            path: path.display().to_string(),
            error,
        }
    }
}

impl From<BuildError> for ModelError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Occupied { path } => Self::Occupied { path },
            error => Self::OutputDir(error),
        }
    }
}
