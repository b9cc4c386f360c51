//! The agent on a simulated platform, for demonstrations and tests. It accepts only profile `sim`, and no client takes
//! its quotes unless told to trust a test root by name.

mod simulated;

use clap::Parser;
use guest_agent::{Place, Start};
use simulated::Simulated;

/// SIMULATED: opens sealed jobs outside any confidential VM, with quotes of a simulated TDX module.
///
/// It proves plumbing, not isolation: whoever owns this machine can read its memory.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: guest-agent-sim --simulator tdx.sock --listen unix:guest.sock --config config.json --models models"
)]
struct Cli {
    /// The running `simulator`: the PATH of its socket, or vsock:CID:PORT in a VM.
    #[arg(long)]
    simulator: Place,
    #[command(flatten)]
    start: Start,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    guest_agent::quiet_panics();
    let cli = Cli::parse();
    eprintln!(
        "guest-agent-sim: SIMULATED platform, no confidentiality against the owner of this machine"
    );
    match guest_agent::run(Simulated::new(cli.simulator), cli.start, true).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => guest_agent::stop("guest-agent-sim", &error),
    }
}
