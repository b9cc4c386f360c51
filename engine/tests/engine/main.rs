//! The two models against their reference runtimes, and files that lie.

#[path = "../../model/tests/model/changed.rs"]
mod changed;
mod chat;
mod checkpoint;
mod families;
mod hostile_files;
mod minilm;
