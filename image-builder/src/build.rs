//! The image: what goes in, and the files that come out.

pub mod contents;
