//! The command line of `measurements`: reads files, calls the library, prints.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
