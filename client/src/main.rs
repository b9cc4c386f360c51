//! The developer's sidecar, as a program.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Misuse ends inside `parse`, with exit code 2.
    client::cli::run(client::cli::Arguments::parse())
}
