//! The two models against their reference runtimes, and files that lie.

#[path = "../../model/tests/model/changed.rs"]
mod changed;
mod chat;
mod checkpoint;
mod encoder;
mod families;
mod hostile_files;
mod invariance;
mod memory;
mod minilm;
mod packed;
mod smollm2;
