//! The command line: data on stdout, messages on stderr. Exit code 0 for success, 1 for failure, 2 for wrong arguments.

mod collateral;
mod guest;
mod machines;
mod payee;
mod payouts;
mod stake;

use crate::channels::{ChannelRefused, MaxAge};
use crate::config::Config;
use crate::error::{Context, Error, Fault};
use crate::launch::{EXEC_TIED, exec_tied};
use crate::limits::BLOCKED;
use crate::proxy::Proxy;
use crate::settle::SettleError;
use crate::tls::Tls;
use clap::{Args, CommandFactory, Parser, Subcommand};
use collateral::CollateralCommand;
use guest::GuestCommand;
use machines::{CheckArguments, LaunchArguments};
use payee::{BackupArguments, DelegateArguments, KeygenArguments};
use payouts::{EarningsArguments, PayoutsCommand};
use serde_json::json;
use stake::StakeCommand;
use std::future::Future;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};

/// The provider's proxy: launches the guest, relays sealed jobs to it, and settles vouchers on chain.
#[derive(Parser)]
#[command(
    name = "host-proxy",
    version = env!("CHRYSALIS_VERSION"),
    after_help = "\
Examples:
  host-proxy check                                what this host lacks for a TDX guest
  host-proxy launch --image image --tools tools.json --config guest.json --run run
  host-proxy keygen --out keys                    the provider's keys and wallet
  host-proxy address --config host-proxy.yaml     the payee, for the guest's configuration
  host-proxy guest status --config host-proxy.yaml    stages, registers, keysets and load of the guest
  host-proxy collateral fetch --config collateral.yaml --quote quote.bin --out collateral.json
  host-proxy serve --config host-proxy.yaml       relay jobs until SIGTERM
  host-proxy channels --config host-proxy.yaml    what is owed, promised and paid
  host-proxy backup --config host-proxy.yaml --out backup.sqlite
  host-proxy payouts status --config host-proxy.yaml   what waits to be paid, and until when
  host-proxy payouts settle --config host-proxy.yaml   claim what is worth a claim
  host-proxy stake status --config host-proxy.yaml     what answers for what your guests charge
  host-proxy earnings --config host-proxy.yaml --csv   what was paid, for the accountant

Warnings and errors are logged to stderr; RUST_LOG=host_proxy=debug logs more. Payloads are never logged.

Exit code: 0 done, 1 refused or failed, 2 wrong arguments."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Relay jobs to the guest until SIGTERM or SIGINT.
    #[command(
        after_help = "With --json the first line on stdout is {\"ready\":true,\"listen\":\"127.0.0.1:PORT\"}, with \"monitor\" if it is configured.\n\
                      The first SIGTERM or SIGINT stops intake and lets running jobs end, the second stops at once.\n\
                      SIGHUP reads the certificate again.\n\
                      Exit code: 0 stopped by request, 1 stopped at once or failed, 2 wrong arguments."
    )]
    Serve(Common),
    /// Show, claim and withdraw what was earned.
    #[command(subcommand)]
    Payouts(PayoutsCommand),
    /// Show the stake, add to it, ask for it back and take it out.
    #[command(subcommand)]
    Stake(StakeCommand),
    /// Print what was paid to the wallet and withdrawn from it.
    #[command(
        after_help = "Example:\n  host-proxy earnings --config host-proxy.yaml --csv > earnings.csv"
    )]
    Earnings(EarningsArguments),
    /// Make the provider's three keys, and print the wallet and what it needs.
    #[command(after_help = "Example:\n  host-proxy keygen --out keys --passphrase file:passphrase")]
    Keygen(KeygenArguments),
    /// Let the endorsing key endorse for longer. Run it where the payee's key is.
    #[command(
        after_help = "Example:\n  host-proxy delegate --key file:payee.key --public-key 5f3a... --chain -239 --out delegation"
    )]
    Delegate(DelegateArguments),
    /// Print the wallet's address and the public keys.
    Address(Common),
    /// Print what is owed, promised and paid on every channel.
    Channels(Common),
    /// Write every voucher, charge and payout to a new file, while `serve` runs. A copy of the state file is not enough.
    Backup(BackupArguments),
    /// Start a guest from its image and run it until SIGTERM or SIGINT.
    #[command(
        after_help = "With --json the first line on stdout is {\"ready\":true,\"guest\":\"hybrid:PATH:PORT\",\"accelerator\":\"tcg\",\"boot_s\":23.4}.\n\
                      Exit code: 0 stopped by request, 1 the guest stopped itself or something failed, 2 wrong arguments."
    )]
    Launch(LaunchArguments),
    /// Ask a running guest how it is, without a shell and without content.
    #[command(subcommand)]
    Guest(GuestCommand),
    /// Fetch or serve collateral: what Intel and NVIDIA sign about platforms. Clients verify it.
    #[command(subcommand)]
    Collateral(CollateralCommand),
    /// Report what this host lacks for a TDX guest.
    #[command(after_help = "Exit code: 0 nothing is lacking, 1 something is, 2 wrong arguments.")]
    Check(CheckArguments),
    /// Print a completion script for a shell.
    #[command(
        after_help = "Example:\n  host-proxy completions bash > ~/.local/share/bash-completion/completions/host-proxy"
    )]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Execute a program that the kernel kills when its parent dies: how `launch` starts programs.
    #[command(name = EXEC_TIED, hide = true)]
    ExecTied {
        /// The process that must still be the parent.
        #[arg(long)]
        parent: u32,
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
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The program's commands and options.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = arguments();
    if let Command::ExecTied { parent, words } = &cli.command {
        let error = exec_tied(*parent, words);
        eprintln!("host-proxy: cannot start {}: {error}", words[0]);
        return ExitCode::FAILURE;
    }
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::builder()
                .with_default_directive(LevelFilter::WARN.into())
                .from_env_lossy(),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.context(Fault::Host, || "starting the async runtime");
    let done = runtime.and_then(|runtime| {
        let done = runtime.block_on(run(cli.command));
        // A request to a silent source blocks its thread until its deadline; its answer is not needed any more.
        runtime.shutdown_timeout(BLOCKED);
        done
    });
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("host-proxy: {}: {error}", error.fault);
            if wants_json() {
                println!(
                    "{}",
                    json!({ "error": error.to_string(), "fault": error.fault.to_string() })
                );
            }
            ExitCode::FAILURE
        }
    }
}

