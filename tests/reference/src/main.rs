//! Writes the command reference, manual pages or completions.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Parser, Subcommand};

/// Write what is made from the programs' commands: by default the page `docs/cli.md`, at the top of the repository.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Write a manual page for each program and subcommand.
    Man {
        /// The directory to write to; made if missing.
        directory: PathBuf,
    },
    /// Write completions of each program for bash, zsh and fish.
    Completions {
        /// The directory to write to; made if missing.
        directory: PathBuf,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        None => std::fs::write(reference::PAGE, reference::page())
            .with_context(|| format!("writing {}", reference::PAGE)),
        Some(Command::Man { directory }) => {
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("making {}", directory.display()))?;
            reference::write_manual(&directory)
                .with_context(|| format!("writing to {}", directory.display()))
        }
        Some(Command::Completions { directory }) => {
            std::fs::create_dir_all(&directory)
                .with_context(|| format!("making {}", directory.display()))?;
            reference::write_completions(&directory)
                .with_context(|| format!("writing to {}", directory.display()))
        }
    }
}
