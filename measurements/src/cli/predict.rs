//! `measurements predict`: registers from files.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use predict::{
    Boot, BootMethod, Edk2Release, Firmware, KernelHeader, PageOrder, PredictedEvent, acpi,
    acpi::files::{AcpiFiles, TABLE_LOADER},
    mrtd, replay, rtmr0, rtmr3,
    tdvf::Tdvf,
};
use registers::Register;
use serde_json::{Map, Value, json};

use super::firmware::FirmwareArguments;
use super::shape::{LOCKED_QEMU, Machine};
use super::{print, print_json, read_bounded, read_start};

/// Predict the registers of a guest from its files.
///
/// The firmware alone gives MRTD. Kernel, initrd and command line, or a unified kernel image, give RTMR1 and RTMR2. The
/// machine gives RTMR0: --shape describes any machine, --vcpus and --memory this project's guest. docs/measurements.md
/// says for which versions of QEMU, OVMF and Linux this holds.
///
/// Example, MRTD of a firmware:
///   measurements predict --firmware OVMF.fd
/// Example, a whole machine:
///   measurements predict --firmware OVMF.fd --kernel vmlinuz --initrd initrd --cmdline 'console=ttyS0 panic=-1' \
///     --vcpus 4 --memory 4G
/// Example, a unified kernel image in a machine of your own:
///   measurements predict --firmware OVMF.fd --uki linux.efi --shape shape.json --qemu 11.1.3
/// Example, a newer firmware that is not known by its digest:
///   measurements predict --firmware OVMF.fd --vcpus 4 --memory 4G --edk2 202511 --processor 000c06f2:078bfbff \
///     --bios-vendor 'EDK II' --bios-version edk2-stable202511 --bios-date 11/24/2025
/// Example, with ACPI tables from elsewhere, for study:
///   measurements predict --firmware OVMF.fd --memory 4G --acpi-tables acpi_tables.bin
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct PredictArguments {
    /// OVMF with TDX support, code and variables in one file.
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// The kernel, as QEMU's -kernel takes it.
    #[arg(
        long,
        value_name = "FILE",
        requires = "cmdline",
        conflicts_with = "uki"
    )]
    kernel: Option<PathBuf>,
    /// The initrd, as QEMU's -initrd takes it.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The command line, as QEMU's -append takes it.
    #[arg(long, value_name = "TEXT")]
    cmdline: Option<String>,
    /// A unified kernel image, as QEMU's -kernel takes it or as it is on the disk of --disk.
    #[arg(long, value_name = "FILE")]
    uki: Option<PathBuf>,
    /// The disk from which the unified kernel image is started; its first MiB is read. RTMR0 is then not predicted.
    #[arg(
        long,
        value_name = "FILE",
        requires = "uki",
        conflicts_with = "cmdline"
    )]
    disk: Option<PathBuf>,
    /// The boot loader of that disk (systemd-boot), if the firmware does not start the image itself.
    #[arg(long, value_name = "FILE", requires = "disk")]
    loader: Option<PathBuf>,
    #[command(flatten)]
    guest: Machine,
    #[command(flatten)]
    machine: MachineArguments,
    #[command(flatten)]
    built: FirmwareArguments,
    /// Events that the guest measures while it runs, for RTMR3: a JSON list of name and digest, or of dstack's events.
    #[arg(long, value_name = "FILE")]
    runtime_events: Option<PathBuf>,
    /// Print one JSON object with the predicted registers and their events.
    #[arg(long)]
    json: bool,
}

/// What a prediction needs to know of QEMU.
#[derive(Args)]
pub struct MachineArguments {
    /// ACPI tables from elsewhere, for study: their registers are marked as not usable in a policy. A directory with
    /// table-loader, rsdp, tables, and tpm-log if there is a TPM (or loader.bin, rsdp.bin, tables.bin, tpm-log.bin), or a
    /// file with the tables alone.
    #[arg(long, value_name = "DIRECTORY|FILE")]
    pub acpi_tables: Option<PathBuf>,
    /// The order in which QEMU adds the firmware's pages: single from QEMU 9 on, two in Canonical's and Intel's QEMU 8.
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
    let firmware = read_bounded(&arguments.firmware, predict::limits::FIRMWARE_BYTES_MAX)?;
    let reading = || format!("predicting from {}", arguments.firmware.display());
    let mrtd = mrtd(&firmware, arguments.machine.page_order.into()).with_context(reading)?;
    let not_by_qemu = Tdvf::parse(&firmware)?.check_qemu().err();
    if let Some(why) = &not_by_qemu {
        eprintln!("MRTD is that of the TDVF design guide; {why}");
    }
    let mut events = Vec::new();
    if arguments.asks_for_more_than_mrtd() {
        let firmware = arguments.built.firmware(&firmware).with_context(reading)?;
        events.extend(rtmr0_events(arguments, firmware)?);
        events.extend(boot_events(arguments, firmware.build().release())?);
    }
    let listed = events.iter().map(|event| json!(event));
    let mut listed: Vec<Value> = listed.collect();

