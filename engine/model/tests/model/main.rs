//! A model's files, its root and its rule from messages to tokens, held against the model that the repository carries.

mod changed;
mod decoder;
mod files;
mod gguf;
mod text;
mod volume;
mod weights;
mod whole;
