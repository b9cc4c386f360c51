//! `image-builder dump-acpi`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::error::{Error, Fault, error};
use crate::image::acpi;
use crate::image::acpi::AcpiFiles;
use crate::lock::{PackageLock, Recipe, Role};
use crate::sandbox::Sandbox;
use crate::store::ensure_tree;
use clap::Args;
use registers::Digest48;

use super::StoreDirectory;
use super::screen::Screen;

pub const EXAMPLE: &str = "Example:
  image-builder dump-acpi recipes/sim.yaml --from-qemu-file machine.txt --name two-ports --out dumps

The file has the arguments of QEMU; what is behind its devices is replaced, and nothing is booted. The directory gets the blobs as
two-ports/tables.bin and so on, and index.txt with the arguments and digests, as measurements/predict/tests/it/acpi.rs reads them.";

#[derive(Args)]
pub struct DumpAcpi {
    /// The recipe whose lock contains QEMU and firmware
    #[arg(value_name = "RECIPE")]
    recipe: PathBuf,
    /// A file with QEMU's command line, as a POSIX shell takes it
    #[arg(long, value_name = "FILE")]
    from_qemu_file: PathBuf,
    /// A name for the machine
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The directory for the dumps
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The package lock [default: the file that the recipe names, beside it]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    #[command(flatten)]
    store: StoreDirectory,
}

impl DumpAcpi {
    pub fn run(self) -> Result<ExitCode, Error> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if self.name.starts_with('.') || self.name.is_empty() || !self.name.bytes().all(plain) {
            return Err(error!(
                Arguments,
                "a name has letters, digits, `.`, `_` and `-`"
            ));
        }
        let path = &self.from_qemu_file;
        let line = fs::read_to_string(path).map_err(Error::disk("reading", path))?;
        let words = predict::acpi::words(&line).map_err(Error::of(Fault::Arguments, ""))?;

        let store = self.store.open()?;
        let recipe = Recipe::read(&self.recipe)?;
        let path = self.lock.unwrap_or_else(|| recipe.lock_path(&self.recipe));
        let lock = PackageLock::read(&path)?;
        lock.check(&recipe)?;
        let mut screen = Screen::new();
        let mut tree = |packages: &[&_]| {
            ensure_tree(&store, &lock, packages, &mut |progress| {
                screen.show(progress)
            })
        };
        let firmware = tree(&[lock.firmware()])?;
        let tools = tree(&lock.closure(Role::Run))?;
        screen.say("machine: its ACPI tables, from the locked QEMU");
        let firmware = firmware.join(&recipe.firmware.file);
        let files = acpi::read_machine(&Sandbox::new(&tools), &firmware, &words)?;
        drop(screen);
        write(&self.out, &self.name, &words, &files).map_err(Error::disk("writing", &self.out))?;
        println!("{}", self.out.join(&self.name).display());
        Ok(ExitCode::SUCCESS)
    }
}

/// The blobs, and the machine at the end of the index.
fn write(out: &Path, name: &str, words: &[String], files: &AcpiFiles) -> std::io::Result<()> {
    fs::create_dir_all(out.join(name))?;
    let quoted = words
        .iter()
        .map(|word| match word.contains(char::is_whitespace) {
            true => format!("\"{word}\""),
            false => word.clone(),
        });
    let mut entry = format!("== {name} : {}\n", quoted.collect::<Vec<_>>().join(" "));
    for (fw_cfg, bytes) in files {
        let short = match fw_cfg.as_str() {
            "etc/table-loader" => "loader",
            "etc/tpm/log" => "tpm-log",
            other => other.rsplit('/').next().unwrap_or(other),
        };
        fs::write(out.join(name).join(format!("{short}.bin")), bytes)?;
        let digest = Digest48::of(bytes).to_string();
        entry += &format!("  {short} {} {}\n", bytes.len(), &digest[..24]);
    }
    let index = out.join("index.txt");
    let mut text = match fs::read_to_string(&index) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        other => other?,
    };
    text += &entry;
    fs::write(index, text)
}
