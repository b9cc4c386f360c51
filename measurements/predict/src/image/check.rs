//! Whether an image is what its manifest says, as far as files show it.
//!
//! Every file's length and digest, the hash over the root, and every register are computed again. **What was not computed is
//! not verified**: a manifest can agree with itself, be signed, and still state a register that no guest of these files has.
//!
//! A program that checks images reads the files into [`Files`], calls [`check`], prints each [`Check`] on its own line
//! (`what`, [`Outcome::word`], [`Outcome::detail`]), and exits with 0 only if [`Report::accepts`] with the names that its
//! `--allow-unchecked` was given, none by default. Only [`Report::is_verified`] is called "verified".

use std::io::{ErrorKind, Read, Result};

use registers::{Digest32, Digest48, Register, VerityRoot};
use sha2::{Digest, Sha256};

use super::{ImageFile, ImageManifest};
use crate::acpi::{Qemu, acpi_files, files::AcpiFiles};
use crate::qemu::launched_shape;
use crate::{
    Boot, BootMethod, Edk2Release, EventKind, Firmware, FirmwareBuild, FirmwareError, PageOrder,
    Platform, PredictError, PredictedEvent, VERITY_BLOCK_BYTES, VerityHash, direct, limits, mrtd,
    replay, rtmr0, rtmr0_around_acpi,
};

/// The files of an image, as somebody found them.
#[derive(Clone, Debug)]
pub struct Files<'a> {
    /// The firmware.
    pub firmware: &'a [u8],
    /// The kernel.
    pub kernel: &'a [u8],
    /// The initrd.
    pub initrd: &'a [u8],
    /// The root file system.
    pub root: Root,
    /// The unified kernel image, if it is there.
    pub uki: Option<&'a [u8]>,
    /// The disk, if it is there.
    pub disk: Option<Disk>,
    /// The ACPI files of the machine, if somebody collected them. Without them RTMR0 is computed for the machines whose
    /// tables this crate makes.
    pub acpi: Option<&'a AcpiFiles>,
    /// In which order QEMU adds the firmware's pages.
    pub page_order: PageOrder,
}

/// A root file system, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root {
    bytes: u64,
    sha256: Digest32,
    /// Over the blocks of data; none if the file has fewer.
    verity_hash: Option<Digest32>,
}

/// A disk, read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    bytes: u64,
    sha256: Digest32,
    table: Vec<u8>,
}

/// What came of every check, in the order of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Files, then the hash over the root, then registers.
    pub checks: Vec<Check>,
}

/// Something that the manifest states, and what came of checking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The file or register. Of the unified kernel image and the disk, the word `uki` or `disk` stands before it.
    pub what: &'static str,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a check, with words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Computed, and the same.
    Same(String),
    /// Computed, and something else.
    Differs(String),
    /// Not computed: this shows nothing.
    NotComputed(String),
}

impl Report {
    /// Whether all was computed and is what the manifest says.
    pub fn is_verified(&self) -> bool {
        self.accepts::<&str>(&[])
    }

    /// Whether nothing differs, and all that was not computed is among these names ([`Report::unchecked`]).
    pub fn accepts<T: AsRef<str>>(&self, unchecked_allowed: &[T]) -> bool {
        let allowed = |name: &str| unchecked_allowed.iter().any(|known| known.as_ref() == name);
        let differs = |check: &Check| matches!(check.outcome, Outcome::Differs(_));
        !self.checks.iter().any(differs) && self.unchecked().into_iter().all(allowed)
    }

    /// What was not computed, each once: a register, or `uki` or `disk` for the file with its registers.
    pub fn unchecked(&self) -> Vec<&'static str> {
        let open = |check: &&Check| matches!(check.outcome, Outcome::NotComputed(_));
        let names = self.checks.iter().filter(open);
        let mut names: Vec<_> = names
            .filter_map(|check| check.what.split(' ').next())
            .collect();
        names.dedup();
        names
    }
}

impl Outcome {
    /// What came of it, for a column.
    pub fn word(&self) -> &'static str {
        match self {
            Outcome::Same(_) => "same",
            Outcome::Differs(_) => "differs",
            Outcome::NotComputed(_) => "not computed",
        }
    }

    /// The value, or what differs, or why it was not computed.
    pub fn detail(&self) -> &str {
        let (Outcome::Same(text) | Outcome::Differs(text) | Outcome::NotComputed(text)) = self;
        text
    }
}

impl Root {
    /// Reads a root to its end.
    pub fn read(mut file: impl Read, named: &VerityRoot) -> Result<Root> {
        let (mut bytes, mut sha256) = (0, Sha256::new());
        let (mut verity, mut blocks) = (VerityHash::new(named.salt), 0);
        let mut block = [0; VERITY_BLOCK_BYTES];
        loop {
            let read = fill(&mut file, &mut block)?;
            sha256.update(&block[..read]);
            bytes += read as u64;
            if read < VERITY_BLOCK_BYTES {
                break;
            }
            if blocks < named.data_blocks {
                verity.block(&block);
                blocks += 1;
            }
        }
        let whole = blocks == named.data_blocks;
        Ok(Root {
            bytes,
            sha256: Digest32(sha256.finalize().into()),
            verity_hash: whole.then(|| verity.finish()).flatten(),
        })
    }
}

