//! What is wrong with a recipe.

/// What is wrong with a recipe. Always the fault of whoever wrote or chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum RecipeError {
    #[error("the recipe {path} cannot be read: {reason}")]
    Unreadable { path: String, reason: String },
    #[error("the recipe is longer than {bytes_max} bytes")]
    TooLong { bytes_max: u64 },
    #[error("the recipe does not parse: {0}")]
    Syntax(String),
    #[error("the recipe has version {got}; this program reads version 2")]
    Version { got: u32 },
    #[error("the recipe's {key} is `{got}`, which is not {form}")]
    Value {
        key: &'static str,
        got: String,
        form: &'static str,
    },
    #[error("the recipe's {key} has {got} entries; it may have from {min} to {max}")]
    Count {
        key: &'static str,
        got: usize,
        min: usize,
        max: usize,
    },
    #[error("the recipe's {key} has `{name}` twice")]
    Twice { key: &'static str, name: String },
}
