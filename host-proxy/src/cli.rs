//! The command line: data on stdout, people on stderr. Exit code 0 for done, 1 for refused or failed, 2 for misuse.

mod collateral;
mod machines;

use crate::channels::Age;
use crate::config::Config;
use crate::endorse::Payee;
use crate::limits::BLOCKED;
use crate::proxy::Proxy;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use collateral::CollateralCommand;
use machines::{CheckArguments, LaunchArguments};
use serde_json::json;
use settlement::Address;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// The provider's proxy: it launches the guest, carries sealed jobs to it and vouchers to the chain. It can read none of them.
#[derive(Parser)]
#[command(
    name = "host-proxy",
    version,
    after_help = "\
Example:
  host-proxy check                                what this host lacks for a TDX guest
  host-proxy launch --manifest image/manifest.json --tools tools.json --config guest.json --run run
  host-proxy address --config host-proxy.yaml     whom clients will pay; put it into the guest's configuration
  host-proxy collateral fetch --config collateral.yaml --quote quote.bin --out collateral.json
  host-proxy serve --config host-proxy.yaml       carry jobs until SIGTERM
  host-proxy channels --config host-proxy.yaml    what is owed, promised and paid
  host-proxy settle --config host-proxy.yaml --channel 0:5f3a...   turn the highest voucher into money

RUST_LOG=host_proxy=debug tells more on stderr; payloads are never logged."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Carry jobs until SIGTERM or SIGINT.
    #[command(
        after_help = "With --json the first line on stdout is {\"ready\":true,\"listen\":\"127.0.0.1:PORT\"}."
    )]
    Serve(Common),
    /// Settle the highest voucher of a channel and wait until the chain shows it. Safe to run again after any crash.
    Settle {
        #[command(flatten)]
        common: Common,
        /// The channel's raw address, `0:` and 64 hex digits.
        #[arg(long)]
        channel: Address,
    },
    /// Print the payee: wallet address and public key.
    Address(Common),
    /// Print every channel: what is owed, promised, paid.
    Channels(Common),
    /// Start a guest from its image and stay with it until SIGTERM or SIGINT.
    #[command(
        after_help = "With --json the first line on stdout is {\"ready\":true,\"guest\":\"hybrid:PATH:PORT\",\"accelerator\":\"tcg\",\"boot_s\":23.4}.\n\
                      Exit code: 0 ended by request, 1 the guest stopped itself, or something failed, 2 misuse."
    )]
    Launch(LaunchArguments),
    /// Fetch what Intel and NVIDIA sign about platforms, or serve it to clients, who verify it.
    #[command(subcommand)]
    Collateral(CollateralCommand),
    /// Say what this host lacks for a TDX guest.
    #[command(after_help = "Exit code: 0 nothing is lacking, 1 something is, 2 misuse.")]
    Check(CheckArguments),
    /// Become a program that dies with its parent. What `launch` starts its programs with.
    #[command(name = crate::launch::HELD, hide = true)]
    Held {
        /// The process that must still be the parent.
        #[arg(long)]
        by: u32,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        words: Vec<String>,
    },
}

#[derive(Args)]
struct Common {
    /// The configuration file (see host-proxy/example.yaml).
    #[arg(long)]
    config: PathBuf,
    /// Print JSON for machines.
    #[arg(long)]
    json: bool,
}

