//! The production agent: quotes come from the kernel's configfs-tsm. It holds no code that could talk to a simulator.

use clap::Parser;
use guest_agent::{Start, platform::Tsm};

/// Opens sealed jobs inside a TDX guest, runs them, and signs receipts.
///
/// It runs in a measured image, which passes these options. To try it without TDX, use `guest-agent-sim`.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example: guest-agent --listen vsock:9000 --config /etc/chrysalis/config.json --models /models"
)]
struct Cli {
    #[command(flatten)]
    start: Start,
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    guest_agent::quiet_panics();
    let cli = Cli::parse();
    match guest_agent::run(Tsm::default(), cli.start, false).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => guest_agent::stop("guest-agent", &error),
    }
}