    let mut registers = Map::from_iter([("mrtd".to_owned(), json!(mrtd))]);
    for (register, name, needs) in NEEDS {
        if events.iter().any(|event| event.register == register) {
            registers.insert(name.into(), json!(replay(register, &events)));
        } else {
            eprintln!("{name} is not predicted: it needs {needs}");
        }
    }
    if let Some(path) = &arguments.runtime_events {
        let bytes = read_bounded(path, predict::limits::EVENT_LOG_JSON_BYTES_MAX)?;
        let runtime =
            rtmr3::events(&bytes).with_context(|| format!("reading {}", path.display()))?;
        registers.insert("rtmr3".into(), json!(registers::replay(&runtime)));
        listed.extend(runtime.iter().map(|event| {
            json!({
                "register": Register::Rtmr3, "type": "RUNTIME", "digest": event.digest, "from": event.name,
            })
        }));
    }
    let foreign = arguments.machine.acpi_tables.is_some();
    if foreign {
        eprintln!(
            "the ACPI tables are of another origin: this result is for study and not usable in a policy"
        );
    }
    if arguments.json {
        if let (false, Some(assumed)) = (events.is_empty(), arguments.built.assumed(&firmware)) {
            registers.insert("assumed".into(), json!([format!("firmware {assumed}")]));
        }
        registers.insert("events".into(), listed.into());
        if let Some(why) = &not_by_qemu {
            registers.insert("not_by_qemu".into(), why.to_string().into());
        }
        if foreign || not_by_qemu.is_some() {
            registers.insert("usable_in_policy".into(), false.into());
        }
        return print_json(&registers.into());
    }
    print_people(&registers, &listed)
}

/// With tables that are made here, or with those of another origin.
fn rtmr0_events(
    arguments: &PredictArguments,
    firmware: Firmware<'_>,
) -> anyhow::Result<Vec<PredictedEvent>> {
    let shape = match &arguments.machine.acpi_tables {
        // A shape may still say how much memory there is; its tables need not be known.
        Some(_) if arguments.guest.shape.is_none() => None,
        _ => arguments.guest.shape()?,
    };
    let memory_mib = shape.as_ref().map(|shape| shape.memory_mib);
    let memory_mib = memory_mib.or(arguments.guest.memory);
    if arguments.disk.is_some() {
        return Ok(Vec::new());
    }
    let files = match (&arguments.machine.acpi_tables, &shape) {
        (Some(path), _) => acpi_files(path)?,
        (None, Some(shape)) => acpi::acpi_files(shape)?.into_files(),
        (None, None) if arguments.guest.memory.is_some() && arguments.boots().is_none() => {
            bail!("--memory without --vcpus gives no register; add the guest's processors")
        }
        (None, None) => return Ok(Vec::new()),
    };
    let Some(memory_mib) = memory_mib else {
        bail!("--acpi-tables without --memory gives no register; add the guest's memory size");
    };
    let build = firmware.build();
    let around = arguments.built.surroundings(&build, shape.as_ref())?;
    let platform = around.platform(firmware, memory_mib);
    rtmr0(&platform, &files).context("predicting RTMR0")
}

/// Of RTMR1 and RTMR2.
fn boot_events(
    arguments: &PredictArguments,
    release: Edk2Release,
) -> anyhow::Result<Vec<PredictedEvent>> {
    let Some(path) = arguments.boots() else {
        if arguments.cmdline.is_some() {
            bail!("--cmdline without --kernel or --uki gives no register");
        }
        return Ok(Vec::new());
    };
    let measuring = || format!("measuring {}", path.display());
    let cmdline = arguments.cmdline.as_deref();
    if arguments.kernel.is_none() {
        let uki = read_bounded(path, predict::limits::UKI_BYTES_MAX)?;
        let table = match &arguments.disk {
            Some(disk) => Some(read_start(disk, predict::limits::DISK_HEAD_BYTES_MAX)?),
            None => None,
        };
        let loader = match &arguments.loader {
            Some(loader) => Some(read_bounded(loader, predict::limits::LOADER_BYTES_MAX)?),
            None => None,
        };
        let method = match &table {
            Some(table) => BootMethod::Disk {
                table,
                loader: loader.as_deref(),
            },
            None => BootMethod::Kernel { append: cmdline },
        };
        let boot = Boot::Uki { uki: &uki, method };
        return boot.events(release).with_context(measuring);
    }
    let kernel = read_bounded(path, predict::limits::KERNEL_BYTES_MAX)?;
    let initrd = match &arguments.initrd {
        Some(path) => Some(read_bounded(path, predict::limits::INITRD_BYTES_MAX)?),
        None => None,
    };
    let boot = Boot::Direct {
        kernel: &kernel,
        initrd: initrd.as_deref(),
        cmdline: cmdline.unwrap_or_default(),
        header: kernel_header(arguments, release)?,
    };
    boot.events(release).with_context(measuring)
}

