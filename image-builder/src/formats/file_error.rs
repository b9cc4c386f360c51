//! A file operation that failed: what was being done, and with which file.

use std::fmt::Display;
use std::io;
use std::path::Path;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{doing} {path}: {reason}")]
pub struct FileError {
    doing: &'static str,
    path: String,
    reason: String,
}

impl FileError {
    /// With the words of the cause.
    pub fn new(doing: &'static str, path: &Path, cause: &impl Display) -> Self {
        Self {
            doing,
            path: path.display().to_string(),
            reason: cause.to_string(),
        }
    }

    /// Makes a `map_err` argument.
    pub fn of<E: From<Self>>(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> E {
        move |error| Self::new(doing, path, &error).into()
    }
}
