//! The command line of `chrysalis-ledger`.

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};
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
#[derive(Parser)]
#[command(name = "chrysalis-ledger", version, verbatim_doc_comment)]
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
    } = Arguments::parse().command;
    match serve(db, listen, &fund, json).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chrysalis-ledger: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(
    db: PathBuf,
    listen: SocketAddr,
    fund: &[Address],
    json: bool,
) -> anyhow::Result<()> {
    let ledger = Ledger::open(&db).with_context(|| format!("opening {}", db.display()))?;
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
            serde_json::json!({ "listen": address.to_string(), "chain": chain, "simulated": true })
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
