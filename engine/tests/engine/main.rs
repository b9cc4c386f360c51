//! The two models against their reference runtimes, and files that lie.

#[path = "../../model/tests/model/changed.rs"]
mod changed;
mod chat;
mod checkpoint;
mod encoder;
mod forms;
mod hostile_files;
mod invariance;
mod memory;
mod minilm;
mod packed;
mod packed_file;
mod peers;
mod smollm2;