impl Disk {
    /// Reads a disk to its end.
    pub fn read(mut file: impl Read) -> Result<Disk> {
        let (mut bytes, mut sha256, mut table) = (0, Sha256::new(), Vec::new());
        let mut block = vec![0; 1 << 16];
        loop {
            let read = fill(&mut file, &mut block)?;
            let block = &block[..read];
            sha256.update(block);
            bytes += read as u64;
            let room = limits::DISK_HEAD_BYTES_MAX - table.len();
            table.extend_from_slice(&block[..read.min(room)]);
            if read < 1 << 16 {
                break;
            }
        }
        Ok(Disk {
            bytes,
            sha256: Digest32(sha256.finalize().into()),
            table,
        })
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Checks an image's files against its manifest.
pub fn check(manifest: &ImageManifest, files: &Files<'_>) -> Report {
    let mut checks = Vec::new();
    let mut add = |what, outcome| checks.push(Check { what, outcome });
    let listed = &manifest.files;
    add("firmware", bytes(&listed.firmware, files.firmware));
    add("kernel", bytes(&listed.kernel, files.kernel));
    add("initrd", bytes(&listed.initrd, files.initrd));
    add(
        "root",
        file(&listed.root, files.root.bytes, files.root.sha256),
    );
    add("verity hash", verity_hash(manifest, &files.root));
    let stated = &manifest.events;
    let measured = mrtd(files.firmware, files.page_order).map_err(PredictError::from);
    add("mrtd", value(manifest.registers.mrtd, measured));
    let build = FirmwareBuild::known(files.firmware).unwrap_or(FirmwareBuild::STABLE202502);
    let firmware = Firmware::new(files.firmware, build);
    add(
        "rtmr0",
        match &firmware {
            Ok(firmware) => rtmr0_outcome(manifest, files, *firmware),
            Err(error) => Outcome::Differs(error.to_string()),
        },
    );
    match &firmware {
        Err(error @ (FirmwareError::MeasuresNothing | FirmwareError::Volume(_))) => {
            let differs = || Outcome::Differs(error.to_string());
            add("rtmr1", differs());
            add("rtmr2", differs());
        }
        _ => {
            let kernel = direct::rtmr1(files.kernel, build.release());
            add("rtmr1", events(stated, Register::Rtmr1, &kernel));
            let initrd = direct::rtmr2(&manifest.cmdline, Some(files.initrd));
            add("rtmr2", events(stated, Register::Rtmr2, &initrd));
        }
    }
    unified(manifest, files, build.release(), &mut add);
    Report { checks }
}

/// The unified kernel image and the disk, each with its registers. A direct boot needs neither, so they may have been
/// deleted; then what the manifest states of them is not checked.
fn unified(
    manifest: &ImageManifest,
    files: &Files<'_>,
    release: Edk2Release,
    add: &mut impl FnMut(&'static str, Outcome),
) {
    let (Some(listed), Some(stated)) = (&manifest.files.uki, &manifest.uki) else {
        return;
    };
    let absent = || Outcome::NotComputed(ABSENT.into());
    let boot = |uki, method| Boot::Uki { uki, method }.events(release);
    match files.uki {
        None => ["uki", "uki parts", "uki rtmr1", "uki rtmr2"]
            .into_iter()
            .for_each(|what| add(what, absent())),
        Some(uki) => {
            let computed = boot(uki, BootMethod::Kernel { append: None });
            let (of, kernel) = (&stated.kernel_events, &computed);
            add("uki", bytes(listed, uki));
            add("uki parts", parts(manifest, files, kernel));
            add("uki rtmr1", events(of, Register::Rtmr1, kernel));
            add("uki rtmr2", events(of, Register::Rtmr2, kernel));
        }
    }
    let Some(listed) = &manifest.files.disk else {
        return;
    };
    match &files.disk {
        None => add("disk", absent()),
        Some(disk) => add("disk", file(listed, disk.bytes, disk.sha256)),
    }
    let computed = files.uki.zip(files.disk.as_ref()).map(|(uki, disk)| {
        let table = &disk.table[..];
        let loader = None;
        boot(uki, BootMethod::Disk { table, loader })
    });
    for (what, register) in [
        ("disk rtmr1", Register::Rtmr1),
        ("disk rtmr2", Register::Rtmr2),
    ] {
        let outcome = computed.as_ref().map_or_else(absent, |computed| {
            events(&stated.disk_events, register, computed)
        });
        add(what, outcome);
    }
}

/// Whether the unified kernel image consists of the kernel, the initrd and the command line of the direct boot.
fn parts(manifest: &ImageManifest, files: &Files<'_>, computed: &Events) -> Outcome {
    let direct = [
        (".linux", files.kernel),
        (".initrd", files.initrd),
        (".cmdline", manifest.cmdline.as_bytes()),
    ];
    let computed = computed.as_deref().unwrap_or_default();
    let differs = |(name, part): &&(&str, &[u8])| {
        let (from, digest) = (format!("section {name}"), Digest48::of(part));
        !computed
            .iter()
            .any(|event| event.from == from && event.digest == digest)
    };
    match direct.iter().find(differs) {
        None => Outcome::Same("kernel, initrd and command line of the direct boot".into()),
        Some((name, _)) => Outcome::Differs(format!(
            "the section {name} is not what the manifest has for the direct boot"
        )),
    }
}

/// RTMR0 for the tables that were collected, or for those that each known QEMU gives this machine.
fn rtmr0_outcome(manifest: &ImageManifest, files: &Files<'_>, firmware: Firmware<'_>) -> Outcome {
    let platform = Platform::new(firmware, manifest.machine.memory_mib);
    let stated = of(&manifest.events, Register::Rtmr0);
    if let Some(acpi) = files.acpi {
        return events(&manifest.events, Register::Rtmr0, &rtmr0(&platform, acpi));
    }
    for qemu in Qemu::ALL {
        let tables = acpi_files(&launched_shape(manifest.profile, manifest.machine, qemu)).ok();
        let computed = tables.and_then(|tables| rtmr0(&platform, &tables).ok());
        if let Some(computed) = computed
            && same(&stated, &of(&computed, Register::Rtmr0))
        {
            let value = replay(Register::Rtmr0, &computed);
            return Outcome::Same(format!("{value}, QEMU {}", qemu.as_str()));
        }
    }
    let [before, after] = match rtmr0_around_acpi(&platform) {
        Ok(around) => around,
        Err(error) => return Outcome::Differs(error.to_string()),
    };
    let (start, rest) = stated.split_at(before.len().min(stated.len()));
    let (tables, end) = rest.split_at(rest.len().saturating_sub(after.len()));
    let is_table = |event: &&PredictedEvent| event.kind == EventKind::PlatformConfigFlags;
    let around = same(start, &of(&before, Register::Rtmr0))
        && same(end, &of(&after, Register::Rtmr0))
        && tables.iter().all(is_table);
    match around {
        true => Outcome::NotComputed(UNKNOWN_TABLES.into()),
        false => Outcome::Differs(
            "the manifest's events are not those of this firmware and memory size".into(),
        ),
    }
}

type Events = std::result::Result<Vec<PredictedEvent>, PredictError>;

fn bytes(listed: &ImageFile, found: &[u8]) -> Outcome {
    file(listed, found.len() as u64, Digest32::of(found))
}

fn file(listed: &ImageFile, bytes: u64, sha256: Digest32) -> Outcome {
    match (bytes, sha256) == (listed.bytes, listed.sha256) {
        true => Outcome::Same(format!("{bytes} bytes, sha256 {sha256}")),
        false => Outcome::Differs(format!(
            "{} has {bytes} bytes and sha256 {sha256}; the manifest says {} and {}",
            listed.name, listed.bytes, listed.sha256
        )),
    }
}

fn verity_hash(manifest: &ImageManifest, root: &Root) -> Outcome {
    let named = &manifest.root;
    match root.verity_hash {
        Some(hash) if hash == named.verity_hash => Outcome::Same(hash.to_string()),
        Some(hash) => Outcome::Differs(format!(
            "the root hashes to {hash}; the command line says {}",
            named.verity_hash
        )),
        None => Outcome::Differs(format!(
            "the root has fewer than {} blocks",
            named.data_blocks
        )),
    }
}

fn value(stated: Digest48, computed: std::result::Result<Digest48, PredictError>) -> Outcome {
    match computed {
        Ok(computed) if computed == stated => Outcome::Same(computed.to_string()),
        Ok(computed) => Outcome::Differs(format!("computed {computed}, stated {stated}")),
        Err(error) => Outcome::Differs(error.to_string()),
    }
}

/// Whether the events of a register are those that the manifest lists, which lead to its value there.
fn events(stated: &[PredictedEvent], register: Register, computed: &Events) -> Outcome {
    let computed = match computed {
        Ok(computed) => computed,
        Err(error) => return Outcome::Differs(error.to_string()),
    };
    let (stated, measured) = (of(stated, register), of(computed, register));
    if same(&stated, &measured) {
        return Outcome::Same(replay(register, computed).to_string());
    }
    let mut pairs = stated.iter().zip(&measured);
    Outcome::Differs(match pairs.find(|(a, b)| !same(&[a], &[b])) {
        Some((stated, computed)) => format!(
            "{}: computed {}, stated {}",
            computed.from, computed.digest, stated.digest
        ),
        None => format!(
            "computed {} events, stated {}",
            measured.len(),
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

const ABSENT: &str = "it is not beside the manifest, and a direct boot does not need it";
const UNKNOWN_TABLES: &str = "the ACPI tables are those of no QEMU that this program knows; \
    collect the machine's tables to compute it (measurements image verify --acpi-tables)";
