//! What a firmware file says about itself to whoever starts a TDX guest with it.
//!
//! The TDVF metadata (Intel TDX Virtual Firmware Design Guide, section 11) lists the sections of the file and of guest
//! memory. A GUIDed table at the end of the file leads to it (OvmfPkg, `ResetVectorVtf0.asm` and `OvmfSevMetadata.asm`).
//! The file is untrusted: every length is checked before it is used.
//!
//! The guide is wider than QEMU, which loads four kinds of sections. [`Tdvf::parse`] reads what the guide has;
//! [`Tdvf::check_qemu`] says where QEMU does otherwise.

mod qemu;
pub(crate) mod volumes;

use std::ops::Range;

use super::bytes::{array_at, guid, u16_at, u32_at, u64_at};
use crate::limits;

/// A firmware file with the sections that its metadata lists, all of them inside the file and apart from each other.
#[derive(Debug)]
pub struct Tdvf<'a> {
    firmware: &'a [u8],
    sections: Vec<Section>,
}

/// One section: a part of guest memory, and the part of the file that fills it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it is for.
    pub kind: SectionKind,
    /// Where its bytes lie in the file. Empty for sections without bytes.
    pub data: Range<usize>,
    /// Guest-physical addresses; both ends lie on a page.
    pub memory: Range<u64>,
    /// What of it is in MRTD.
    pub pages: Pages,
}

/// How the host adds the pages of a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Before the first instruction (TDH.MEM.PAGE.ADD): their addresses are in MRTD.
    Added,
    /// The same, and their bytes too (attribute MR.EXTEND).
    Extended,
    /// To the running guest, which accepts them (attribute PAGE.AUG): nothing of them is in MRTD.
    Later,
}

/// The kinds of sections that the design guide has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Boot firmware volume: the code.
    Bfv,
    /// Configuration firmware volume: the variable store.
    Cfv,
    /// Where the host puts the list of memory ranges.
    TdHob,
    /// Memory that the firmware uses before it finds more.
    TempMem,
    /// Memory that the guest has from its start and keeps.
    PermMem,
    /// A kernel: in the file if the section has bytes there, and otherwise the host's.
    Payload,
    /// The kernel's parameters, from the host.
    PayloadParam,
}

/// Why a file is not a TDX firmware.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum TdvfError {
    #[error("the firmware has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error(
        "the firmware has no TDX metadata ({missing} is missing); use an OVMF built with TDX support"
    )]
    NotTdx { missing: &'static str },
    #[error("the firmware's TDX metadata is broken: {what}")]
    Malformed { what: &'static str },
    #[error("the firmware's TDX metadata has version {got}; this program reads version 1")]
    Version { got: u32 },
    #[error("the firmware's TDX metadata has more {what} than the {max} allowed")]
    OverLimit { what: &'static str, max: u64 },
    #[error(
        "section {index} of the firmware has type {kind} and attributes {attributes:#x}, which this program does not know"
    )]
    SectionUnknown {
        index: usize,
        kind: u32,
        attributes: u32,
    },
    #[error(
        "section {index} of the firmware ({kind:?}) extends MRTD by bytes of the host, so MRTD does not follow from the file"
    )]
    HostBytes { index: usize, kind: SectionKind },
    #[error(
        "section {index} of the firmware ({kind:?}): {what}, so no prediction of a machine of QEMU's holds"
    )]
    NotAsQemu {
        index: usize,
        kind: SectionKind,
        what: &'static str,
    },
    #[error("the firmware has {got} sections of kind {kind:?}; there must be one")]
    NotOne { kind: SectionKind, got: usize },
}

impl<'a> Tdvf<'a> {
    /// Finds and checks the metadata: at least one section of code, at most one for the list of memory, and no two in the
    /// same memory, which a module refuses to add twice.
    pub fn parse(firmware: &'a [u8]) -> Result<Tdvf<'a>, TdvfError> {
        if firmware.len() > limits::FIRMWARE_BYTES_MAX {
            return Err(TdvfError::TooLong {
                got: firmware.len(),
                max: limits::FIRMWARE_BYTES_MAX,
            });
        }
        let descriptor = descriptor(firmware)?;
        let sections: Vec<Section> = descriptor
            .chunks_exact(SECTION_BYTES)
            .enumerate()
            .map(|(index, bytes)| section(index, bytes, firmware.len()))
            .collect::<Result<_, _>>()?;
        check_memory(&sections)?;
        let tdvf = Tdvf { firmware, sections };
        for (kind, allowed) in [
            (SectionKind::Bfv, 1..=usize::MAX),
            (SectionKind::TdHob, 0..=1),
        ] {
            let got = tdvf.of_kind(kind).count();
            if !allowed.contains(&got) {
                return Err(TdvfError::NotOne { kind, got });
            }
        }
        Ok(tdvf)
    }

    /// The sections in the order of the metadata, which is the order in which they are measured.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// The bytes of a section in the file; fewer than its memory has if zeros follow.
    pub fn data(&self, section: &Section) -> &'a [u8] {
        self.firmware.get(section.data.clone()).unwrap_or_default()
    }

