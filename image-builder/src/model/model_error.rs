//! Why there is no volume, or why one is not believed.

use std::io;
use std::path::Path;

use crate::formats::erofs::writer::RootError;
use crate::image::BuildError;

/// Why a directory was not packed or a volume not accepted.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file or directory of the model may not be in a volume.
    #[error("{path}: {problem}")]
    Refused {
        /// Its path in the model's directory.
        path: String,
        /// Why, and what to do.
        problem: &'static str,
    },
    /// A number is over its limit.
    #[error("{path}: more than {max} {what}")]
    TooMuch {
        /// Where it was seen.
        path: String,
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// The directory is no model.
    #[error("{path} has no file of weights (*.safetensors)")]
    NoWeights {
        /// The directory.
        path: String,
    },
    /// A path to leave out that is not there.
    #[error("there is no {path} to leave out")]
    NothingToLeaveOut {
        /// As given.
        path: String,
    },
    /// A name that cannot be the model's.
    #[error(
        "`{id}` cannot be a model's name: letters, digits, `.`, `-` and `_`, at most 64 of them, the first no dot"
    )]
    Id {
        /// As given.
        id: String,
    },
    /// A file could not be read or written.
    #[error("{doing} {path}: {error}")]
    Disk {
        /// A verb in the -ing form.
        doing: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        error: io::Error,
    },
    /// The file system could not be made.
    #[error(transparent)]
    FileSystem(#[from] RootError),
    /// The output directory cannot be used.
    #[error(
        "{path} is there and holds no model volume; name a directory that is new, empty, or a volume's"
    )]
    Occupied {
        /// Which.
        path: String,
    },
    /// The output directory failed otherwise.
    #[error(transparent)]
    Place(BuildError),
    /// A description is not of the form.
    #[error("the description of the volume {0}")]
    Description(String),
    /// The volume is not the one that is described or asked for.
    #[error("the volume is not what it should be: {0}")]
    Volume(String),
    /// The statement is not the one that the description leads to.
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
            Self::Place(error) => error.fault(),
            Self::Description(_) | Self::Volume(_) | Self::Statement(_) => "volume",
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
            error => Self::Place(error),
        }
    }
}
