//! The agent on a simulated platform, for demonstrations and tests. It accepts only profile `sim`, and no client takes
//! its quotes unless told to trust a test root by name.

mod simulated;

use simulated::Simulated;
use std::process::ExitCode;

const HELP: &str = "\
SIMULATED: opens sealed jobs outside any confidential VM, with quotes of a simulated TDX module.

It proves plumbing, not isolation: whoever owns this machine can read its memory.

Usage: guest-agent-sim --simulator SOURCE --listen ADDRESS --config SOURCE --models DIRECTORY

Options:
      --simulator SOURCE  The running `chrysalis-simulator`: the PATH of its socket, or vsock:CID:PORT in a VM
      --listen ADDRESS    Where to listen for the proxy: vsock:PORT or unix:PATH
      --config SOURCE     The measured configuration (JSON): a PATH, or vsock:CID:PORT to read it from
      --models DIRECTORY  The directory that holds one directory per model
      --gpu-worker PROGRAM  What asks a GPU for evidence and computes on it, if the configuration demands a GPU
      --insecure-gpu-root FILE  A test root (DER) that replaces NVIDIA's for that GPU
  -h, --help              Print help
  -V, --version           Print version

Example: guest-agent-sim --simulator tdx.sock --listen unix:guest.sock --config config.json --models models";

#[tokio::main]
async fn main() -> ExitCode {
    guest_agent::quiet_panics();
    let (start, [simulator]) =
        match guest_agent::arguments("guest-agent-sim", HELP, ["--simulator"]) {
            Ok(arguments) => arguments,
            Err(code) => return code,
        };
    eprintln!(
        "guest-agent-sim: SIMULATED platform, no confidentiality against the owner of this machine"
    );
    guest_agent::run("guest-agent-sim", Simulated::new(simulator), start, true).await
}
