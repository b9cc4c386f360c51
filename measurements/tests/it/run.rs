//! The program, run as a user runs it.

use std::{
    path::Path,
    process::{Command, Output},
};

/// Runs the program in a directory.
pub fn run(directory: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_measurements"))
        .current_dir(directory)
        .args(arguments)
        .output()
        .unwrap()
}

/// What it printed, as JSON.
pub fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}
