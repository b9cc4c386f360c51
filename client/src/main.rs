//! The developer's sidecar, as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    client::cli::run(client::cli::arguments())
}
