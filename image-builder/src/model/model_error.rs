//! Why there is no volume, or why one is not believed.

use std::io;
use std::path::Path;

use crate::formats::erofs::writer::RootError;
use crate::formats::file_error::FileError;
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
    #[error("{}", told(.0))]
    Files(Vec<RefusedFile>),
    #[error("{path}: its small files cannot be made: {error}")]
    SmallFiles {
        path: String,
        error: ::model::ModelError,
    },
    #[error("there is no {path} to leave out")]
    NothingToLeaveOut { path: String },
    #[error(
        "`{id}` cannot be a model's name: letters, digits, `.`, `-` and `_`, at most 64 of them, the first no dot"
    )]
    Id { id: String },
    #[error(transparent)]
    Disk(#[from] FileError),
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

/// A file that may not be part of a volume, or something that one lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedFile {
    /// Below the model's directory.
    pub path: String,
    /// Why; read after the path.
    pub problem: String,
    /// Whether a model can do without it.
    pub dispensable: bool,
}

/// Every file with its problem on a line of its own, and the words that leave out what can be left out.
fn told(files: &[RefusedFile]) -> String {
    // A line end in a name must not begin a line.
    let shown = |path: &str| path.replace(char::is_control, "\u{fffd}");
    let line = |file: &RefusedFile| format!("{}: {}", shown(&file.path), file.problem);
    let mut lines: Vec<_> = files.iter().map(line).collect();
    let dispensable = files.iter().filter(|file| file.dispensable);
    let words: Vec<_> = dispensable
        .filter_map(|file| Some(format!("--leave-out {}", quoted(&file.path)?)))
        .collect();
    if !words.is_empty() {
        lines.push(format!("to pack the model without: {}", words.join(" ")));
    }
    lines.join("\n")
}

/// As a word of a shell, if it can be typed.
fn quoted(path: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/+=,@%".contains(c);
    match path.chars().all(plain) && !path.starts_with('-') {
        true => Some(path.to_owned()),
        false if path.contains(char::is_control) => None,
        false => Some(format!("'{}'", path.replace('\'', "'\\''"))),
    }
}

impl ModelError {
    /// One lower-case word, for `--json`.
    pub fn fault(&self) -> &'static str {
        match self {
            Self::Refused { .. }
            | Self::TooMuch { .. }
            | Self::Files(_)
            | Self::SmallFiles { .. }
            | Self::NothingToLeaveOut { .. }
            | Self::Id { .. } => "model",
            Self::Disk(_) => "disk",
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
        FileError::of(doing, path)
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
