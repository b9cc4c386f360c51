//! A model's files, its root and its rule from messages to tokens, held against the model that the repository carries.

mod changed;
mod files;
mod text;
mod volume;
mod whole;
