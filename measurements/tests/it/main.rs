//! The program, run as a user runs it, and libraries through it.

mod bundle;
mod cases;
mod cli;
mod common;
mod explain;
#[path = "../../diagnose/tests/it/explained.rs"]
mod explained;
mod firmware;
mod gpu;
mod image;
mod machine_set;
mod replay;
mod runtime;
mod shape;
mod shell_words;
