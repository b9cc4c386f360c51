//! A model's files, its root and its rule from messages to tokens, held against the model that tests make.

mod changed;
mod decoder;
mod files;
mod gguf;
mod text;
mod text_gguf;
mod volume;
mod weights;
mod whole;
