//! The command line of the gate.

use gpu_worker::LIBRARY;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
Asks the driver of a GPU for evidence, for the guest agent that started it.

Usage: gpu-worker --gate [--library LIBRARY]

Options:
      --gate             Answer the agent, which is the socket on standard input
      --library LIBRARY  The driver's management library [default: libnvidia-ml.so.1]
  -h, --help             Print help
  -V, --version          Print version";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let library = match words[..] {
        ["--gate"] => PathBuf::from(LIBRARY),
        ["--gate", "--library", path] => PathBuf::from(path),
        ["-h" | "--help"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["-V" | "--version"] => {
            println!("gpu-worker {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("gpu-worker: --gate is missing, or something else is there\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    let agent = std::io::stdin().as_fd().try_clone_to_owned();
    let served = agent.and_then(|agent| gpu_worker::serve(UnixStream::from(agent), &library));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu-worker: the agent: {error}");
            ExitCode::FAILURE
        }
    }
}
