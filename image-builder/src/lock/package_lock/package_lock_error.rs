//! What is wrong with a package lock.

/// What is wrong with a package lock. Always the fault of whoever wrote or chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageLockError {
    /// The file could not be read.
    #[error("the package lock {path} cannot be read: {reason}; `image-builder lock` makes one")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// It is longer than any lock should be.
    #[error("the package lock is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// It is not JSON, has a key we do not know, or lacks one we need.
    #[error("the package lock does not parse: {0}")]
    Syntax(String),
    /// It is of another version.
    #[error(
        "the package lock has version {got}; this program reads version 2; `image-builder lock` makes one"
    )]
    Version {
        /// The version it names.
        got: u32,
    },
    /// A value is not of the form that its key asks for.
    #[error("the package lock's {key} of `{of}` is not what it should be: `{got}`")]
    Value {
        /// Which key.
        key: &'static str,
        /// Of which package or part.
        of: String,
        /// What it says.
        got: String,
    },
    /// A list is not sorted, or has something twice.
    #[error("the package lock has `{name}` out of order or twice")]
    Order {
        /// What stands in the wrong place.
        name: String,
    },
    /// A set names a package that is not there.
    #[error("the package lock names {name}, which is not among its packages")]
    Absent {
        /// Which.
        name: String,
    },
    /// It was made for another recipe, or for this one before it changed.
    #[error("the package lock is not of this recipe: {why}; run `image-builder lock`")]
    OtherRecipe {
        /// What differs.
        why: String,
    },
}

pub(super) fn value(key: &'static str, of: &str, got: &str) -> PackageLockError {
    PackageLockError::Value {
        key,
        of: cut(of),
        got: cut(got),
    }
}

/// Enough of a value to recognise it.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
