//! A firmware file as QEMU and the TDX module see it: the memory a trust domain starts with, and MRTD over it.
//!
//! The metadata is in Intel's "TDX Virtual Firmware Design Guide", section 11; the table that leads to it ends 32 bytes
//! before the end of the file (edk2, `OvmfPkg/ResetVector`). This is a second implementation, made to be compared with
//! the one that predicts registers; they share no code.

use std::ops::Range;

use registers::Digest48;
use sha2::{Digest, Sha384};

use crate::limits::{FIRMWARE_BYTES_MAX, FIRMWARE_MEMORY_BYTES_MAX, FIRMWARE_SECTIONS_MAX};

/// Why a file is not a firmware that can start a trust domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
// Not `expect`: a fuzz target compiles this file by its path, where nothing is public.
#[allow(missing_docs)]
pub enum FirmwareError {
    #[error("it has {got} bytes, more than the {FIRMWARE_BYTES_MAX} allowed")]
    TooLong { got: usize },
    #[error("it has no TDX metadata")]
    NoMetadata,
    #[error("malformed TDX metadata: {0}")]
    Metadata(&'static str),
    #[error("malformed TDX metadata: section {index}: {why}")]
    Section { index: usize, why: &'static str },
    #[error("its TDX metadata has {got} sections of kind {kind:?}; one is expected")]
    Kind { kind: Kind, got: usize },
    #[error("its section at {address:#x} overlaps another or exceeds the machine's memory")]
    Memory { address: u64 },
}

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Code.
    BootVolume,
    /// Variables.
    ConfigurationVolume,
    /// Where QEMU writes the list of the memory.
    HandOffBlocks,
    /// Empty memory to work in.
    Temporary,
}

/// Part of the memory that a trust domain starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it is for.
    pub kind: Kind,
    /// Where its bytes are in the file; empty for memory that starts empty.
    pub data: Range<usize>,
    /// Where it is in the guest.
    pub memory: Range<u64>,
    /// Its bytes are part of MRTD (attribute bit 0, MR.EXTEND).
    pub measured: bool,
}

/// A firmware file whose metadata was read.
pub struct Firmware<'a> {
    image: &'a [u8],
    sections: Vec<Section>,
}

impl<'a> Firmware<'a> {
    /// Reads the metadata.
    pub fn parse(image: &'a [u8]) -> Result<Firmware<'a>, FirmwareError> {
        if image.len() > FIRMWARE_BYTES_MAX {
            return Err(FirmwareError::TooLong { got: image.len() });
        }
        let from_end = metadata_offset(image).ok_or(FirmwareError::NoMetadata)?;
        let at = image.len().checked_sub(from_end);
        let metadata = at
            .and_then(|at| image.get(at..))
            .ok_or(FirmwareError::NoMetadata)?;
        let (header, entries) = metadata
            .split_first_chunk::<16>()
            .ok_or(FirmwareError::Metadata("it is cut"))?;
        let [signature, length, version, count] = words(header);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if signature != u32::from_le_bytes(*b"TDVF") || version != 1 {
            return Err(FirmwareError::Metadata("it is not TDVF version 1"));
        }
        if count == 0 || count > FIRMWARE_SECTIONS_MAX {
            return Err(FirmwareError::Metadata("the number of sections"));
        }
        if usize::try_from(length) != Ok(16 + 32 * count) {
            return Err(FirmwareError::Metadata("its length is not its sections'"));
        }
        let (entries, _) = entries
            .split_at_checked(32 * count)
            .ok_or(FirmwareError::Metadata("it is cut"))?;
        let (entries, _) = entries.as_chunks::<32>();
        let sections = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| {
                section(entry, image).map_err(|why| FirmwareError::Section { index, why })
            })
            .collect::<Result<Vec<_>, _>>()?;
        // No overflow: each was found to be below the limit.
        let memory: u64 = sections.iter().map(|s| s.memory.end - s.memory.start).sum();
        if memory > FIRMWARE_MEMORY_BYTES_MAX {
            return Err(FirmwareError::Metadata("the memory of all sections"));
        }
        Ok(Firmware { image, sections })
    }

    /// The sections, as the metadata lists them.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// MRTD after QEMU has added the firmware page by page, as QEMU 9.2 and later do it (Intel TDX Module ABI,
    /// TDH.MEM.PAGE.ADD and TDH.MR.EXTEND: each hashes a record of 128 bytes, the latter also 256 bytes of memory).
    pub fn mrtd(&self) -> Digest48 {
        let mut hash = Sha384::new();
        for section in &self.sections {
            let mut bytes = self.image[section.data.clone()].chunks_exact(256);
            for page in section.memory.clone().step_by(PAGE) {
                hash.update(record(b"MEM.PAGE.ADD", page));
                if !section.measured {
                    continue;
                }
                for (chunk, address) in bytes.by_ref().take(16).zip((page..).step_by(256)) {
                    hash.update(record(b"MR.EXTEND", address));
                    hash.update(chunk);
                }
            }
        }
        Digest48(hash.finalize().into())
    }

