//! The command line of `chrysalis-ledger`.

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
use serde_json::json;
use std::{net::SocketAddr, path::PathBuf, process::ExitCode};
use tokio::net::TcpListener;

use crate::Ledger;
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
        /// Print one JSON object on stdout instead of a sentence.
        #[arg(long)]
        json: bool,
    },
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
        json,
    } = arguments().command;
    match serve(db, listen, &fund, json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let sentence = told(&error);
            eprintln!("chrysalis-ledger: {sentence}");
            if wants_json() {
                println!("{}", json!({ "error": sentence }));
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
            let (sentence, _) = text.split_once("\n\nUsage:").unwrap_or((&text, ""));
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
