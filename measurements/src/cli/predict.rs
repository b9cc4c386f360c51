//! `measurements predict`: registers from files.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use measurements::{
    Register, limits,
    predict::{
        FirmwareBuild, PageOrder, Platform, PredictedEvent,
        acpi::{AcpiFiles, TABLE_LOADER},
        direct, mrtd, replay, rtmr0,
    },
};
use serde_json::{Map, Value, json};

use super::{print, print_json, read_bounded, shape::memory_mib};

/// Predict what a guest will measure to, before any boot.
///
/// The firmware alone gives MRTD. The kernel gives RTMR1, with initrd and command line RTMR2. Memory size and ACPI tables
/// give RTMR0. docs/measurements.md says for which versions of QEMU, OVMF and Linux this holds.
///
/// Example, MRTD of a firmware:
///   measurements predict --firmware OVMF.fd
/// Example, a whole machine:
///   measurements predict --firmware OVMF.fd --kernel vmlinuz --initrd initrd --cmdline 'console=ttyS0 panic=-1' \
///     --memory 2048M --acpi-tables acpi/
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct PredictArguments {
    /// OVMF with TDX support, code and variables in one file.
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// The kernel, as QEMU's -kernel takes it.
    #[arg(long, value_name = "FILE", requires = "cmdline")]
    kernel: Option<PathBuf>,
    /// The initrd, as QEMU's -initrd takes it.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The command line, as QEMU's -append takes it.
    #[arg(long, value_name = "TEXT", requires = "kernel")]
    cmdline: Option<String>,
    /// Memory of the guest, for example 2048M or 2G.
    #[arg(long, value_name = "SIZE", value_parser = memory_mib, requires = "acpi_tables")]
    memory: Option<u64>,
    #[command(flatten)]
    machine: MachineArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// What a prediction needs to know of QEMU.
#[derive(Args)]
pub struct MachineArguments {
    /// QEMU's ACPI tables of this machine: a folder with table-loader, rsdp, tables, and tpm-log if there is a TPM
    /// (or loader.bin, rsdp.bin, tables.bin, tpm-log.bin).
    #[arg(long, value_name = "FOLDER")]
    pub acpi_tables: Option<PathBuf>,
    /// In which order QEMU adds the firmware's pages: single from QEMU 9 on, two in the QEMU 8 builds of Canonical and Intel.
    #[arg(long, value_name = "ORDER", value_enum, default_value = "single")]
    pub page_order: PageOrderName,
}

#[derive(Clone, Copy, ValueEnum)]
pub enum PageOrderName {
    Single,
    Two,
}

impl From<PageOrderName> for PageOrder {
    fn from(name: PageOrderName) -> PageOrder {
        match name {
            PageOrderName::Single => PageOrder::SinglePass,
            PageOrderName::Two => PageOrder::TwoPass,
        }
    }
}

pub fn predict(arguments: &PredictArguments) -> anyhow::Result<()> {
    if arguments.machine.acpi_tables.is_some() && arguments.memory.is_none() {
        bail!("--acpi-tables without --memory gives no register; add the guest's memory size");
    }
    let firmware = read_bounded(&arguments.firmware, limits::FIRMWARE_BYTES_MAX)?;
    let reading = || format!("predicting from {}", arguments.firmware.display());
    let mrtd = mrtd(&firmware, arguments.machine.page_order.into()).with_context(reading)?;

    let mut events = Vec::new();
    if let (Some(memory_mib), Some(folder)) = (arguments.memory, &arguments.machine.acpi_tables) {
        let acpi = acpi_files(folder)?;
        let platform = Platform::new(&firmware, firmware_build(&firmware), memory_mib);
        events.extend(rtmr0(&platform, &acpi).context("predicting RTMR0")?);
    }
    if let (Some(path), Some(cmdline)) = (&arguments.kernel, &arguments.cmdline) {
        let kernel = read_bounded(path, limits::KERNEL_BYTES_MAX)?;
        events.extend(
            direct::rtmr1(&kernel).with_context(|| format!("measuring {}", path.display()))?,
        );
        let initrd = match &arguments.initrd {
            Some(path) => Some(read_bounded(path, limits::INITRD_BYTES_MAX)?),
            None => None,
        };
        events.extend(direct::rtmr2(cmdline, initrd.as_deref()).context("predicting RTMR2")?);
    }

    let mut registers = Map::from_iter([("mrtd".to_owned(), json!(mrtd))]);
    for (register, name, needs) in NEEDS {
        if events.iter().any(|event| event.register == register) {
            registers.insert(name.into(), json!(replay(register, &events)));
        } else {
            eprintln!("{name} is not predicted: it needs {needs}");
        }
    }
    if arguments.json {
        print_json(&json!({ "registers": registers, "events": events }))
    } else {
        print_people(&registers, &events)
    }
}

fn print_people(registers: &Map<String, Value>, events: &[PredictedEvent]) -> anyhow::Result<()> {
    let mut text = String::new();
    for (name, value) in registers {
        text += &format!("{name:5}  {}\n", value.as_str().unwrap_or_default());
    }
    for event in events {
        text += &format!("{}  {}  {}\n", event.register, event.digest, event.from);
    }
    print(text.as_bytes())
}

/// How a firmware was built: as its digest says, or else as Debian 13's.
pub fn firmware_build(firmware: &[u8]) -> FirmwareBuild<'static> {
    FirmwareBuild::known(firmware).unwrap_or(FirmwareBuild::UP_TO_STABLE202502)
}

/// The files of a folder under the names that QEMU has for them. The library asks for what is missing.
pub fn acpi_files(folder: &Path) -> anyhow::Result<AcpiFiles> {
    let mut files = AcpiFiles::new();
    for (fw_cfg, names, max) in ACPI_NAMES {
        let paths = names.map(|name| folder.join(name));
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            files.insert(fw_cfg.into(), read_bounded(path, max)?);
        } else if folder.join(format!("{}.gz", names[1])).exists() {
            let folder = folder.display();
            bail!("the tables in {folder} are compressed; unpack them first: gunzip {folder}/*.gz");
        }
    }
    if files.is_empty() {
        bail!(
            "{} has no ACPI tables; see --help for the names",
            folder.display()
        );
    }
    Ok(files)
}

const NEEDS: [(Register, &str, &str); 3] = [
    (Register::Rtmr0, "rtmr0", "--memory and --acpi-tables"),
    (Register::Rtmr1, "rtmr1", "--kernel and --cmdline"),
    (
        Register::Rtmr2,
        "rtmr2",
        "--kernel and --cmdline, and --initrd if there is one",
    ),
];

/// Names in fw_cfg, names in a folder, and limits.
const ACPI_NAMES: [(&str, [&str; 2], usize); 4] = [
    (
        TABLE_LOADER,
        ["table-loader", "loader.bin"],
        limits::TABLE_LOADER_BYTES_MAX,
    ),
    (
        "etc/acpi/rsdp",
        ["rsdp", "rsdp.bin"],
        limits::ACPI_BLOB_BYTES_MAX,
    ),
    (
        "etc/acpi/tables",
        ["tables", "tables.bin"],
        limits::ACPI_BLOB_BYTES_MAX,
    ),
    (
        "etc/tpm/log",
        ["tpm-log", "tpm-log.bin"],
        limits::ACPI_BLOB_BYTES_MAX,
    ),
];
