//! The program of the engine.
//!
//! **What it is.** What a person does with a model on this machine without a guest around it: talk to it, measure how fast it is,
//! pack its weights, compare what two machines computed.
//!
//! **Trusts.** The model's files, as far as the engine does: they are checked, their root is not compared.
//!
//! **Promises.** Results to stdout, what went wrong to stderr; 0 is success, 1 a failure or a difference, 2 misuse.
//!
//! **Lacks.** Network and attestation. Nothing that runs in production links it.

#![forbid(unsafe_code)]

mod bench;
mod compare;
mod model;
mod pack;
mod progress;
mod record;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

/// Run, measure, pack and compare models on this machine.
#[derive(Parser)]
#[command(
    name = "engine",
    version = env!("CHRYSALIS_VERSION"),
    after_help = "Examples:
  engine run SmolLM2-135M-Instruct.Q4_1.gguf --prompt 'What is the capital of France?'
  engine bench --shape 0.5b --kind q8 --against llama.cpp,candle --threads 1,2
  engine pack model/ packed/ --kind q8
  engine run packed/ --prompt Hello --record here.json && engine compare here.json there.json

Build it with `cargo build --release -p engine-cli`: the dev profile checks every addition.

Exit code: 0 done, 1 refused or failed, 2 wrong arguments. Of `compare`: 0 equal, 1 different."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Run(run::Arguments),
    Bench(bench::Arguments),
    Pack(pack::Arguments),
    Compare(compare::Arguments),
}

fn main() -> ExitCode {
    let done = match arguments().command {
        Command::Run(arguments) => run::run(&arguments).map(|()| true),
        Command::Bench(arguments) => bench::run(&arguments).map(|()| true),
        Command::Pack(arguments) => pack::run(&arguments).map(|()| true),
        Command::Compare(arguments) => compare::run(&arguments),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let sentence = format!("{error:#}");
            eprintln!("engine: {sentence}");
            if wants_json() {
                println!("{}", json!({ "error": sentence, "fault": "unknown" }));
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