/// Runs the program.
pub fn main() -> ExitCode {
    // clap ends with 2 on misuse and with 0 after --help.
    let cli = Cli::parse();
    if let Command::Held { by, words } = &cli.command {
        let error = crate::launch::become_held(*by, words);
        eprintln!("host-proxy: cannot start {}: {error}", words[0]);
        return ExitCode::FAILURE;
    }
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let done = runtime.context("starting the runtime").and_then(|runtime| {
        let done = runtime.block_on(run(cli.command));
        // A question to a silent source blocks its thread until its deadline; nobody waits for the answer any more.
        runtime.shutdown_timeout(BLOCKED);
        done
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("host-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(common) => serve(&common).await?,
        Command::Settle { common, channel } => settle(&common, channel).await?,
        Command::Address(common) => address(&common)?,
        Command::Channels(common) => channels(&common).await?,
        Command::Launch(arguments) => machines::start(arguments, stop_signal()?).await?,
        Command::Collateral(command) => {
            if !collateral::run(command, stop_signal()?).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Check(arguments) => {
            if !machines::check(arguments).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        // It has become another program before there was a runtime.
        Command::Held { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// SIGTERM or SIGINT. Watched from the call on, before anything is promised, so that none is missed.
fn stop_signal() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

async fn serve(common: &Common) -> anyhow::Result<()> {
    let stop = stop_signal()?;
    let (listen, served) = crate::http::serve(config(common)?, stop).await?;
    if common.json {
        println!("{}", json!({ "ready": true, "listen": listen.to_string() }));
    } else {
        println!("host-proxy carries jobs on {listen}; SIGTERM ends it.");
    }
    served.await.context("serving")
}

async fn settle(common: &Common, channel: Address) -> anyhow::Result<()> {
    let proxy = Proxy::open(&config(common)?)?;
    let settled = proxy.settler().settle(&channel).await?;
    if common.json {
        println!("{}", serde_json::to_string(&settled)?);
    } else if settled.price_nano.0 == 0 {
        println!(
            "Nothing to settle: {} are paid already.",
            settled.paid_after_nano.in_ton()
        );
    } else {
        println!(
            "The channel paid {}; settling cost {}; the wallet holds {}.",
            settled.price_nano.in_ton(),
            settled.fee_nano.in_ton(),
            settled.wallet_after_nano.in_ton()
        );
    }
    Ok(())
}

fn address(common: &Common) -> anyhow::Result<()> {
    let config = config(common)?;
    let payee = Payee::read(&config.payee_key_file, config.chain)?;
    let (address, key) = (payee.address(), hex::encode(payee.public_key()));
    if common.json {
        let chain = config.chain.0;
        println!(
            "{}",
            json!({ "address": address.to_string(), "public_key": key, "chain": chain })
        );
    } else {
        println!("address    {address}\npublic key {key}");
    }
    Ok(())
}

async fn channels(common: &Common) -> anyhow::Result<()> {
    let proxy = Proxy::open(&config(common)?)?;
    let mut list = Vec::new();
    for channel in proxy.store.channels()? {
        let figures = proxy.store.figures(&channel)?;
        // The node may be away; what we know ourselves is shown all the same.
        let state = proxy.channels.state(&channel, Age::Now).await;
        let state = state
            .inspect_err(|error| eprintln!("{channel}: {error}"))
            .ok();
        let (payouts, paid_out) = proxy.store.paid_out(&channel)?;
        list.push(json!({
            "channel": channel.to_string(),
            "owed_nano": figures.owed,
            "vouchered_nano": figures.vouchered,
            "deposit_nano": state.as_ref().map(|s| s.deposit),
            "paid_nano": state.as_ref().map(|s| s.paid),
            "payouts": payouts,
            "paid_out_nano": paid_out,
        }));
    }
    if common.json {
        println!("{}", json!({ "channels": list }));
        return Ok(());
    }
    if list.is_empty() {
        println!("No channel has a charge or a voucher yet.");
    }
    for line in &list {
        let amount = |name: &str| line[name].as_str().unwrap_or("unknown").to_owned();
        println!(
            "{}\n  owed {}  vouchered {}  paid {}  of deposit {}  (nanoTON)",
            line["channel"].as_str().unwrap_or_default(),
            amount("owed_nano"),
            amount("vouchered_nano"),
            amount("paid_nano"),
            amount("deposit_nano")
        );
    }
    Ok(())
}

fn config(common: &Common) -> anyhow::Result<Config> {
    Config::read(&common.config)
        .with_context(|| format!("configuration {}", common.config.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
