//! The program of the engine.
//!
//! **What it is.** What a person does with a model on this machine without a guest around it: measure how fast it is.
//!
//! **Trusts.** The model's directory, as far as the engine does: its files are checked, their root is not compared.
//!
//! **Promises.** Figures to stdout, what went wrong to stderr; 0 is success, 1 a failure, 2 misuse.
//!
//! **Lacks.** Network and attestation. Nothing that runs in production links it.

#![forbid(unsafe_code)]

mod bench;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Run Burn models on this machine.
#[derive(Parser)]
#[command(
    name = "engine",
    version = env!("CHRYSALIS_VERSION"),
    after_help = "Example:\n  cargo run --release --package engine-cli -- bench --chat ~/.cache/chrysalis/models/SmolLM2-135M-Instruct\n\nExit code: 0 done, 1 refused or failed, 2 wrong arguments."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print how fast a chat model and an embeddings model load and run.
    Bench {
        /// Directory of the chat model.
        #[arg(long)]
        chat: PathBuf,
        /// Directory of the embeddings model, such as all-MiniLM-L6-v2; not measured when absent.
        #[arg(long)]
        embeddings: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let Command::Bench { chat, embeddings } = Arguments::parse().command;
    match bench::run(&chat, embeddings.as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("engine: {error:#}");
            ExitCode::FAILURE
        }
    }
}
