//! `measurements predict-set` and `measurements match`: an image in many machines, and which of them a quote comes from.

use std::path::PathBuf;

use anyhow::Context;
use attest::Profile;
use clap::Args;
use diagnose::{Devices, Machine, MachineSet, SetFirmware};
use predict::{acpi::Qemu, image::ImageManifest};
use registers::Register;
use serde_json::{Value, json};

use super::firmware::FirmwareArguments;
use super::quote_file::parse_quote;
use super::shape::memory_mib;
use super::{print, print_json, read_bounded, write_whole};

/// Predict an image's registers in many machines: every combination of QEMU version, processors, memory and devices.
///
/// If the tables of one machine were never compared with QEMU's, the whole set is refused and the machine is named. The
/// output is JSON for `measurements match` with --json or --out, and a table otherwise.
///
/// Example:
///   measurements predict-set --manifest image/manifest.json --vcpus 2,4,8 --memory 4G,8G,16G --out set.json
/// Example, with GPUs, each behind a root port from slot 4 on (no passed-through GPU was compared, and the set says so):
///   measurements predict-set --manifest image/manifest.json --qemu 11.1.3 --vcpus 16,32 --memory 256G \
///     --devices guest,guest-with-1-h100 --out set.json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct PredictSetArguments {
    /// The image manifest; the firmware is in the same directory.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// Numbers of processors, separated by commas.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', required = true)]
    vcpus: Vec<u32>,
    /// Sizes of memory, separated by commas, for example 2048M,2G.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = memory_mib, required = true)]
    memory: Vec<u64>,
    /// Versions of QEMU, separated by commas.
    #[arg(
        long,
        value_name = "VERSIONS",
        value_delimiter = ',',
        default_value = "10.0.13,11.1.3"
    )]
    qemu: Vec<String>,
    /// Lists of devices, separated by commas: guest, guest-with-tpm, guest-with-1-h100
    /// [default: what `host-proxy launch` gives the image's profile]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    devices: Vec<Devices>,
    #[command(flatten)]
    built: FirmwareArguments,
    /// Where to write the set.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the set as JSON.
    #[arg(long)]
    json: bool,
}