/// Older pairs of QEMU and edk2 measure another header than the file's, which depends on the guest's memory.
fn kernel_header(
    arguments: &PredictArguments,
    release: Edk2Release,
) -> anyhow::Result<KernelHeader> {
    let shape = match &arguments.guest.shape {
        Some(path) => Some(super::shape::read_shape(path)?),
        None => None,
    };
    let qemu = match (&shape, &arguments.guest.qemu) {
        (Some(shape), _) => shape.qemu.as_str(),
        (None, Some(qemu)) => qemu,
        (None, None) => LOCKED_QEMU.as_str(),
    };
    let memory_mib = shape.as_ref().map(|shape| shape.memory_mib);
    let memory_mib = memory_mib.or(arguments.guest.memory);
    let header = KernelHeader::of(qemu, release, true, memory_mib.unwrap_or(0))?;
    match header {
        KernelHeader::PatchedByQemu { .. } if memory_mib.is_none() => {
            bail!("this QEMU and edk2 change the kernel's header by memory size; add --memory")
        }
        header => Ok(header),
    }
}

impl PredictArguments {
    fn boots(&self) -> Option<&Path> {
        self.kernel.as_deref().or(self.uki.as_deref())
    }

    fn asks_for_more_than_mrtd(&self) -> bool {
        let machine = self.guest.shape.is_some() || self.guest.memory.is_some();
        let boot = self.boots().is_some() || self.cmdline.is_some();
        machine || boot || self.machine.acpi_tables.is_some()
    }
}

fn print_people(registers: &Map<String, Value>, events: &[Value]) -> anyhow::Result<()> {
    let mut text = String::new();
    for (name, value) in registers {
        text += &format!("{name:5}  {}\n", value.as_str().unwrap_or_default());
    }
    for event in events {
        let word = |name: &str| event[name].as_str().unwrap_or_default();
        let (register, digest, from) = (word("register"), word("digest"), word("from"));
        text += &format!("{register}  {digest}  {from}\n");
    }
    print(text.as_bytes())
}

/// The files of a directory under the names that QEMU has for them, or those that follow from a file of tables. The library
/// asks for what is missing.
pub fn acpi_files(path: &Path) -> anyhow::Result<AcpiFiles> {
    if path.is_file() {
        let tables = read_bounded(path, predict::limits::ACPI_BLOB_BYTES_MAX)?;
        return acpi::files_of_tables(&tables)
            .with_context(|| format!("reading {}", path.display()));
    }
    let directory = path;
    let mut files = AcpiFiles::new();
    for (fw_cfg, names, max) in ACPI_NAMES {
        let paths = names.map(|name| directory.join(name));
        if let Some(path) = paths.iter().find(|path| path.exists()) {
            files.insert(fw_cfg.into(), read_bounded(path, max)?);
        } else if directory.join(format!("{}.gz", names[1])).exists() {
            let directory = directory.display();
            bail!(
                "the tables in {directory} are compressed; unpack them first: gunzip {directory}/*.gz"
            );
        }
    }
    if files.is_empty() {
        bail!(
            "{} has no ACPI tables; see --help for the names",
            directory.display()
        );
    }
    Ok(files)
}

const NEEDS: [(Register, &str, &str); 3] = [
    (
        Register::Rtmr0,
        "rtmr0",
        "--vcpus and --memory, or --shape, and no --disk",
    ),
    (Register::Rtmr1, "rtmr1", "--kernel and --cmdline, or --uki"),
    (
        Register::Rtmr2,
        "rtmr2",
        "--kernel and --cmdline, and --initrd if there is one, or --uki",
    ),
];

/// Names in fw_cfg, names in a directory, and limits.
const ACPI_NAMES: [(&str, [&str; 2], usize); 4] = [
    (
        TABLE_LOADER,
        ["table-loader", "loader.bin"],
        predict::limits::TABLE_LOADER_BYTES_MAX,
    ),
    (
        "etc/acpi/rsdp",
        ["rsdp", "rsdp.bin"],
        predict::limits::ACPI_BLOB_BYTES_MAX,
    ),
    (
        "etc/acpi/tables",
        ["tables", "tables.bin"],
        predict::limits::ACPI_BLOB_BYTES_MAX,
    ),
    (
        "etc/tpm/log",
        ["tpm-log", "tpm-log.bin"],
        predict::limits::ACPI_BLOB_BYTES_MAX,
    ),
];
