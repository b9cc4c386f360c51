//! What can be wrong with a model.

use thiserror::Error;

/// Files that do not describe a model which can be run here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum ModelError {
    #[error("config.json: {0}")]
    Config(String),
    #[error("the model needs {0}, which is not supported")]
    Unsupported(String),
    #[error("the header of model.safetensors: {0}")]
    Header(String),
    #[error("model.safetensors has no tensor {0}")]
    TensorMissing(String),
    #[error("tensor {name} has shape {found:?}, config.json calls for {expected:?}")]
    TensorShape {
        name: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
    #[error("tensor {name} is stored as {found}; only F32 is supported")]
    TensorType { name: String, found: String },
    #[error("tensor {0} holds a number that is not finite")]
    TensorNotFinite(String),
    #[error("tokenizer.json: {0}")]
    Tokenizer(String),
    #[error("tokenizer_config.json: {0}")]
    Template(String),
}