    /// The bytes of the variable store.
    pub fn variable_store(&self) -> Result<&'a [u8], TdvfError> {
        self.only(SectionKind::Cfv)
            .map(|section| self.data(section))
    }

    /// The one section of a kind.
    pub(super) fn only(&self, kind: SectionKind) -> Result<&Section, TdvfError> {
        let found: Vec<_> = self.of_kind(kind).collect();
        match found[..] {
            [section] => Ok(section),
            _ => Err(TdvfError::NotOne {
                kind,
                got: found.len(),
            }),
        }
    }

    fn of_kind(&self, kind: SectionKind) -> impl Iterator<Item = &Section> {
        self.sections.iter().filter(move |s| s.kind == kind)
    }
}

/// The list of sections as it lies in the file: whole entries, and no more of them than the limit.
fn descriptor(firmware: &[u8]) -> Result<&[u8], TdvfError> {
    let malformed = |what| TdvfError::Malformed { what };
    let from_end = u32_at(table_entry(firmware)?, 0)
        .and_then(|offset| usize::try_from(offset).ok())
        .ok_or(malformed("the table entry has no offset"))?;
    let at = firmware
        .len()
        .checked_sub(from_end)
        .ok_or(malformed("the descriptor lies before the file"))?;
    let field = |index: usize| {
        u32_at(firmware, at + 4 * index).ok_or(malformed("the descriptor lies past the file"))
    };
    if field(0)? != u32::from_le_bytes(*b"TDVF") {
        return Err(malformed("the descriptor does not begin with TDVF"));
    }
    if field(2)? != 1 {
        return Err(TdvfError::Version { got: field(2)? });
    }
    let count = field(3)? as usize;
    if count > limits::TDVF_SECTIONS_MAX {
        return Err(TdvfError::OverLimit {
            what: "sections",
            max: limits::TDVF_SECTIONS_MAX as u64,
        });
    }
    let bytes = count * SECTION_BYTES;
    if field(1)? as usize != HEADER_BYTES + bytes {
        return Err(malformed(
            "the descriptor's length is not that of its sections",
        ));
    }
    let start = at + HEADER_BYTES;
    firmware
        .get(start..start + bytes)
        .ok_or(malformed("the list of sections lies past the file"))
}

/// The table is read from its end backwards: data, u16 length of data and these two fields, GUID.
fn table_entry(firmware: &[u8]) -> Result<&[u8], TdvfError> {
    let malformed = |what| TdvfError::Malformed { what };
    let missing = |missing| TdvfError::NotTdx { missing };
    let footer = firmware
        .len()
        .checked_sub(FOOTER_FROM_END)
        .filter(|at| array_at(firmware, *at) == Some(TABLE_FOOTER))
        .ok_or(missing("the table of GUIDs"))?;
    let end = footer
        .checked_sub(2)
        .ok_or(malformed("the table has no length"))?;
    let table_bytes = u16_at(firmware, end).ok_or(malformed("the table has no length"))?;
    let start = (footer + 16)
        .checked_sub(table_bytes.into())
        .ok_or(malformed("the table begins before the file"))?;
    let mut rest = firmware
        .get(start..end)
        .ok_or(malformed("the table is shorter than its footer"))?;
    while let Some(fields) = rest.len().checked_sub(ENTRY_FIELDS) {
        let bytes: usize = u16_at(rest, fields)
            .ok_or(malformed("a table entry has no length"))?
            .into();
        let entry = rest
            .len()
            .checked_sub(bytes)
            .filter(|_| bytes >= ENTRY_FIELDS)
            .ok_or(malformed("a table entry's length is not possible"))?;
        if array_at(rest, fields + 2) == Some(METADATA_OFFSET) {
            return Ok(&rest[entry..fields]);
        }
        rest = &rest[..entry];
    }
    Err(missing("the offset of the TDVF descriptor"))
}

