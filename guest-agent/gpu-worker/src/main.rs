//! The command line of the gate and of the worker.

use gpu_worker::{Computing, LIBRARY, cuda};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use wire::LoadPlan;

const HELP: &str = "\
Asks the driver of a GPU for evidence, or computes on the GPU, for the guest agent that started it.

Usage: gpu-worker --gate [--library LIBRARY]
       gpu-worker --serve

Options:
      --gate             Answer the agent, which is the socket on standard input, with evidence
      --library LIBRARY  The driver's management library [default: libnvidia-ml.so.1]
      --serve            Load one model and run its jobs, for the agent on standard input
  -h, --help             Print help
  -V, --version          Print version";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let served = match words[..] {
        ["--gate"] => agent().and_then(|agent| gate(agent, Path::new(LIBRARY))),
        ["--gate", "--library", path] => {
            agent().and_then(|agent| gate(agent, &PathBuf::from(path)))
        }
        ["--serve"] => agent().and_then(|agent| {
            gpu_worker::serve_jobs(agent, load).map_err(|error| error.to_string())
        }),
        ["-h" | "--help"] => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        ["-V" | "--version"] => {
            println!("gpu-worker {}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!(
                "gpu-worker: neither --gate nor --serve, or something else is there\n\n{HELP}"
            );
            return ExitCode::from(2);
        }
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gpu-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn agent() -> Result<OwnedFd, String> {
    let agent = std::io::stdin().as_fd().try_clone_to_owned();
    agent.map_err(|error| format!("standard input: {error}"))
}

fn gate(agent: OwnedFd, library: &Path) -> Result<(), String> {
    let served = gpu_worker::serve(UnixStream::from(agent), library);
    served.map_err(|error| format!("the agent: {error}"))
}

fn load(plan: &LoadPlan) -> Result<Computing, String> {
    cuda::load(plan, Path::new(CUBINS)).map_err(|error| error.to_string())
}

/// Where the image has what the kernels were compiled to.
const CUBINS: &str = "/usr/lib/chrysalis/cubins";
