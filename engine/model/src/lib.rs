//! What a model is without running it: its files, its configuration, its root, and the rule from text to tokens.
//!
//! **What it is.** Whoever computes tokens, counts them or decides which model to trust must agree on all of this, so
//! it is defined here once: [`files`] and [`root`] say which bytes a model is, [`whole`] judges whether its files are whole,
//! [`weights`] hands over its tensors row by row, whatever files they lie in ([`tensors`], [`gguf`]), [`decoder`] and [`bert`] read
//! `config.json` of the [`families`], [`pooling`] how vectors are made, [`vocabulary`] which ids there are, [`loadable`] whether all of it
//! fits together, [`limits`] bounds every value, and `text` (a feature, for clients and tools and never for a guest) makes tokens
//! of messages and text of tokens.
//!
//! **Trusts.** Nothing. A model's files may be malformed even when their root is the expected one, and a caller's text
//! may contain control tokens.
//!
//! **Promises.** The same files and the same messages give the same tokens for everybody. A text cannot speak in
//! another role. Whatever is wrong with a file is a typed error before memory is allocated for it.
//!
//! **Lacks.** Tensors and arithmetic, which are the engine's. It opens no file: whoever links it hands in what it opened.

#![forbid(unsafe_code)]

pub mod bert;
pub mod decoder;
pub mod dtype;
mod error;
pub mod families;
pub mod files;
pub mod gguf;
pub mod json;
pub mod limits;
pub mod loadable;
pub mod packed_file;
pub mod pooling;
pub mod root;
pub mod tensors;
#[cfg(feature = "text")]
pub mod text;
pub mod vocabulary;
pub mod volume;
pub mod weights;
pub mod whole;

// The public interface is:
pub use dtype::Dtype;
pub use error::ModelError;
pub use families::{FAMILIES, Family};
pub use files::{Directory, File, FileDigest, FilesError, ModelFiles, Opened};
pub use pooling::{Pooled, Pooling};
pub use root::ModelRoot;
pub use vocabulary::Vocabulary;
pub use weights::{Plan, Weights};
pub use whole::{Flaw, Judge};
