//! `measurements image`: an image's files against its manifest.

use std::{
    io::{BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;
use attest::Profile;
use clap::{Args, Subcommand};
use predict::{
    Boot, EventKind, Platform, PredictError, PredictedEvent, UkiRoad, VERITY_BLOCK_BYTES,
    VerityHash,
    acpi::{self, Qemu},
    direct,
    image::{ImageFile, ImageManifest},
    mrtd,
    qemu::guest_shape,
    rtmr0, rtmr0_around_acpi,
};
use registers::{Digest32, Digest48, Register};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::firmware::FirmwareArguments;
use super::predict::{MachineArguments, acpi_files};
use super::{open, print, print_json, read_bounded};

#[derive(Subcommand)]
pub enum ImageCommand {
    /// Compare an image's files with its manifest, and compute again what they measure to.
    ///
    /// What it cannot compute from the files it names. To check the rest, rebuild the image from its lock.
    ///
    /// Example:
    ///   measurements image verify --manifest image/manifest.json
    #[command(verbatim_doc_comment)]
    Verify(VerifyArguments),
}

#[derive(Args)]
pub struct VerifyArguments {
    /// The image manifest; the files lie beside it.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    #[command(flatten)]
    machine: MachineArguments,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Something that the manifest states, and what came of checking it.
struct Check {
    what: &'static str,
    outcome: Outcome,
}

enum Outcome {
    /// Computed again, with this result.
    Same(String),
    /// Something else came out.
    Differs(String),
    /// Not computed; why.
    Open(&'static str),
}

/// Whether everything that could be computed is what the manifest says.
pub fn verify(arguments: &VerifyArguments) -> anyhow::Result<bool> {
    let path = &arguments.manifest;
    let bytes = read_bounded(path, predict::limits::IMAGE_MANIFEST_BYTES_MAX)?;
    let manifest =
        ImageManifest::from_json(&bytes).with_context(|| format!("reading {}", path.display()))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut checks = file_checks(&manifest, directory)?;
    checks.extend(register_checks(&manifest, directory, &arguments.machine)?);
    checks.extend(STATED_ONLY.map(|(what, why)| Check {
        what,
        outcome: Outcome::Open(why),
    }));
    let differs = |check: &Check| matches!(check.outcome, Outcome::Differs(_));
    let good = !checks.iter().any(differs);
    if arguments.json {
        let fields: Vec<Value> = checks.iter().map(Check::json).collect();
        let image = manifest.digest();
        print_json(&json!({ "verified": good, "image_sha256": image, "checks": fields }))?;
    } else {
        let lines: String = checks.iter().map(Check::line).collect();
        print(lines.as_bytes())?;
    }
    if good {
        let image = manifest.digest();
        eprintln!("image {image}: its files are what the manifest says");
    } else {
        let path = path.display();
        eprintln!("refused: the files beside {path} are not its image");
    }
    Ok(good)
}

fn file_checks(manifest: &ImageManifest, directory: &Path) -> anyhow::Result<Vec<Check>> {
    let mut checks = Vec::new();
    for (what, file) in manifest.files.all() {
        let path = directory.join(&file.name);
        if is_left_out(manifest, what, &path) {
            let outcome = Outcome::Open(LEFT_OUT);
            checks.push(Check { what, outcome });
            continue;
        }
        let (bytes, sha256) = length_and_digest(&path)?;
        let outcome = if (bytes, sha256) == (file.bytes, file.sha256) {
            Outcome::Same(format!("{bytes} bytes, sha256 {sha256}"))
        } else {
            let (stated_bytes, stated) = (file.bytes, file.sha256);
            Outcome::Differs(format!(
                "{} has {bytes} bytes and sha256 {sha256}; the manifest says {stated_bytes} and {stated}",
                file.name
            ))
        };
        checks.push(Check { what, outcome });
    }
    let root = &manifest.root;
    let computed = verity_hash(
        &directory.join(&manifest.files.root.name),
        root.salt,
        root.data_blocks,
    )?;
    checks.push(Check {
        what: "verity hash",
        outcome: match computed {
            Some(hash) if hash == root.verity_hash => Outcome::Same(hash.to_string()),
            Some(hash) => Outcome::Differs(format!(
                "the root hashes to {hash}; the command line says {}",
                root.verity_hash
            )),
            None => Outcome::Differs(format!(
                "the root has fewer than {} blocks",
                root.data_blocks
            )),
        },
    });
    Ok(checks)
}

fn register_checks(
    manifest: &ImageManifest,
    directory: &Path,
    machine: &MachineArguments,
) -> anyhow::Result<Vec<Check>> {
    let read = |file: &ImageFile, max| read_bounded(&directory.join(&file.name), max);
    let firmware = read(
        &manifest.files.firmware,
        predict::limits::FIRMWARE_BYTES_MAX,
    )?;
    let kernel = read(&manifest.files.kernel, predict::limits::KERNEL_BYTES_MAX)?;
    let initrd = read(&manifest.files.initrd, predict::limits::INITRD_BYTES_MAX)?;
    let stated_mrtd = manifest.registers.mrtd;
    let mrtd = match mrtd(&firmware, machine.page_order.into()) {
        Ok(computed) if computed == stated_mrtd => Outcome::Same(computed.to_string()),
        Ok(computed) => Outcome::Differs(format!("computed {computed}, stated {stated_mrtd}")),
        Err(error) => Outcome::Differs(error.to_string()),
    };
    let direct = &manifest.events;
    let mut checks = vec![
        Check {
            what: "mrtd",
            outcome: mrtd,
        },
        Check {
            what: "rtmr0",
            outcome: rtmr0_outcome(manifest, &firmware, machine)?,
        },
        Check {
            what: "rtmr1",
            outcome: compare(direct, Register::Rtmr1, direct::rtmr1(&kernel)),
        },
        Check {
            what: "rtmr2",
            outcome: compare(
                direct,
                Register::Rtmr2,
                direct::rtmr2(&manifest.cmdline, Some(&initrd)),
            ),
        },
    ];
    checks.extend(uki_checks(manifest, directory, [&kernel, &initrd])?);
    Ok(checks)
}

/// RTMR1 and RTMR2 of the roads over a unified kernel image, where it and the disk are here.
fn uki_checks(
    manifest: &ImageManifest,
    directory: &Path,
    direct: [&[u8]; 2],
) -> anyhow::Result<Vec<Check>> {
    let (Some(file), Some(uki)) = (&manifest.files.uki, &manifest.uki) else {
        return Ok(Vec::new());
    };
    let path = directory.join(&file.name);
    if is_left_out(manifest, "uki", &path) {
        return Ok(Vec::new());
    }
    let program = read_bounded(&path, predict::limits::UKI_BYTES_MAX)?;
    let events = |road| {
        let uki = &program;
        Boot::Uki { uki, road }.events()
    };
    let check = |what, register, stated, computed: &Result<_, PredictError>| Check {
        what,
        outcome: compare(stated, register, computed.clone()),
    };
    let computed = events(UkiRoad::Kernel { append: None });
    let mut checks = vec![
        Check {
            what: "uki parts",
            outcome: parts_outcome(manifest, direct, computed.as_deref().unwrap_or(&[])),
        },
        check("uki rtmr1", Register::Rtmr1, &uki.kernel_events, &computed),
        check("uki rtmr2", Register::Rtmr2, &uki.kernel_events, &computed),
    ];
    let Some(file) = &manifest.files.disk else {
        return Ok(checks);
    };
    let path = directory.join(&file.name);
    if !is_left_out(manifest, "disk", &path) {
        let mut table = Vec::new();
        let read = open(&path)?
            .take(predict::limits::DISK_HEAD_BYTES_MAX as u64)
            .read_to_end(&mut table);
        read.with_context(|| format!("reading {}", path.display()))?;
        let computed = events(UkiRoad::Disk {
            table: &table,
            loader: None,
        });
        checks.extend([
            check("disk rtmr1", Register::Rtmr1, &uki.disk_events, &computed),
            check("disk rtmr2", Register::Rtmr2, &uki.disk_events, &computed),
        ]);
    }
    Ok(checks)
}

/// Whether the image consists of the kernel, the initrd and the command line that the manifest has for the direct boot.
fn parts_outcome(
    manifest: &ImageManifest,
    [kernel, initrd]: [&[u8]; 2],
    events: &[PredictedEvent],
) -> Outcome {
    let parts = [
        (".linux", kernel),
        (".initrd", initrd),
        (".cmdline", manifest.cmdline.as_bytes()),
    ];
    let differs = |(name, part): &(&str, &[u8])| {
        let (from, digest) = (format!("section {name}"), Digest48::of(part));
        !events
            .iter()
            .any(|event| event.from == from && event.digest == digest)
    };
    match parts.iter().find(|part| differs(part)) {
        None => {
            Outcome::Same("kernel, initrd and command line are those of the direct boot".into())
        }
        Some((name, _)) => Outcome::Differs(format!(
            "the section {name} is not what the manifest has for the direct boot"
        )),
    }
}

/// A direct boot needs neither the unified kernel image nor the disk, so who makes one may have deleted them.
fn is_left_out(manifest: &ImageManifest, what: &str, path: &Path) -> bool {
    let mut needed = manifest.files.each().into_iter();
    !needed.any(|(name, _)| name == what) && !path.exists()
}

/// All of it with the tables; without them, everything around them.
fn rtmr0_outcome(
    manifest: &ImageManifest,
    firmware: &[u8],
    machine: &MachineArguments,
) -> anyhow::Result<Outcome> {
    let memory_mib = manifest.machine.memory_mib;
    let built = FirmwareArguments::default();
    let platform = Platform::new(firmware, built.build(firmware)?, memory_mib);
    if let Some(directory) = &machine.acpi_tables {
        let events = rtmr0(&platform, &acpi_files(directory)?);
        return Ok(compare(&manifest.events, Register::Rtmr0, events));
    }
    // A simulated guest's machine has a TPM, which is in the tables.
    let tpm = manifest.profile == Profile::Sim;
    for qemu in Qemu::ALL {
        let tables = acpi::acpi_files(&guest_shape(manifest.machine, qemu, tpm));
        if let Ok(events) = tables.map_or(Ok(Vec::new()), |tables| rtmr0(&platform, &tables))
            && same(
                &of(&manifest.events, Register::Rtmr0),
                &of(&events, Register::Rtmr0),
            )
        {
            let value = predict::replay(Register::Rtmr0, &events);
            return Ok(Outcome::Same(format!("{value}, QEMU {}", qemu.as_str())));
        }
    }
    let [before, after] = match rtmr0_around_acpi(&platform) {
        Ok(around) => around,
        Err(error) => return Ok(Outcome::Differs(error.to_string())),
    };
    let stated = of(&manifest.events, Register::Rtmr0);
    let (start, rest) = stated.split_at(before.len().min(stated.len()));
    let (tables, end) = rest.split_at(rest.len().saturating_sub(after.len()));
    let is_table = |event: &&PredictedEvent| event.kind == EventKind::PlatformConfigFlags;
    Ok(
        if same(start, &of(&before, Register::Rtmr0))
            && same(end, &of(&after, Register::Rtmr0))
            && tables.iter().all(is_table)
        {
            Outcome::Open(
                "computed but for the ACPI tables, which are those of no QEMU that this program knows; give --acpi-tables to compute all",
            )
        } else {
            Outcome::Differs(
                "the manifest's events are not those of this firmware and memory size".into(),
            )
        },
    )
}

fn compare(
    stated: &[PredictedEvent],
    register: Register,
    computed: Result<Vec<PredictedEvent>, PredictError>,
) -> Outcome {
    let stated = of(stated, register);
    let computed = match computed {
        Err(error) => return Outcome::Differs(error.to_string()),
        Ok(computed) => computed,
    };
    let computed = of(&computed, register);
    if same(&stated, &computed) {
        let value = computed.iter().fold(Digest48::ZERO, |value, event| {
            value.extended_by(&event.digest)
        });
        return Outcome::Same(value.to_string());
    }
    let mut pairs = stated.iter().zip(&computed);
    Outcome::Differs(match pairs.find(|(a, b)| !same(&[a], &[b])) {
        Some((stated, computed)) => format!(
            "{}: computed {}, stated {}",
            computed.from, computed.digest, stated.digest
        ),
        None => format!(
            "computed {} events, stated {}",
            computed.len(),
            stated.len()
        ),
    })
}

fn of(events: &[PredictedEvent], register: Register) -> Vec<&PredictedEvent> {
    let of = |event: &&PredictedEvent| event.register == register;
    events.iter().filter(of).collect()
}

/// Equal but for the words for people.
fn same(stated: &[&PredictedEvent], computed: &[&PredictedEvent]) -> bool {
    let key = |event: &&PredictedEvent| (event.kind, event.digest);
    stated.iter().map(key).eq(computed.iter().map(key))
}

fn length_and_digest(path: &Path) -> anyhow::Result<(u64, Digest32)> {
    let mut file = open(path)?;
    let (mut bytes, mut hash, mut buffer) = (0, Sha256::new(), vec![0; 1 << 16]);
    loop {
        let read = file
            .read(&mut buffer)
            .with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            return Ok((bytes, Digest32(hash.finalize().into())));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

/// The hash over the first blocks of a file; none if it has not that many.
fn verity_hash(path: &Path, salt: Digest32, data_blocks: u64) -> anyhow::Result<Option<Digest32>> {
    let mut file = BufReader::with_capacity(1 << 16, open(path)?);
    let mut hash = VerityHash::new(salt);
    let mut block = [0; VERITY_BLOCK_BYTES];
    for _ in 0..data_blocks {
        match file.read_exact(&mut block) {
            Ok(()) => hash.block(&block),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("reading {}", path.display()));
            }
        }
    }
    Ok(hash.finish())
}

impl Check {
    fn parts(&self) -> (&'static str, &str) {
        match &self.outcome {
            Outcome::Same(text) => ("same", text),
            Outcome::Differs(text) => ("differs", text),
            Outcome::Open(text) => ("not computed", text),
        }
    }

    fn json(&self) -> Value {
        let (outcome, detail) = self.parts();
        json!({ "what": self.what, "outcome": outcome, "detail": detail })
    }

    fn line(&self) -> String {
        let (outcome, detail) = self.parts();
        format!("{:12}  {outcome:12}  {detail}\n", self.what)
    }
}

const LEFT_OUT: &str = "it is not beside the manifest, and a direct boot does not need it";

/// What only a rebuild shows.
const STATED_ONLY: [(&str, &str); 2] = [
    (
        "agent",
        "its SHA-384 is the builder's word: no file system is read here",
    ),
    (
        "contents",
        "the lists of files inside and of packages are the builder's word; rebuild the image from its lock",
    ),
];
