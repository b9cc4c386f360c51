//! What an image's files measure to, computed again, against what its manifest says.

use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use attest::Profile;
use predict::acpi::{Qemu, acpi_files};
use predict::{
    Boot, FirmwareBuild, PageOrder, Platform, PredictError, PredictedEvent, UkiRoad, direct, mrtd,
    replay, rtmr0,
};
use predict::{VERITY_BLOCK_BYTES, VerityHash, image::RoadRegisters, qemu::guest_shape};
use registers::{Digest48, Register};

use super::directory::{Directory, DirectoryError, disk, read};
use super::verify::{Check, Outcome};

/// A check for each register, and one for the hash over the root.
pub fn checks(directory: &Directory) -> Result<Vec<Check>, DirectoryError> {
    let manifest = &directory.manifest;
    let bytes = |name: &str, max| read(&directory.file(name), max);
    let firmware = bytes(
        &manifest.files.firmware.name,
        predict::limits::FIRMWARE_BYTES_MAX,
    )?;
    let kernel = bytes(
        &manifest.files.kernel.name,
        predict::limits::KERNEL_BYTES_MAX,
    )?;
    let initrd = bytes(
        &manifest.files.initrd.name,
        predict::limits::INITRD_BYTES_MAX,
    )?;
    let registers = manifest.registers;
    let mrtd = mrtd(&firmware, PageOrder::SinglePass).map_err(PredictError::from);
    let rtmr2 = direct::rtmr2(&manifest.cmdline, Some(&initrd));
    let mut checks = vec![
        Check::new("mrtd", same(registers.mrtd, mrtd)),
        Check::new("rtmr0", platform(directory, &firmware)),
        Check::new(
            "rtmr1",
            same(
                registers.rtmr1,
                value(Register::Rtmr1, direct::rtmr1(&kernel)),
            ),
        ),
        Check::new(
            "rtmr2",
            same(registers.rtmr2, value(Register::Rtmr2, rtmr2)),
        ),
        Check::new("root hash", root(directory)?),
    ];
    checks.extend(unified(directory)?);
    Ok(checks)
}

/// What the unified kernel image measures to, over `-kernel` and from the disk.
fn unified(directory: &Directory) -> Result<Vec<Check>, DirectoryError> {
    let manifest = &directory.manifest;
    let (Some(file), Some(stated)) = (&manifest.files.uki, &manifest.uki) else {
        return Ok(Vec::new());
    };
    let uki = &read(&directory.file(&file.name), predict::limits::UKI_BYTES_MAX)?;
    let pair = |road: &str, stated: RoadRegisters, events: Events| {
        let one = |register, stated| same(stated, value(register, events.clone()));
        [
            Check::new(format!("{road} rtmr1"), one(Register::Rtmr1, stated.rtmr1)),
            Check::new(format!("{road} rtmr2"), one(Register::Rtmr2, stated.rtmr2)),
        ]
    };
    let road = UkiRoad::Kernel { append: None };
    let mut checks = Vec::from(pair("uki", stated.kernel, Boot::Uki { uki, road }.events()));
    if let (Some(file), Some(stated)) = (&manifest.files.disk, stated.disk) {
        let path = directory.file(&file.name);
        let table = &head(&path, predict::limits::DISK_HEAD_BYTES_MAX as u64)?;
        let road = UkiRoad::Disk {
            table,
            loader: None,
        };
        checks.extend(pair("disk", stated, Boot::Uki { uki, road }.events()));
    }
    Ok(checks)
}

fn head(path: &Path, bytes_max: u64) -> Result<Vec<u8>, DirectoryError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max).read_to_end(&mut bytes))
        .map_err(|error| disk(path, &error))?;
    Ok(bytes)
}

type Events = Result<Vec<PredictedEvent>, PredictError>;

fn value(register: Register, events: Events) -> Result<Digest48, PredictError> {
    events.map(|events| replay(register, &events))
}

fn same(stated: Digest48, computed: Result<Digest48, PredictError>) -> Outcome {
    match computed {
        Ok(computed) if computed == stated => Outcome::Same(computed.to_string()),
        Ok(computed) => Outcome::Differs(format!("computed {computed}, stated {stated}")),
        Err(error) => Outcome::Differs(error.to_string()),
    }
}

/// RTMR0 has the tables of the machine, which are known of the QEMU versions that were compared.
fn platform(directory: &Directory, firmware: &[u8]) -> Outcome {
    let manifest = &directory.manifest;
    let build = FirmwareBuild::known(firmware).unwrap_or(FirmwareBuild::UP_TO_STABLE202502);
    let platform = Platform::new(firmware, build, manifest.machine.memory_mib);
    // A simulated guest's machine has a TPM.
    let tpm = manifest.profile == Profile::Sim;
    for qemu in Qemu::ALL {
        let Ok(tables) = acpi_files(&guest_shape(manifest.machine, qemu, tpm)) else {
            continue;
        };
        if value(Register::Rtmr0, rtmr0(&platform, &tables)) == Ok(manifest.registers.rtmr0) {
            let stated = manifest.registers.rtmr0;
            return Outcome::Same(format!("{stated}, QEMU {}", qemu.as_str()));
        }
    }
    Outcome::Open(
        "that of no QEMU and firmware that this program knows: `measurements image verify --acpi-tables` computes it".into(),
    )
}

/// The hash over the data of the root, as the command line names it.
fn root(directory: &Directory) -> Result<Outcome, DirectoryError> {
    let stated = &directory.manifest.root;
    let path = directory.file(&directory.manifest.files.root.name);
    let file = File::open(&path).map_err(|error| disk(&path, &error))?;
    let mut file = BufReader::with_capacity(1 << 20, file);
    let mut hash = VerityHash::new(stated.salt);
    let mut block = [0; VERITY_BLOCK_BYTES];
    for _ in 0..stated.data_blocks {
        match file.read_exact(&mut block) {
            Ok(()) => hash.block(&block),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let blocks = stated.data_blocks;
                return Ok(Outcome::Differs(format!(
                    "it has fewer than {blocks} blocks"
                )));
            }
            Err(error) => return Err(disk(&path, &error)),
        }
    }
    Ok(match hash.finish() {
        Some(hash) if hash == stated.verity_hash => Outcome::Same(hash.to_string()),
        Some(hash) => {
            let stated = stated.verity_hash;
            Outcome::Differs(format!("computed {hash}, the command line says {stated}"))
        }
        None => Outcome::Differs("it is longer than any root".into()),
    })
}
