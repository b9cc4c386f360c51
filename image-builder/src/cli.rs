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
use std::path::PathBuf;
use std::process::ExitCode;

use crate::compile::workspace_around;
use crate::error::{Error, Fault, error};
use crate::lock::{ModelLock, PackageLock, Recipe};
use crate::store::Store;
use clap::{Args, CommandFactory, Parser, Subcommand};
use serde_json::{Value, json};

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
    fn run(self) -> Result<ExitCode, Error> {
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
    fn open(&self) -> Result<Store, Error> {
        match &self.store {
            Some(directory) => Ok(Store::at(directory)),
            None => Store::from_environment().ok_or_else(|| {
                error!(
                    Arguments,
                    "no HOME to keep a store in: name one with --store DIR"
                )
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
    fn of(&self, lock: PackageLock) -> Result<PackageLock, Error> {
        match &self.list()[..] {
            [] => Ok(lock),
            mirrors => lock
                .fetched_from(mirrors)
                .map_err(Error::of(Fault::Arguments, "")),
        }
    }
}

#[derive(Args)]
struct LockedRecipe {
    /// The recipe, in a checkout of the sources to compile
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// The package lock [default: the file that the recipe names, beside it]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    #[command(flatten)]
    mirrors: Mirrors,
}

impl LockedRecipe {
    /// The recipe, its lock, and the checkout that it lies in.
    fn read(&self) -> Result<(Recipe, PackageLock, PathBuf), Error> {
        let recipe = Recipe::read(&self.recipe)?;
        let beside = recipe.lock_path(&self.recipe);
        let lock = PackageLock::read(self.lock.as_ref().unwrap_or(&beside))?;
        lock.check(&recipe)?;
        let checkout = workspace_around(&self.recipe)
            .ok_or_else(|| error!(Arguments, "the recipe lies in no checkout of our sources"))?;
        Ok((recipe, self.mirrors.of(lock)?, checkout))
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
    command.run().unwrap_or_else(|error| {
        eprintln!("image-builder: {error}");
        if json {
            println!("{}", told(&error.to_string(), error.fault()));
        }
        match error.fault() {
            Fault::Arguments => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    })
}

fn told(sentence: &str, fault: Fault) -> Value {
    json!({ "error": sentence, "fault": fault })
}

/// This process's arguments. Misuse ends with 2, and under --json with an object on standard output, too.
fn arguments() -> Arguments {
    Arguments::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() && wants_json() {
            let text = error.to_string();
            let (sentence, _) = text.split_once("\n\n").unwrap_or((&text, ""));
            let sentence = sentence.trim().trim_start_matches("error: ");
            println!("{}", told(sentence, Fault::Arguments));
        }
        error.exit()
    })
}

/// Whether errors are wanted as JSON. Known before the arguments are understood.
fn wants_json() -> bool {
    std::env::args_os().any(|argument| argument == "--json")
}

/// The lock of the models, with the mirror that the caller or the environment names.
fn models_from(lock: Option<PathBuf>, mirror: Option<String>) -> Result<ModelLock, Error> {
    let lock = match lock {
        Some(path) => ModelLock::read(&path)?,
        None => ModelLock::committed(),
    };
    let mirror = mirror.or_else(|| std::env::var("CHRYSALIS_PYPI_FILES_URL").ok());
    match mirror.filter(|url| !url.is_empty()) {
        Some(url) => lock
            .fetched_from(&url)
            .map_err(Error::of(Fault::Arguments, "")),
        None => Ok(lock),
    }
}

/// The answer of a command: for programs under `--json`, otherwise for people.
fn answer(json: bool, value: Value, text: impl std::fmt::Display) {
    match json {
        true => println!("{value}"),
        false => println!("{text}"),
    }
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
