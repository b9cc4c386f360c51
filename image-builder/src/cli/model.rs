//! `image-builder model`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::error::{Error, error};
use crate::image::mkfs;
use crate::lock::{PackageLock, Role};
use crate::model;
use crate::model::{
    Description, Directory, ModelSigner, ModelVerifier, Statement, Step, Tool, VOLUME,
};
use crate::sandbox::Sandbox;
use crate::store::{Progress, ensure_tree};
use clap::{Args, Subcommand};
use registers::Digest32;
use serde_json::{Value, json};

use super::screen::Screen;
use super::sign::read_key;
use super::{Mirrors, StoreDirectory};

pub const EXAMPLE: &str = "Example:
  image-builder model pack Llama-3.2-1B-Instruct --out llama-volume
  image-builder model verify llama-volume --root 4f2c…

A volume is a disk that a guest opens under the root hash in its measured configuration; receipts name the same hash.";

const PACK_EXAMPLE: &str = "Example:
  image-builder model pack Llama-3.2-1B-Instruct --out llama-volume --leave-out original
  image-builder model pack SmolLM2-135M-Instruct.Q4_1.gguf --out smol-volume --json

Writes model.img (EROFS, and a dm-verity tree behind it), model.json (root hash, salt, blocks, files) and model.sig.json (the files'
digests in the form of OpenSSF Model Signing 1.0, signed with --sign). The same files give the same bytes on every machine.

A GGUF is a whole model: it becomes model.gguf, and config.json, tokenizer.json and tokenizer_config.json are made of it where they are
not beside it. They also lie beside model.img, so that clients of a large model need only these small files and model.json.

A volume may contain safetensors, gguf, json, txt, md, jinja and tokenizer.model files. Anything else is refused by name: a file that can
contain a pickle is a program. Each file must be whole: tensors cover it, an index has all its shards, JSON parses, and nothing is a
Git LFS pointer. A model of a family that guests load must be one that they could load: options, tensors and tokenizer fit each
other; other models are packed with a warning. Everything refused is listed at once, with the options that leave it out. Links are refused too; a directory in
Hugging Face's cache consists of them: `cp -rL snapshots/… model`, or `hf download --local-dir model`.

Exit code: 0 done, 1 refused or failed, 2 wrong arguments.";

const VERIFY_EXAMPLE: &str = "Example:
  image-builder model verify llama-volume --root 4f2c…
  image-builder model verify llama-volume --public-key maker.pub --json

Reads the whole volume and compares the hash tree with data and root hash, the files with model.json, and model.sig.json with the
files. Without --root or --public-key it shows what the volume is, not that it is the one you want.

Exit code: 0 everything matches, 1 something differs, 2 wrong arguments.";

#[derive(Args)]
pub struct Model {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Pack a model's directory into a volume.
    #[command(after_help = PACK_EXAMPLE)]
    Pack(Pack),
    /// Verify a volume against its description.
    #[command(after_help = VERIFY_EXAMPLE)]
    Verify(Verify),
}