/// Find the machine of a set that a quote comes from. Exit code 1: none.
///
/// The quote's signature is not checked: first run `measurements quote verify`.
///
/// Example:
///   measurements match --set set.json --quote quote.bin
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub struct MatchArguments {
    /// The set, as `measurements predict-set` writes it.
    #[arg(long, value_name = "FILE")]
    set: PathBuf,
    /// The quote: binary, hexadecimal, base64, or the JSON of a tool with it.
    #[arg(long, value_name = "FILE")]
    quote: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn predict_set(arguments: &PredictSetArguments) -> anyhow::Result<()> {
    let path = &arguments.manifest;
    let bytes = read_bounded(path, predict::limits::IMAGE_MANIFEST_BYTES_MAX)?;
    let image =
        ImageManifest::from_json(&bytes).with_context(|| format!("reading {}", path.display()))?;
    let beside = path.with_file_name(&image.files.firmware.name);
    let firmware = read_bounded(&beside, predict::limits::FIRMWARE_BYTES_MAX)?;
    let machines = machines(arguments, image.profile)?;
    let firmware = arguments.built.firmware(&firmware)?;
    let (processor, signer) = arguments.built.of_set(&firmware.build())?;
    let firmware = SetFirmware {
        firmware,
        processor,
        signer: signer.as_deref(),
    };
    let set = MachineSet::predict(&image, &firmware, machines).context("predicting the set")?;
    if let Some(path) = &arguments.out {
        write_whole(path, &set.to_json())?;
    }
    if let Some(what) = set.not_compared() {
        eprintln!("{what}");
    }
    match arguments.json {
        true => print(&set.to_json()),
        false => print(table(&set).as_bytes()),
    }
}

fn machines(arguments: &PredictSetArguments, profile: Profile) -> anyhow::Result<Vec<Machine>> {
    let qemus = arguments.qemu.iter().map(|version| Qemu::parse(version));
    let qemus: Vec<Qemu> = qemus.collect::<Result<_, _>>()?;
    let mut devices = arguments.devices.clone();
    if devices.is_empty() {
        devices.push(match profile {
            Profile::Sim => Devices::GuestWithTpm,
            Profile::H100 => Devices::GuestWithH100,
            Profile::Cpu | Profile::Dev => Devices::Guest,
        });
    }
    let mut machines = Vec::new();
    for qemu in qemus {
        for devices in &devices {
            for vcpus in &arguments.vcpus {
                machines.extend(arguments.memory.iter().map(|memory_mib| Machine {
                    qemu,
                    vcpus: *vcpus,
                    memory_mib: *memory_mib,
                    devices: *devices,
                }));
            }
        }
    }
    Ok(machines)
}

fn table(set: &MachineSet) -> String {
    let shared = [
        ("mrtd", set.mrtd),
        ("rtmr1", set.rtmr1),
        ("rtmr2", set.rtmr2),
    ];
    let mut text: String = shared
        .iter()
        .map(|(name, value)| format!("{name:5}  {value}\n"))
        .collect();
    for (machine, rtmr0) in set.machines() {
        text += &format!("rtmr0  {rtmr0}  {machine}\n");
    }
    text
}

/// Whether the quote's guest is one of the set's.
pub fn matches(arguments: &MatchArguments) -> anyhow::Result<bool> {
    let path = &arguments.set;
    let bytes = read_bounded(path, diagnose::limits::MACHINE_SET_BYTES_MAX)?;
    let set =
        MachineSet::from_json(&bytes).with_context(|| format!("reading {}", path.display()))?;
    let quote = parse_quote(&arguments.quote)?;
    let compared = set.compare(&quote.td.registers);
    let belongs = compared.belongs();
    eprintln!("the quote's signature and its RTMR3 are not looked at here");
    let mut found = compared.machines.iter();
    let not_compared = found.find_map(|machine| machine.devices.not_compared());
    if arguments.json {
        let machines = compared.machines.iter().map(|machine| {
            json!({
                "qemu": machine.qemu.as_str(),
                "vcpus": machine.vcpus,
                "memory_mib": machine.memory_mib,
                "devices": machine.devices,
            })
        });
        print_json(&json!({
            "matches": belongs,
            "image_sha256": set.image_sha256,
            "machines": machines.collect::<Vec<Value>>(),
            "differing": compared.differing,
            "not_compared": not_compared,
        }))?;
    } else if belongs {
        let lines = compared.machines.iter();
        print(
            lines
                .map(|machine| format!("{machine}\n"))
                .collect::<String>()
                .as_bytes(),
        )?;
    }
    if !belongs {
        eprintln!(
            "no machine of the set: {}",
            nearest(&compared.machines, &compared.differing)
        );
    }
    Ok(belongs)
}

/// What is true of a guest that is none of the set's.
fn nearest(machines: &[Machine], differing: &[Register]) -> String {
    let names: Vec<&str> = differing
        .iter()
        .map(|register| match register {
            Register::Mrtd => "the firmware (MRTD)",
            Register::Rtmr0 => "the machine (RTMR0)",
            Register::Rtmr1 => "the kernel (RTMR1)",
            Register::Rtmr2 => "the initrd or the command line (RTMR2)",
            Register::Rtmr3 => "the application (RTMR3)",
        })
        .collect();
    let names = names.join(" and ");
    match (machines.first(), differing.is_empty()) {
        (None, true) => "its image is the set's, its RTMR0 is that of no machine listed".into(),
        (Some(machine), _) => format!("its machine is {machine}, but {names} is another"),
        // A firmware of its own has an RTMR0 of its own, so nothing is known of the machine then.
        (None, false) => format!("{names} is another, and its RTMR0 is that of no machine listed"),
    }
}
