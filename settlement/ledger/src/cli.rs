//! The command line of `chrysalis-ledger`.

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::json;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};
use tokio::net::TcpListener;

use crate::{Conditions, Faults, Ledger};
use settlement::{Address, Nano};

/// An embedded TON network with simulated value, behind toncenter's HTTP API.
///
/// Example: start one, give an account money, ask for its balance.
///
///   chrysalis-ledger serve --db ledger.sqlite --listen 127.0.0.1:8081 --fund 0:…
///   curl -d '{"address":"0:…","amount":"5000000000"}' http://127.0.0.1:8081/faucet
///   curl 'http://127.0.0.1:8081/api/v2/getAddressBalance?address=0:…'
///
/// Exit code: 0 done, 1 refused or failed, 2 wrong arguments.
#[derive(Parser)]
#[command(name = "chrysalis-ledger", version = env!("CHRYSALIS_VERSION"), verbatim_doc_comment)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the ledger in a database file, created if it is not there. Prints the address it listens on.
    Serve {
        /// The SQLite file that keeps accounts and transactions.
        #[arg(long, value_name = "PATH")]
        db: PathBuf,
        /// Where to listen; port 0 takes a free one.
        #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Give this account 10 TON if it has nothing yet. Repeatable.
        #[arg(long, value_name = "ADDRESS", value_parser = Address::from_any)]
        fund: Vec<Address>,
        #[command(flatten)]
        network: NetworkArguments,
        /// Print one JSON object on stdout instead of a sentence.
        #[arg(long)]
        json: bool,
    },
}

/// Blocks, and what goes wrong between them. Shares are in thousandths.
#[derive(Args)]
#[command(next_help_heading = "Network")]
struct NetworkArguments {
    /// Make a block every so many seconds; without it everything happens at once and nothing goes wrong.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=600))]
    block_s: Option<u32>,
    /// Where all chance comes from.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "block_s")]
    seed: u64,
    /// External messages that never reach a block.
    #[arg(long, value_name = "SHARE", default_value_t = 0, requires = "block_s", value_parser = share())]
    drop: u16,
    /// External messages that arrive twice.
    #[arg(long, value_name = "SHARE", default_value_t = 0, requires = "block_s", value_parser = share())]
    duplicate: u16,
    /// External messages that are encoded anew on their way, so that their hash changes.
    #[arg(long, value_name = "SHARE", default_value_t = 0, requires = "block_s", value_parser = share())]
    reencode: u16,
    /// Questions that are answered with 429.
    #[arg(long, value_name = "SHARE", default_value_t = 0, requires = "block_s", value_parser = share())]
    refuse: u16,
    /// External messages wait up to so many blocks more.
    #[arg(long, value_name = "BLOCKS", default_value_t = 0, requires = "block_s")]
    delay_blocks: u32,
    /// Answers are of a state up to so many blocks ago.
    #[arg(long, value_name = "BLOCKS", default_value_t = 0, requires = "block_s")]
    lag_blocks: u32,
    /// Deliver the messages of a block in any order that TON allows.
    #[arg(long, requires = "block_s")]
    reorder: bool,
}

fn share() -> impl Clone + Into<clap::builder::ValueParser> {
    clap::value_parser!(u16).range(0..=1_000)
}

impl NetworkArguments {
    fn conditions(&self) -> Option<Conditions> {
        Some(Conditions {
            block_s: self.block_s?,
            seed: self.seed,
            faults: Faults {
                drop: self.drop,
                duplicate: self.duplicate,
                reencode: self.reencode,
                refuse: self.refuse,
                delay_blocks_max: self.delay_blocks,
                lag_blocks_max: self.lag_blocks,
                reorder: self.reorder,
            },
        })
    }
}

/// What `--fund` gives: enough for a channel and its fees.
const FUND: Nano = Nano(10_000_000_000);

/// The program's commands and options.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with this process's arguments.
pub async fn main() -> ExitCode {
    let Command::Serve {
        db,
        listen,
        fund,
        network,
        json,
    } = arguments().command;
    match serve(db, listen, &fund, network.conditions(), json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = told(&error);
            eprintln!("chrysalis-ledger: {sentence}");
            if wants_json() {
                println!("{}", json!({ "error": sentence, "fault": "host" }));
            }
            ExitCode::FAILURE
        }
    }
}

/// This process's arguments. Misuse ends with 2, and under --json with an object on standard output, too.
fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
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

/// An error and its causes in one line, without the causes that a sentence before them quotes already.
fn told(error: &anyhow::Error) -> String {
    let causes = error.chain().map(ToString::to_string);
    causes.fold(String::new(), |told, cause| match told {
        told if told.contains(&cause) => told,
        told if told.is_empty() => cause,
        told => format!("{told}: {cause}"),
    })
}

async fn serve(
    db: PathBuf,
    listen: SocketAddr,
    fund: &[Address],
    conditions: Option<Conditions>,
    json: bool,
) -> anyhow::Result<()> {
    let path = db.display().to_string();
    // SQLite names the file in some of its errors and not in others.
    let ledger = Ledger::open(&db).map_err(|error| match error.to_string() {
        words if words.contains(&path) => anyhow::Error::msg(words),
        words => anyhow::Error::msg(format!("opening {path}: {words}")),
    })?;
    for account in fund {
        let funding = || format!("funding {account}");
        if ledger.account(account).with_context(funding)?.balance == Nano::ZERO {
            ledger.faucet(account, FUND).with_context(funding)?;
        }
    }
    if let Some(conditions) = conditions {
        ledger.set_conditions(conditions);
    }
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("listening on {listen}"))?;
    let address = listener
        .local_addr()
        .context("asking which port was taken")?;
    let chain = ledger.chain();
    match json {
        true => println!(
            "{}",
            json!({ "listen": address.to_string(), "chain": chain, "simulated": true })
        ),
        false => println!("http://{address}"),
    }
    eprintln!(
        "chrysalis-ledger: network {chain} in {}; its value is simulated and worth nothing",
        db.display()
    );
    tokio::select! {
        result = crate::serve(ledger, listener) => result.context("serving"),
        result = tokio::signal::ctrl_c() => result.context("waiting for an interrupt"),
    }
}
