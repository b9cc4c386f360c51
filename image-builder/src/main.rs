//! The `image-builder` program: arguments in, people's words to stderr, data to stdout.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
