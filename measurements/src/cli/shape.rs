//! `measurements shape` and `measurements acpi`: a machine in words, and its ACPI files.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use predict::{
    acpi::{Qemu, Shape, acpi_files},
    qemu::{MachineSize, guest_shape},
};
use registers::Digest48;
use serde_json::{Value, json};

use super::{print, print_json, read_bounded, write_directory, write_whole};

/// Translate a QEMU command line into a shape file.
///
/// Options that this program does not know are refused by name, because each could change a table.
/// docs/measurements-evidence.md says what was compared.
///
/// Example, from arguments:
///   measurements shape --qemu 10.0.13 --from-qemu '-nodefaults -machine q35,smm=off,pic=off -cpu host -smp 4 -m 4G'
/// Example, from a host's script, for the tables of its machine:
///   measurements shape --qemu 11.1.3 --from-qemu-file launch.txt --out shape.json
///   measurements acpi --shape shape.json --out acpi/
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct ShapeArguments {
    /// The command line of QEMU, as a POSIX shell takes it. What a shell would replace, like $MEMORY or *, is refused.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "from_qemu_file",
        conflicts_with = "from_qemu_file"
    )]
    from_qemu: Option<String>,
    /// A file with such a command line. Each line of it but the last ends with a backslash.
    #[arg(long, value_name = "FILE")]
    from_qemu_file: Option<PathBuf>,
    /// The version of that QEMU, as in its --version or its Debian package.
    #[arg(long, value_name = "VERSION")]
    qemu: String,
    /// Where to write [default: stdout]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Make the ACPI files that QEMU would give a machine, without QEMU.
///
/// The machine is that of --shape, or this project's guest with --vcpus and --memory. A machine whose files were never
/// compared with QEMU's own is refused by name.
///
/// Example, the guest of an image:
///   measurements acpi --vcpus 4 --memory 4G --out acpi/
/// Example, any machine:
///   measurements acpi --shape shape.json --out acpi/ --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct AcpiArguments {
    #[command(flatten)]
    machine: Machine,
    /// A new directory for table-loader, rsdp, tables, and tpm-log if there is a TPM.
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// The machine that a command is about.
#[derive(Args)]
pub struct Machine {
    /// A shape file; `measurements shape` writes one.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["vcpus", "memory", "qemu", "tpm"])]
    pub shape: Option<PathBuf>,
    /// Processors of this project's guest.
    #[arg(long, value_name = "NUMBER", requires = "memory")]
    pub vcpus: Option<u32>,
    /// Memory of the guest, for example 2048M or 2G.
    #[arg(long, value_name = "SIZE", value_parser = memory_mib)]
    pub memory: Option<u64>,
    /// The version of QEMU that runs the guest [default: 10.0.13, the one in the lock]
    #[arg(long, value_name = "VERSION")]
    pub qemu: Option<String>,
    /// The guest has a TPM, as simulated ones do.
    #[arg(long, requires = "vcpus")]
    pub tpm: bool,
}

impl Machine {
    /// The shape, if one is described.
    pub fn shape(&self) -> anyhow::Result<Option<Shape>> {
        if let Some(path) = &self.shape {
            return read_shape(path).map(Some);
        }
        let (Some(vcpus), Some(memory_mib)) = (self.vcpus, self.memory) else {
            return Ok(None);
        };
        let qemu = self.qemu.as_deref().map_or(Ok(LOCKED_QEMU), Qemu::parse)?;
        let size = MachineSize { vcpus, memory_mib };
        Ok(Some(guest_shape(size, qemu, self.tpm)))
    }
}

/// The QEMU of this project's lock.
pub const LOCKED_QEMU: Qemu = Qemu::V10_0_13;

pub fn shape(arguments: &ShapeArguments) -> anyhow::Result<()> {
    let qemu = Qemu::parse(&arguments.qemu)?;
    let line = match (&arguments.from_qemu, &arguments.from_qemu_file) {
        (Some(line), _) => line.clone(),
        (None, Some(path)) => {
            let bytes = read_bounded(path, predict::limits::QEMU_COMMAND_BYTES_MAX)?;
            String::from_utf8(bytes).with_context(|| format!("reading {}", path.display()))?
        }
        (None, None) => bail!("nothing to translate"),
    };
    let shape = Shape::from_command_line(qemu, &line).context("reading the command line")?;
    if let Err(error) = acpi_files(&shape) {
        eprintln!("note: {error}");
    }
    match &arguments.out {
        Some(path) => write_whole(path, &shape.to_json()),
        None => print(&shape.to_json()),
    }
}

pub fn acpi(arguments: &AcpiArguments) -> anyhow::Result<()> {
    let Some(shape) = arguments.machine.shape()? else {
        bail!("no machine: give --shape, or --vcpus and --memory");
    };
    let files = acpi_files(&shape)?;
    let named: Vec<(&str, &[u8])> = files
        .iter()
        .map(|(name, bytes)| (file_name(name), bytes.as_slice()))
        .collect();
    write_directory(&arguments.out, &named)?;
    let files = files.iter().map(|(fw_cfg, bytes)| {
        json!({
            "fw_cfg": fw_cfg,
            "file": file_name(fw_cfg),
            "bytes": bytes.len(),
            "sha384": Digest48::of(bytes),
        })
    });
    let files: Vec<Value> = files.collect();
    if arguments.json {
        let shape: Value = serde_json::from_slice(&shape.to_json())?;
        return print_json(&json!({ "shape": shape, "files": files }));
    }
    let line = |file: &Value| {
        let text = |name: &str| file[name].as_str().unwrap_or_default().to_owned();
        format!("{}  {}\n", text("sha384"), text("file"))
    };
    print(files.iter().map(line).collect::<String>().as_bytes())
}

pub fn read_shape(path: &Path) -> anyhow::Result<Shape> {
    let bytes = read_bounded(path, predict::limits::SHAPE_BYTES_MAX)?;
    Shape::from_json(&bytes).with_context(|| format!("reading {}", path.display()))
}

/// `etc/acpi/tables` is `tables` in a directory, and `etc/tpm/log` is `tpm-log`, so that no name says less than it must.
fn file_name(fw_cfg: &str) -> &str {
    match fw_cfg {
        "etc/tpm/log" => "tpm-log",
        _ => fw_cfg.rsplit('/').next().unwrap_or(fw_cfg),
    }
}

/// A number of MiB out of `2048M` or `2G`.
pub fn memory_mib(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write for example 2048M or 2G");
    let (number, unit) = match text.strip_suffix('G') {
        Some(number) => (number, 1024),
        None => (text.strip_suffix('M').ok_or_else(wrong)?, 1),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}