/// One entry: u32 offset and u32 length in the file, u64 address and u64 length in memory, u32 type, u32 attributes.
fn section(index: usize, bytes: &[u8], file_bytes: usize) -> Result<Section, TdvfError> {
    let malformed = |what| TdvfError::Malformed { what };
    let short = malformed("a section is cut off");
    let (
        Some(offset),
        Some(raw_bytes),
        Some(address),
        Some(memory_bytes),
        Some(kind),
        Some(attributes),
    ) = (
        u32_at(bytes, 0),
        u32_at(bytes, 4),
        u64_at(bytes, 8),
        u64_at(bytes, 16),
        u32_at(bytes, 24),
        u32_at(bytes, 28),
    )
    else {
        return Err(short);
    };
    let (kind, pages) = treatment(index, kind, attributes)?;
    let (offset, raw_bytes) = (offset as usize, raw_bytes as usize);
    let data = offset
        .checked_add(raw_bytes)
        .filter(|end| *end <= file_bytes)
        .map(|end| offset..end)
        .ok_or(malformed("a section's bytes lie past the file"))?;
    let memory = address
        .checked_add(memory_bytes)
        .map(|end| address..end)
        .ok_or(malformed("a section's memory lies past all addresses"))?;
    if address % PAGE_BYTES != 0 || memory_bytes % PAGE_BYTES != 0 {
        return Err(malformed("a section's memory does not lie on pages"));
    }
    if memory_bytes == 0 {
        return Err(malformed("a section has no memory"));
    }
    if raw_bytes as u64 > memory_bytes {
        return Err(malformed("a section has more bytes than memory"));
    }
    let (fits, from_host) = match kind {
        SectionKind::Bfv | SectionKind::Cfv => (!data.is_empty(), false),
        SectionKind::TempMem | SectionKind::PermMem => (data.is_empty(), false),
        SectionKind::TdHob | SectionKind::PayloadParam => (data.is_empty(), true),
        SectionKind::Payload => (true, data.is_empty()),
    };
    if !fits {
        return Err(malformed("code without bytes, or bytes where none belong"));
    }
    if from_host && pages == Pages::Extended {
        return Err(TdvfError::HostBytes { index, kind });
    }
    Ok(Section {
        kind,
        data,
        memory,
        pages,
    })
}

/// What a section is for, and when its pages come.
fn treatment(index: usize, kind: u32, attributes: u32) -> Result<(SectionKind, Pages), TdvfError> {
    let unknown = TdvfError::SectionUnknown {
        index,
        kind,
        attributes,
    };
    let kind = match kind {
        0 => SectionKind::Bfv,
        1 => SectionKind::Cfv,
        2 => SectionKind::TdHob,
        3 => SectionKind::TempMem,
        4 => SectionKind::PermMem,
        5 => SectionKind::Payload,
        6 => SectionKind::PayloadParam,
        _ => return Err(unknown),
    };
    let pages = match attributes {
        0 => Pages::Added,
        MR_EXTEND => Pages::Extended,
        PAGE_AUG => Pages::Later,
        // A page can be measured only before the guest runs, and be added by PAGE.AUG only afterwards.
        BOTH => {
            let what = "a section is measured and added later";
            return Err(TdvfError::Malformed { what });
        }
        _ => return Err(unknown),
    };
    Ok((kind, pages))
}

fn check_memory(sections: &[Section]) -> Result<(), TdvfError> {
    let mut ranges: Vec<_> = sections.iter().map(|s| s.memory.clone()).collect();
    ranges.sort_by_key(|range| range.start);
    if ranges.windows(2).any(|pair| pair[0].end > pair[1].start) {
        return Err(TdvfError::Malformed {
            what: "two sections share memory",
        });
    }
    // What is added later is not hashed. The ranges lie apart within 64 bits, so their sum cannot overflow.
    let hashed = sections.iter().filter(|s| s.pages != Pages::Later);
    let total: u64 = hashed.map(|s| s.memory.end - s.memory.start).sum();
    if total > limits::TDVF_MEMORY_BYTES_MAX {
        return Err(TdvfError::OverLimit {
            what: "bytes of memory",
            max: limits::TDVF_MEMORY_BYTES_MAX,
        });
    }
    Ok(())
}

/// A page, the unit in which guest memory is added.
pub(super) const PAGE_BYTES: u64 = 4096;
/// Attribute bits.
const MR_EXTEND: u32 = 1;
const PAGE_AUG: u32 = 2;
const BOTH: u32 = MR_EXTEND | PAGE_AUG;
const HEADER_BYTES: usize = 16;
const SECTION_BYTES: usize = 32;
/// u16 length and GUID.
const ENTRY_FIELDS: usize = 18;
/// The footer GUID lies before the 32 bytes of the reset vector.
const FOOTER_FROM_END: usize = 48;
const TABLE_FOOTER: [u8; 16] = guid(
    0x96b582de,
    0x1fb2,
    0x45f7,
    [0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d],
);
const METADATA_OFFSET: [u8; 16] = guid(
    0xe47a6535,
    0x984a,
    0x4798,
    [0x86, 0x5e, 0x46, 0x85, 0xa7, 0xbf, 0x8e, 0xc2],
);
