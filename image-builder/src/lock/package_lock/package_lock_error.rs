//! What is wrong with a package lock.

/// What is wrong with a package lock. Always the fault of whoever wrote or chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum PackageLockError {
    #[error("the package lock {path} cannot be read: {reason}; `image-builder lock` makes one")]
    Unreadable { path: String, reason: String },
    #[error("the package lock is longer than {bytes_max} bytes")]
    TooLong { bytes_max: u64 },
    #[error("the package lock does not parse: {0}")]
    Syntax(String),
    #[error(
        "the package lock has version {got}; this program reads version 2; `image-builder lock` makes one"
    )]
    Version { got: u32 },
    #[error("the package lock's {key} of `{of}` is not what it should be: `{got}`")]
    Value {
        key: &'static str,
        of: String,
        got: String,
    },
    #[error("the package lock has `{name}` out of order or twice")]
    Order { name: String },
    #[error("the package lock names {name}, which is not among its packages")]
    Absent { name: String },
    #[error("the package lock is not of this recipe: {why}; run `image-builder lock`")]
    OtherRecipe { why: String },
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
