//! What ends a command: whose fault it is, and a sentence that says what went wrong.

use std::fmt::Display;
use std::path::Path;

use serde::Serialize;

/// Prints as its sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{sentence}")]
pub struct Error {
    fault: Fault,
    sentence: String,
}

/// Whose fault a failure is, so that people know where to look. One lower-case word under `--json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs)]
pub enum Fault {
    /// The command line: exit code 2.
    Arguments,
    /// Something that the caller has to end or to move first.
    Caller,
    Recipe,
    Lock,
    Mirror,
    /// Nobody's: the archive dropped what the lock names, as archives do.
    Gone,
    Network,
    Disk,
    /// This machine, which lacks something.
    Host,
    Clock,
    /// A program that was started: a compiler, `mkfs.erofs`, QEMU.
    Tool,
    /// One of the builds of `repro-check`.
    Build,
    /// The directory that something was to be written to.
    Output,
    Image,
    Release,
    Model,
    Volume,
}

impl Error {
    /// An error with this sentence.
    pub fn new(fault: Fault, sentence: impl Into<String>) -> Self {
        let sentence = sentence.into();
        Self { fault, sentence }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// Makes a `map_err` argument for an operation on a file.
    pub(crate) fn disk<E: Display>(doing: &str, path: &Path) -> impl Fn(E) -> Self + use<E> {
        let begin = format!("{doing} {}", path.display());
        move |error| Self::new(Fault::Disk, format!("{begin}: {error}"))
    }

    /// Makes a `map_err` argument that keeps the words of the cause, behind those of `context`.
    pub(crate) fn of<E: Display>(fault: Fault, context: &str) -> impl Fn(E) -> Self {
        move |error| Self::new(fault, format!("{context}{error}"))
    }
}

/// Enough of a value to recognise it.
pub(crate) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

/// An error: its fault, and a sentence as `format!` takes it.
macro_rules! error {
    ($fault:ident, $($sentence:tt)+) => {
        $crate::error::Error::new($crate::error::Fault::$fault, format!($($sentence)+))
    };
}

pub(crate) use error;
