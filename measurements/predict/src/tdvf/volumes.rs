//! Whether a firmware measures: whether its code has the driver that extends RTMR0 to RTMR2.
//!
//! ```text
//!  BFV ─► firmware volume ─► file ─► section, packed with LZMA ─► section: firmware volume ─► file TdTcg2Dxe
//! ```
//!
//! Volumes, files and sections are those of the UEFI Platform Initialization specification (1.8, volume 3, sections 3.2.1 to
//! 3.2.5). The file is untrusted: what is unpacked and how deep is bounded, and what cannot be read is never "no driver".

use std::io::Read;

use lzma_rust2::LzmaReader;

use super::{SectionKind, Tdvf};
use crate::bytes::{array_at, guid, u16_at, u32_at, u64_at};
use crate::limits;

/// Why it is not known what is in a firmware's volumes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum VolumeError {
    #[error("its code has no firmware volume")]
    None,
    #[error("{what} of its firmware volumes is broken")]
    Malformed { what: &'static str },
    #[error("a section of its firmware volumes is packed in another way than with LZMA")]
    Packed,
    #[error("a section of its firmware volumes does not unpack: {what}")]
    Unpack { what: String },
    #[error("its firmware volumes are over the limit of {max} {what}")]
    OverLimit { what: &'static str, max: usize },
}

/// Whether the firmware's code has the driver. An error where a part of it could not be read and the rest has no driver.
pub(crate) fn measures(tdvf: &Tdvf<'_>) -> Result<bool, VolumeError> {
    let mut search = Search {
        unpacked_left: limits::VOLUMES_UNPACKED_BYTES_MAX,
        packed_left: limits::VOLUMES_PACKED_MAX,
        volumes: 0,
        unread: None,
    };
    let code = tdvf.of_kind(SectionKind::Bfv);
    for section in code {
        if search.volumes(tdvf.data(section), 0) {
            return Ok(true);
        }
    }
    match (search.unread, search.volumes) {
        (Some(error), _) => Err(error),
        (None, 0) => Err(VolumeError::None),
        (None, _) => Ok(false),
    }
}

struct Search {
    unpacked_left: usize,
    packed_left: usize,
    volumes: usize,
    /// The first thing that could not be read.
    unread: Option<VolumeError>,
}

/// Each function says whether the driver is there.
impl Search {
    /// Volumes one after the other or on blocks.
    fn volumes(&mut self, bytes: &[u8], depth: usize) -> bool {
        let mut at = 0;
        while let Some(rest) = bytes
            .get(at..)
            .filter(|rest| rest.len() >= VOLUME_HEADER_BYTES)
        {
            let Some(volume) = volume(rest) else {
                at = (at + 1).next_multiple_of(BLOCK_BYTES);
                continue;
            };
            self.volumes += 1;
            if self.files(volume, depth) {
                return true;
            }
            at += volume.len();
        }
        false
    }

    /// u8 GUID[16], u16 checksums, u8 type, u8 attributes, u24 length of all, u8 state; u64 length if it is a large one.
    fn files(&mut self, volume: &[u8], depth: usize) -> bool {
        let broken = VolumeError::Malformed { what: "a file" };
        let mut at = first_file(volume);
        while let Some(header) = volume.get(at..at + FILE_HEADER_BYTES) {
            if header.iter().all(|byte| *byte == 0xff) {
                break;
            }
            let (bytes, start) = match header[19] & LARGE_FILE {
                0 => (u24_at(volume, at + 20), FILE_HEADER_BYTES),
                _ => (length64_at(volume, at + 24), LARGE_FILE_HEADER_BYTES),
            };
            let file = bytes
                .and_then(|bytes| volume.get(at..at.checked_add(bytes)?))
                .filter(|file| file.len() >= start);
            let Some(file) = file else {
                return self.unread(broken);
            };
            let kind = header[18];
            if kind == DRIVER && array_at(file, 0) == Some(TD_TCG2_DXE) {
                return true;
            }
            if WITH_SECTIONS.contains(&kind) && self.sections(&file[start..], depth + 1) {
                return true;
            }
            at += file.len().next_multiple_of(8);
        }
        false
    }

    /// u24 length of all, u8 type; u32 length if the first is all ones.
    fn sections(&mut self, bytes: &[u8], depth: usize) -> bool {
        if depth > limits::VOLUMES_DEPTH_MAX {
            let (what, max) = ("levels", limits::VOLUMES_DEPTH_MAX);
            return self.unread(VolumeError::OverLimit { what, max });
        }
        let mut at = 0;
        while let Some(short) = u24_at(bytes, at)
            && let Some(kind) = bytes.get(at + 3)
        {
            let (length, start) = match short {
                0xff_ffff => (u32_at(bytes, at + 4).map(|length| length as usize), 8),
                short => (Some(short), 4),
            };
            let section = length
                .and_then(|length| bytes.get(at..at.checked_add(length)?))
                .filter(|section| section.len() >= start);
            let Some(section) = section else {
                return self.unread(VolumeError::Malformed { what: "a section" });
            };
            let found = match *kind {
                VOLUME_IMAGE => self.volumes(&section[start..], depth),
                GUID_DEFINED => self.guid_defined(section, start, depth),
                COMPRESSED => match section.get(start + 4) {
                    Some(0) => self.sections(&section[start + 5..], depth + 1),
                    _ => self.unread(VolumeError::Packed),
                },
                _ => false,
            };
            if found {
                return true;
            }
            at += section.len().next_multiple_of(4);
        }
        false
    }

    /// GUID, u16 where the data begins in the section, u16 attributes.
    fn guid_defined(&mut self, section: &[u8], start: usize, depth: usize) -> bool {
        let data = u16_at(section, start + 16).and_then(|at| section.get(usize::from(at)..));
        let (Some(data), Some(attributes)) = (data, u16_at(section, start + 18)) else {
            return self.unread(VolumeError::Malformed { what: "a section" });
        };
        match array_at(section, start) {
            Some(LZMA) => match self.unpacked(data) {
                Ok(unpacked) => self.sections(&unpacked, depth + 1),
                Err(error) => self.unread(error),
            },
            _ if attributes & PROCESSING_REQUIRED == 0 => self.sections(data, depth + 1),
            _ => self.unread(VolumeError::Packed),
        }
    }

    /// The format of `.lzma` files: u8 properties, u32 bytes of the dictionary, u64 bytes of the unpacked data.
    fn unpacked(&mut self, packed: &[u8]) -> Result<Vec<u8>, VolumeError> {
        let (what, max) = ("packed sections", limits::VOLUMES_PACKED_MAX);
        let left = self.packed_left.checked_sub(1);
        self.packed_left = left.ok_or(VolumeError::OverLimit { what, max })?;
        let (what, max) = ("unpacked bytes", limits::VOLUMES_UNPACKED_BYTES_MAX);
        let length = length64_at(packed, 5).filter(|length| *length <= self.unpacked_left);
        let length = length.ok_or(VolumeError::OverLimit { what, max })?;
        self.unpacked_left -= length;
        let failed = |error: std::io::Error| VolumeError::Unpack {
            what: error.to_string(),
        };
        let dictionary_kib = limits::VOLUMES_DICTIONARY_BYTES_MAX / 1024;
        let reader = LzmaReader::new_mem_limit(packed, dictionary_kib as u32, None);
        let mut unpacked = Vec::new();
        let mut reader = reader.map_err(failed)?.take(length as u64);
        reader.read_to_end(&mut unpacked).map_err(failed)?;
        Ok(unpacked)
    }

    fn unread(&mut self, error: VolumeError) -> bool {
        self.unread.get_or_insert(error);
        false
    }
}

/// The volume at the beginning of these bytes: 16 bytes, GUID, u64 length, signature, u32 attributes, u16 length of the
/// header, u16 checksum, u16 place of a second header.
fn volume(bytes: &[u8]) -> Option<&[u8]> {
    let length = length64_at(bytes, 32)?;
    let header = usize::from(u16_at(bytes, 48)?);
    let is_one =
        array_at(bytes, 40) == Some(*b"_FVH") && (VOLUME_HEADER_BYTES..=length).contains(&header);
    bytes.get(..length).filter(|_| is_one)
}

/// Behind the header, or behind the second one: GUID, u32 length.
fn first_file(volume: &[u8]) -> usize {
    let field = |at| u16_at(volume, at).map_or(0, usize::from);
    let second = field(52);
    let end = match second {
        0 => field(48),
        at => {
            let bytes = u32_at(volume, at + 16).unwrap_or(u32::MAX) as usize;
            at.saturating_add(bytes).min(volume.len())
        }
    };
    end.next_multiple_of(8)
}

fn u24_at(bytes: &[u8], at: usize) -> Option<usize> {
    let [low, middle, high]: [u8; 3] = array_at(bytes, at)?;
    Some(u32::from_le_bytes([low, middle, high, 0]) as usize)
}

fn length64_at(bytes: &[u8], at: usize) -> Option<usize> {
    u64_at(bytes, at).and_then(|length| usize::try_from(length).ok())
}

/// The header of a volume without its map of blocks.
const VOLUME_HEADER_BYTES: usize = 56;
/// What lies between volumes ends on one.
const BLOCK_BYTES: usize = 4096;
const FILE_HEADER_BYTES: usize = 24;
const LARGE_FILE_HEADER_BYTES: usize = 32;
const LARGE_FILE: u8 = 1;
/// Types of files: those from free-form to volume images consist of sections, raw ones and padding do not.
const DRIVER: u8 = 0x07;
const WITH_SECTIONS: std::ops::RangeInclusive<u8> = 0x02..=0x0f;
/// Types of sections.
const COMPRESSED: u8 = 0x01;
const GUID_DEFINED: u8 = 0x02;
const VOLUME_IMAGE: u8 = 0x17;
const PROCESSING_REQUIRED: u16 = 1;
/// EE4E5898-3914-4259-9D6E-DC7BD79403CF.
const LZMA: [u8; 16] = guid(
    0xee4e5898,
    0x3914,
    0x4259,
    [0x9d, 0x6e, 0xdc, 0x7b, 0xd7, 0x94, 0x03, 0xcf],
);
/// OvmfPkg's driver, in `Tcg/TdTcg2Dxe` and before in `IntelTdx/TdTcg2Dxe`: F062221E-C607-44C2-B0B4-C3886331D351.
const TD_TCG2_DXE: [u8; 16] = guid(
    0xf062221e,
    0xc607,
    0x44c2,
    [0xb0, 0xb4, 0xc3, 0x88, 0x63, 0x31, 0xd3, 0x51],
);