#[derive(Args)]
struct Pack {
    /// The model's directory, in Hugging Face's layout or with one GGUF; or a GGUF
    #[arg(value_name = "DIR|GGUF")]
    directory: PathBuf,
    /// The volume's directory: new, empty, or an existing volume, which is replaced once the new one is complete
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The model's name [default: the directory's]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// A file or directory in DIR to leave out of the volume. Repeatable
    #[arg(long, value_name = "PATH")]
    leave_out: Vec<String>,
    /// Sign model.sig.json with this key: P-256, which OpenSSF's model_signing verifies, or Ed25519 (PKCS#8, PEM)
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
    /// A package lock, which decides the version of mkfs.erofs [default: the one built into this program]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    #[command(flatten)]
    mirrors: Mirrors,
    #[command(flatten)]
    store: StoreDirectory,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct Verify {
    /// The volume's directory
    #[arg(value_name = "DIR")]
    volume: PathBuf,
    /// The expected root hash, 64 hex digits
    #[arg(long, value_name = "HEX", value_parser = root_hash)]
    root: Option<Digest32>,
    /// The public key that must have signed model.sig.json (PEM)
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

impl Model {
    pub fn run(self) -> Result<ExitCode, Error> {
        match self.command {
            Command::Pack(pack) => pack.run(),
            Command::Verify(verify) => verify.run(),
        }
    }
}

impl Pack {
    fn run(self) -> Result<ExitCode, Error> {
        let begun = Instant::now();
        let id = match self.id {
            Some(id) => id,
            None => name_of(&self.directory)?,
        };
        let mut lock = match &self.lock {
            Some(path) => PackageLock::read(path)?,
            None => PackageLock::parse(LOCK).expect("a test parses the committed lock"),
        };
        lock = self.mirrors.of(lock)?;
        let tool = tool(&lock)?;
        let read = |path: &PathBuf| read_key(path, ModelSigner::from_pem);
        let signer = self.sign.as_ref().map(read).transpose()?;
        // First of all, so that a directory that cannot be used is known before the long work.
        let place = model::claim(&self.out)?;
        let mut screen = Screen::new();
        let mut total = 0;
        let mut step = |step: Step<'_>| show(&mut screen, &mut total, step);
        let directory = Directory::read(&self.directory, &self.leave_out, &mut step)?;
        let store = self.store.open()?;
        let build = lock.closure(Role::Build);
        let tree = ensure_tree(&store, &lock, &build, &mut |p| screen.show(p))?;
        let mut step = |step: Step<'_>| show(&mut screen, &mut total, step);
        let mkfs = mkfs(Sandbox::new(tree));
        let signer = signer.as_ref();
        let description = model::pack(&directory, &id, tool, &mkfs, signer, place, &mut step)?;
        drop(screen);
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("made in {seconds:.1} s");
        if directory.family().is_none() {
            let why = "config.json names no family of models that guests of this version load";
            eprintln!("warning: its files are whole, but {why}");
        }
        let volume = self.out.join(VOLUME);
        match self.json {
            true => println!("{}", report(&description, Some(&volume))),
            false => {
                println!("volume      {}", volume.display());
                print_table(&description);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    fn run(self) -> Result<ExitCode, Error> {
        let read = |path: &PathBuf| read_key(path, ModelVerifier::from_pem);
        let key = self.public_key.as_ref().map(read).transpose()?;
        let mut screen = Screen::new();
        let mut total = 0;
        let mut step = |step: Step<'_>| show(&mut screen, &mut total, step);
        let description = model::verify(&self.volume, key.as_ref(), &mut step)?;
        drop(screen);
        let got = Digest32(description.volume.verity_hash.0);
        if let Some(wanted) = self.root.filter(|wanted| *wanted != got) {
            return Err(error!(
                Volume,
                "the volume is whole, and has the root hash {got}, not {wanted}"
            ));
        }
        match self.json {
            true => println!("{}", report(&description, None)),
            false => print_table(&description),
        }
        if self.root.is_none() && key.is_none() {
            eprintln!(
                "all of it fits together; whether this is the right model, nobody has said (--root, --public-key)"
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn report(description: &Description, volume: Option<&PathBuf>) -> Value {
    json!({
        "id": description.id,
        "volume": volume,
        "bytes": description.bytes,
        "root": description.volume.verity_hash,
        "configuration": configuration(description),
        "files": description.files,
        "subject": Statement::of(description).subject(),
    })
}

/// What the guest's configuration says of the model, beside its endpoint, context and prices.
fn configuration(description: &Description) -> Value {
    json!({
        "id": description.id,
        "root": description.volume.verity_hash,
        "volume": {
            "salt": description.volume.salt,
            "data_blocks": description.volume.data_blocks,
        },
    })
}

fn print_table(description: &Description) {
    println!("model       {}", description.id);
    println!("root        {}", description.volume.verity_hash);
    println!("salt        {}", description.volume.salt);
    println!("blocks      {}", description.volume.data_blocks);
    println!(
        "files       {}, subject {}",
        description.files.len(),
        Statement::of(description).subject()
    );
    println!("in a guest's configuration:");
    println!("{}", configuration(description));
}

fn name_of(directory: &Path) -> Result<String, Error> {
    let real = directory.canonicalize();
    let real = real.map_err(Error::disk("finding", directory))?;
    let name = real.file_name().map(|name| name.to_string_lossy());
    // A GGUF is called as its file is, without the ending.
    let name = name.map(|name| name.strip_suffix(".gguf").unwrap_or(&name).to_owned());
    name.ok_or_else(|| error!(Arguments, "name the model with --id"))
}

/// The package of mkfs.erofs, for the description.
fn tool(lock: &PackageLock) -> Result<Tool, Error> {
    let package = lock.package(MKFS);
    let package = package
        .ok_or_else(|| error!(Lock, "the lock has no {MKFS}, which makes the file system"))?;
    Ok(Tool {
        name: package.name.clone(),
        version: package.version.clone(),
        sha256: package.sha256,
    })
}

fn root_hash(text: &str) -> Result<Digest32, String> {
    text.parse()
        .map_err(|_| "a root hash is 64 lower-case hex digits".into())
}

fn show(screen: &mut Screen, total: &mut u64, step: Step<'_>) {
    match step {
        Step::Begin { what, total: all } => {
            *total = all;
            match all < SHOWN_BYTES_MIN {
                true => screen.say(what),
                false => screen.show(Progress::Working { what, total: all }),
            }
        }
        Step::Bytes(_) if *total < SHOWN_BYTES_MIN => {}
        Step::Bytes(got) => screen.show(Progress::Received { got, total: *total }),
    }
}

/// Of what takes a moment, no part is shown.
const SHOWN_BYTES_MIN: u64 = 1 << 30;
const MKFS: &str = "erofs-utils";
/// The lock of the `sim` recipe, so that a volume needs no checkout.
const LOCK: &[u8] = include_bytes!("../../recipes/sim.lock.json");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_lock_has_the_tool() {
        let lock = PackageLock::parse(LOCK).expect("a lock");
        assert!(tool(&lock).is_ok_and(|tool| tool.name == MKFS));
        let closure = lock.closure(Role::Build);
        assert!(closure.iter().any(|package| package.name == MKFS));
    }
}
