//! What can be wrong with a model.

use thiserror::Error;

use crate::files::FilesError;
use crate::packed_file::PackedFileError;
use crate::whole::Flaw;

/// Files that do not describe a model which can be run here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum ModelError {
    #[error("config.json: {0}")]
    Config(String),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("generation_config.json: {0}")]
    Generation(String),
    #[error("{0}")]
    Pooling(String),
    #[error("the metadata of the GGUF file: {0}")]
    Gguf(String),
    #[error("the model needs {0}, which is not supported")]
    Unsupported(String),
    #[error("the header of model.safetensors: {0}")]
    Header(String),
    #[error("{file} {flaw}")]
    Weights { file: String, flaw: Flaw },
    #[error("the file of packed weights: {0}")]
    PackedFile(#[from] PackedFileError),
    #[error("the weights have no tensor {0}")]
    TensorMissing(String),
    #[error(
        "the weights have a tensor {0}, which is no part of the model that config.json describes"
    )]
    TensorExtra(String),
    #[error("the weights have two tensors {0}")]
    TensorTwice(String),
    #[error("tensor {name} has shape {found:?}, config.json calls for {expected:?}")]
    TensorShape {
        name: String,
        found: Vec<usize>,
        expected: Vec<usize>,
    },
    #[error("tensor {name} is stored as {found}, which is not read here")]
    TensorType { name: String, found: String },
    #[error("tensor {0} holds a number that is not finite")]
    TensorNotFinite(String),
    #[error("tokenizer.json: {0}")]
    Tokenizer(String),
    #[error("the chat template: {0}")]
    Template(String),
}
