//! The `image-builder` program: arguments in, people's words to stderr, data to stdout.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use image_builder::{FetchError, ModelLock, Progress, Store, ensure_models};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// Fetches what a private inference worker is made of, by digest.
#[derive(Parser)]
#[command(name = "image-builder", version, after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the models of the lock be in the store, checked by size and SHA-256.
    ///
    /// Prints the folder of the models. A broken download is resumed by running this again.
    #[command(after_help = EXAMPLE)]
    Fetch(Fetch),
}

#[derive(clap::Args)]
struct Fetch {
    /// Where fetched files lie [default: $CHRYSALIS_STORE, else chrysalis in the user's cache folder]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Another lock than the one built into this program
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// A mirror that keeps the paths of files.pythonhosted.org [env: CHRYSALIS_PYPI_FILES_URL]
    #[arg(long, value_name = "URL")]
    pypi_files_url: Option<String>,
    /// Print one JSON object instead of a path
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let Command::Fetch(fetch) = Arguments::parse().command;
    let json = fetch.json;
    match fetch.run() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(Refusal::Misuse(sentence)) => {
            eprintln!("image-builder: {sentence}");
            ExitCode::from(2)
        }
        Err(Refusal::Failed(error)) => {
            eprintln!("image-builder: {error}");
            if json {
                println!(
                    "{}",
                    json!({ "error": error.to_string(), "fault": error.fault().word() })
                );
            }
            ExitCode::FAILURE
        }
    }
}

enum Refusal {
    Misuse(String),
    Failed(FetchError),
}

impl Fetch {
    fn run(self) -> Result<String, Refusal> {
        let store = match self.store {
            Some(folder) => Store::at(folder),
            None => Store::from_environment().ok_or_else(|| {
                Refusal::Misuse("no HOME to keep a store in: name one with --store DIR".into())
            })?,
        };
        let mut lock = match self.lock {
            Some(path) => ModelLock::read(&path).map_err(|error| Refusal::Failed(error.into()))?,
            None => ModelLock::committed(),
        };
        let mirror = self
            .pypi_files_url
            .or_else(|| std::env::var("CHRYSALIS_PYPI_FILES_URL").ok());
        if let Some(url) = mirror.filter(|url| !url.is_empty()) {
            lock = lock
                .fetched_from(&url)
                .map_err(|error| Refusal::Misuse(error.to_string()))?;
        }
        let mut screen = Screen::new();
        let models = ensure_models(&store, &lock, &mut |progress| screen.show(progress))
            .map_err(Refusal::Failed)?;
        Ok(if self.json {
            describe(&store, &lock)
        } else {
            models.display().to_string()
        })
    }
}

fn describe(store: &Store, lock: &ModelLock) -> String {
    let mut models = Vec::new();
    for model in lock.models() {
        let mut files = Vec::new();
        for file in &model.files {
            let sha256 = file.sha256.to_string();
            files.push(json!({ "name": file.name, "bytes": file.bytes, "sha256": sha256 }));
        }
        let path = store.model_dir(&model.id);
        models.push(
            json!({ "id": model.id, "licence": model.licence, "path": path, "files": files }),
        );
    }
    json!({ "models_dir": store.models_dir(), "models": models }).to_string()
}

/// A bar on a terminal, lines elsewhere; both on stderr.
struct Screen {
    bar: Option<ProgressBar>,
    terminal: bool,
    tenth: u64,
}

impl Screen {
    fn new() -> Self {
        Self {
            bar: None,
            terminal: io::stderr().is_terminal(),
            tenth: 0,
        }
    }

    fn show(&mut self, progress: Progress<'_>) {
        match progress {
            Progress::Present { id } => self.say(&format!("{id}: present, digests right")),
            Progress::Starting { url, got, total } => self.start(url, got, total),
            Progress::Received { got, total } => self.receive(got, total),
            Progress::Resuming { reason } => {
                self.say(&format!("the connection broke ({reason}); resuming"))
            }
            Progress::Restarting { reason } => self.say(&format!(
                "the partial download is no use (the mirror {reason}); starting again"
            )),
            Progress::Unpacking { id } => {
                if let Some(bar) = self.bar.take() {
                    bar.finish_and_clear();
                }
                self.say(&format!("{id}: archive whole, digest right; unpacking"));
            }
            Progress::Placed { id } => self.say(&format!("{id}: in place, digests right")),
        }
    }

    fn start(&mut self, url: &str, got: u64, total: u64) {
        self.say(&match got {
            0 => format!("fetching {total} bytes from {url}"),
            got => format!("fetching the rest after {got} of {total} bytes from {url}"),
        });
        self.tenth = got.saturating_mul(10) / total.max(1);
        if self.terminal {
            let style = ProgressStyle::with_template(
                "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            let bar = ProgressBar::new(total)
                .with_style(style.expect("the template is a constant and parses"));
            bar.set_position(got);
            bar.enable_steady_tick(Duration::from_millis(250));
            self.bar = Some(bar);
        }
    }

    fn receive(&mut self, got: u64, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(got);
            return;
        }
        let tenth = got.saturating_mul(10) / total.max(1);
        if tenth > self.tenth {
            self.tenth = tenth;
            eprintln!("  {}0 %", tenth);
        }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

const EXAMPLE: &str = "Example:
  image-builder fetch --store /srv/chrysalis --json
  image-builder fetch --pypi-files-url https://mirror.example/pypi-files

Exit code: 0 done, 1 refused or failed (the sentence says whose fault), 2 misuse.";