/// This process's arguments. Misuse ends with 2, and under --json with an object on standard output, too.
fn arguments() -> Cli {
    Cli::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() && wants_json() {
            let text = error.to_string();
            let (sentence, _) = text.split_once("\n\n").unwrap_or((&text, ""));
            let sentence = sentence.trim().trim_start_matches("error: ");
            println!("{}", json!({ "error": sentence, "fault": "arguments" }));
        }
        error.exit()
    })
}

/// Whether errors are wanted as JSON. Known before the arguments are understood.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

async fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Serve(common) => return serve(&common).await,
        Command::Payouts(command) => return payouts::run(command).await,
        Command::Stake(command) => return stake::run(command).await,
        Command::Earnings(arguments) => return payouts::earnings(&arguments),
        Command::Keygen(arguments) => payee::keygen(&arguments)?,
        Command::Delegate(arguments) => payee::delegate(&arguments)?,
        Command::Address(common) => payee::address(&common)?,
        Command::Backup(arguments) => payee::backup(&arguments)?,
        Command::Channels(common) => channels(&common).await?,
        Command::Guest(command) => guest::run(command).await?,
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
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut self::command(),
                "host-proxy",
                &mut std::io::stdout(),
            );
        }
        // Executed before there was a runtime.
        Command::ExecTied { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// SIGTERM or SIGINT. Watched from the call on, so that none is missed.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    stop_signals(1)
}

/// So many of them.
fn stop_signals(count: u32) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let watch = |kind| signal(kind).context(Fault::Host, || "watching for signals");
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    Ok(async move {
        for _ in 0..count {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    })
}

async fn serve(common: &Common) -> Result<ExitCode, Error> {
    let (stop, at_once) = (stop_signal()?, stop_signals(2)?);
    let serving = crate::http::serve(Config::read(&common.config)?, stop).await?;
    if let Some(tls) = serving.tls {
        tokio::spawn(reload_on_hangup(tls)?);
    }
    announce(common.json, serving.listen, serving.monitor, "jobs");
    tokio::select! {
        served = serving.served => served.context(Fault::Host, || "serving").map(|()| ExitCode::SUCCESS),
        () = at_once => {
            eprintln!("host-proxy: stopped at once; jobs that ran are cut, and their receipts stay with the guest");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Reads the certificate again on SIGHUP, and says so.
fn reload_on_hangup(tls: Tls) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let hangup = signal(SignalKind::hangup());
    let mut hangup = hangup.context(Fault::Host, || "watching for signals")?;
    Ok(async move {
        while hangup.recv().await.is_some() {
            let said = match tls.reload() {
                Ok(()) => "the certificate was read again".to_owned(),
                Err(error) => format!("the old certificate stays: {error}"),
            };
            // Standard error may be gone, and the next signal is to be heard all the same.
            let _ = writeln!(std::io::stderr(), "host-proxy: {said}");
        }
    })
}

fn announce(json: bool, listen: SocketAddr, monitor: Option<SocketAddr>, what: &str) {
    let monitor = monitor.map(|address| address.to_string());
    if json {
        let mut ready = json!({ "ready": true, "listen": listen.to_string() });
        if let Some(monitor) = monitor {
            ready["monitor"] = monitor.into();
        }
        println!("{ready}");
        return;
    }
    println!("host-proxy serves {what} on {listen}; stop it with SIGTERM.");
    if let Some(monitor) = monitor {
        println!("Status page: http://{monitor}/status, metrics: http://{monitor}/metrics");
    }
}

async fn channels(common: &Common) -> Result<(), Error> {
    let proxy = Proxy::open(&Config::read(&common.config)?)?;
    let mut list = Vec::new();
    for channel in proxy.store.channels()? {
        let figures = proxy.store.figures(&channel)?;
        // The node may be away; the proxy's own figures are shown all the same.
        let state = proxy.channels.state(&channel, MaxAge::Now).await;
        let state = state
            .inspect_err(|error| eprintln!("{channel}: {error}"))
            .ok();
        let (payouts, paid_out) = proxy.store.paid_out(&channel)?;
        list.push(json!({
            "channel": channel.to_string(),
            "owed_nano": figures.owed,
            "vouchered_nano": figures.vouchered(),
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

fn settle_error(error: SettleError) -> Error {
    let fault = match &error {
        SettleError::Store(_) | SettleError::Channel(ChannelRefused::Store(_)) => Fault::Host,
        SettleError::Wallet { .. }
        | SettleError::TooLittle { .. }
        | SettleError::NoVoucher(_)
        | SettleError::Stake(_)
        | SettleError::Signer(_)
        | SettleError::OldBooks { .. }
        | SettleError::AnotherSigner { .. } => Fault::Configuration,
        SettleError::Void(_) | SettleError::Over { .. } => Fault::Payer,
        _ => Fault::Node,
    };
    Error::new(fault, error.to_string())
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
