//! EROFS: the file system of a root and of a model's volume.

pub mod reader;
pub mod writer;
