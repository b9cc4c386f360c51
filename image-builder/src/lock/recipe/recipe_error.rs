//! What is wrong with a recipe.

/// What is wrong with a recipe. Always the fault of whoever wrote or chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipeError {
    /// The file could not be read.
    #[error("the recipe {path} cannot be read: {reason}")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// It is longer than a recipe should be.
    #[error("the recipe is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// It is not YAML, has a key we do not know, lacks one we need, or a value that is of no form at all.
    #[error("the recipe does not parse: {0}")]
    Syntax(String),
    /// It is of another version.
    #[error("the recipe has version {got}; this program reads version 2")]
    Version {
        /// The version it names.
        got: u32,
    },
    /// A value is not of the form that its key asks for.
    #[error("the recipe's {key} is `{got}`, which is not {form}")]
    Value {
        /// Which key.
        key: &'static str,
        /// What it says.
        got: String,
        /// What it should look like.
        form: &'static str,
    },
    /// A list is empty or too long.
    #[error("the recipe's {key} has {got} entries; it may have from {min} to {max}")]
    Count {
        /// Which key.
        key: &'static str,
        /// How many there are.
        got: usize,
        /// The fewest.
        min: usize,
        /// The most.
        max: usize,
    },
    /// A list has a name twice.
    #[error("the recipe's {key} has `{name}` twice")]
    Twice {
        /// Which key.
        key: &'static str,
        /// The name.
        name: String,
    },
}