    /// What the firmware measures of its own variables: the file's bytes of the configuration volume.
    pub fn configuration_volume(&self) -> Result<Digest48, FirmwareError> {
        let section = the_one(&self.sections, Kind::ConfigurationVolume)?;
        Ok(Digest48::of(&self.image[section.data.clone()]))
    }
}

/// The only section of its kind.
pub(crate) fn the_one(sections: &[Section], kind: Kind) -> Result<&Section, FirmwareError> {
    let mut of_kind = sections.iter().filter(|section| section.kind == kind);
    match (of_kind.next(), of_kind.count()) {
        (Some(section), 0) => Ok(section),
        (first, more) => Err(FirmwareError::Kind {
            kind,
            got: more + usize::from(first.is_some()),
        }),
    }
}

/// How far from the end of the file the metadata begins. The table is read backwards, an entry being its data, a u16 with
/// the length of all of it, and a GUID; the last entry holds the length of the whole table.
fn metadata_offset(image: &[u8]) -> Option<usize> {
    let (before_end, _) = image.split_at_checked(image.len().checked_sub(32)?)?;
    let (before_footer, total) = guided(before_end, &TABLE_FOOTER)?;
    let entries = total.checked_sub(ENTRY_TAIL)?;
    let mut table = before_footer.get(before_footer.len().checked_sub(entries)?..)?;
    while !table.is_empty() {
        let (rest, guid) = table.split_last_chunk::<16>()?;
        let (rest, length) = rest.split_last_chunk()?;
        let data = usize::from(u16::from_le_bytes(*length)).checked_sub(ENTRY_TAIL)?;
        let (before, data) = rest.split_at_checked(rest.len().checked_sub(data)?)?;
        if *guid == METADATA_OFFSET {
            return usize::try_from(u32::from_le_bytes(data.try_into().ok()?)).ok();
        }
        table = before;
    }
    None
}

/// What precedes an entry's tail with this GUID, and the length in the tail.
fn guided<'a>(bytes: &'a [u8], guid: &[u8; 16]) -> Option<(&'a [u8], usize)> {
    let (before, length) = bytes.strip_suffix(guid)?.split_last_chunk()?;
    Some((before, usize::from(u16::from_le_bytes(*length))))
}

/// Reads one section; refuses what QEMU refuses (`hw/i386/tdvf.c`) and what no firmware here needs.
fn section(entry: &[u8; 32], image: &[u8]) -> Result<Section, &'static str> {
    let [
        offset,
        raw,
        gpa_low,
        gpa_high,
        size_low,
        size_high,
        kind,
        attributes,
    ] = words(entry);
    let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    let (start, size) = (wide(gpa_low, gpa_high), wide(size_low, size_high));
    let kind = match kind {
        0 => Kind::BootVolume,
        1 => Kind::ConfigurationVolume,
        2 => Kind::HandOffBlocks,
        3 => Kind::Temporary,
        _ => return Err("a kind that QEMU does not load"),
    };
    let measured = match attributes {
        0 => false,
        1 => true,
        _ => return Err("attributes other than MR.EXTEND"),
    };
    if start % PAGE as u64 != 0 || size % PAGE as u64 != 0 || size == 0 {
        return Err("not whole pages");
    }
    if size > FIRMWARE_MEMORY_BYTES_MAX {
        return Err("too much memory");
    }
    let end = start.checked_add(size).ok_or("past the end of memory")?;
    let from_file = matches!(kind, Kind::BootVolume | Kind::ConfigurationVolume);
    if u64::from(raw) != if from_file { size } else { 0 } {
        return Err("not the bytes of the file that its kind has");
    }
    if measured && !from_file {
        return Err("measured without bytes");
    }
    let data = usize::try_from(offset)
        .ok()
        .zip(usize::try_from(raw).ok())
        .and_then(|(offset, raw)| Some(offset..offset.checked_add(raw)?))
        .filter(|data| data.end <= image.len())
        .ok_or("outside the file")?;
    Ok(Section {
        kind,
        data,
        memory: start..end,
        measured,
    })
}

fn record(name: &[u8], address: u64) -> [u8; 128] {
    let mut record = [0; 128];
    record[..name.len()].copy_from_slice(name);
    record[16..24].copy_from_slice(&address.to_le_bytes());
    record
}

/// The little-endian words of some bytes.
fn words<const BYTES: usize, const WORDS: usize>(bytes: &[u8; BYTES]) -> [u32; WORDS] {
    const { assert!(BYTES == 4 * WORDS) };
    std::array::from_fn(|at| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * at + byte])))
}

const PAGE: usize = 4096;
/// The length and the GUID behind an entry's data.
const ENTRY_TAIL: usize = 2 + 16;
/// 96b582de-1fb2-45f7-baea-a366c55a082d
const TABLE_FOOTER: [u8; 16] = [
    0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d,
];
/// e47a6535-984a-4798-865e-4685a7bf8ec2
const METADATA_OFFSET: [u8; 16] = [
    0x35, 0x65, 0x7a, 0xe4, 0x4a, 0x98, 0x98, 0x47, 0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2,
];

#[cfg(test)]
pub(crate) mod tests;
