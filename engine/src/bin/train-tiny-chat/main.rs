//! Trains the small chat model that this repository carries, from the text in `engine/training`.
//!
//! Everything that decides the result is in the source: the text, the seed, the shape, the number of steps. Two runs
//! on one machine write the same bytes. (Another processor may take other matrix kernels and round differently.)

mod corpus;
mod tokenizer;
mod trainer;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;

/// Train the small chat model from the text in engine/training.
#[derive(Parser)]
#[command(after_help = "Example, run at the top of the repository:\n  \
    cargo run -p engine --bin train-tiny-chat -- --out engine/models/tiny-chat")]
struct Arguments {
    /// Directory that receives config.json, tokenizer.json, tokenizer_config.json and model.safetensors.
    #[arg(long)]
    out: PathBuf,
    /// Optimizer steps. The stored model took the default number.
    #[arg(long, default_value_t = trainer::Plan::STORED.steps)]
    steps: usize,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("train-tiny-chat: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let pairs = corpus::pairs()?;
    let plan = trainer::Plan {
        steps: arguments.steps,
        ..trainer::Plan::STORED
    };
    let trained = trainer::train(&pairs, &plan, &mut |line| eprintln!("{line}"))?;
    std::fs::create_dir_all(&arguments.out).context("creating the output directory")?;
    for (name, bytes) in &trained.files {
        std::fs::write(arguments.out.join(name), bytes)
            .with_context(|| format!("writing {name}"))?;
    }
    let files = engine::ModelFiles::read(&arguments.out).context("reading the result back")?;
    println!("pairs {}", pairs.len());
    println!("loss {:.4}", trained.loss);
    println!("root {}", files.root());
    Ok(())
}
