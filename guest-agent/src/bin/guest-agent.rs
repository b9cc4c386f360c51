//! The production agent: quotes come from the kernel's configfs-tsm or, with the feature `tdx-attest` and the option of that name, from
//! Intel's library. It holds no code that could talk to a simulator.

use guest_agent::Start;
use guest_agent::platform::Tsm;
use std::process::ExitCode;

const HELP: &str = "\
Opens sealed jobs inside a TDX guest, runs them, and signs receipts.

It runs in a measured image, which passes these options. To try it without TDX, use `guest-agent-sim`.

Usage: guest-agent --listen ADDRESS --config SOURCE --models DIRECTORY

Options:
      --listen ADDRESS    Where to listen for the proxy: vsock:PORT or unix:PATH
      --config SOURCE     The measured configuration (JSON): a PATH, or vsock:CID:PORT to read it from
      --models DIRECTORY  The directory that holds one directory per model
      --gpu-worker PROGRAM  What asks a GPU for evidence and computes on it, if the configuration demands a GPU
      --tdx-attest PATH   Intel's libtdx_attest.so.1, in place of the kernel's interface; only if built with feature tdx-attest
  -h, --help              Print help
  -V, --version           Print version

Example: guest-agent --listen vsock:9000 --config /etc/chrysalis/config.json --models /models";

#[tokio::main]
async fn main() -> ExitCode {
    guest_agent::quiet_panics();
    match guest_agent::arguments("guest-agent", HELP, []) {
        Ok((start, [])) => run(start).await,
        Err(code) => code,
    }
}

async fn run(start: Start) -> ExitCode {
    #[cfg(feature = "tdx-attest")]
    if let Some(library) = &start.tdx_attest {
        return match guest_agent::platform::TdxAttest::load(library) {
            Ok(platform) => guest_agent::run("guest-agent", platform, start, false).await,
            Err(error) => {
                eprintln!("guest-agent: {error}");
                ExitCode::FAILURE
            }
        };
    }
    guest_agent::run("guest-agent", Tsm::default(), start, false).await
}
