//! The headers of a program (Microsoft PE Format), as far as measuring it needs them.

use super::authenticode::PeError;
use super::bytes::{array_at, u16_at, u32_at};
use crate::limits;

/// A PE32+ program for 64-bit x86, without its contents.
pub(super) struct Headers {
    /// SizeOfHeaders.
    pub bytes: usize,
    /// SizeOfImage.
    pub image_bytes: usize,
    /// MajorImageVersion: what a Linux kernel's stub can do.
    pub image_version: u16,
    /// Where the checksum lies.
    pub checksum: usize,
    /// Where the fifth data directory lies, if there are five.
    pub certificates_entry: Option<usize>,
    pub certificates_bytes: usize,
    /// As they are listed.
    pub sections: Vec<Section>,
}

/// One entry of the list of sections.
#[derive(Clone, Copy)]
pub(super) struct Section {
    /// Filled up with zeros.
    pub name: [u8; 8],
    /// VirtualSize, in bytes of memory.
    pub memory_bytes: usize,
    /// VirtualAddress, relative to the image.
    pub address: usize,
    /// SizeOfRawData, in bytes of the file.
    pub file_bytes: usize,
    /// PointerToRawData.
    pub start: usize,
}

impl Headers {
    pub fn parse(program: &[u8]) -> Result<Headers, PeError> {
        let not_efi = |what| PeError::NotEfi { what };
        let cut = || PeError::Malformed {
            what: "the headers are cut off",
        };
        if u16_at(program, 0) != Some(u16::from_le_bytes(*b"MZ")) {
            return Err(not_efi("no MZ at its start"));
        }
        let pe = u32_at(program, 0x3c).ok_or_else(cut)? as usize;
        if u32_at(program, pe) != Some(u32::from_le_bytes(*b"PE\0\0")) {
            return Err(not_efi("no PE header"));
        }
        if u16_at(program, pe + 4) != Some(MACHINE_X86_64) {
            return Err(not_efi("another machine"));
        }
        let section_count = u16_at(program, pe + 6).ok_or_else(cut)? as usize;
        let optional_bytes = u16_at(program, pe + 20).ok_or_else(cut)? as usize;
        let optional = pe + 24;
        if u16_at(program, optional) != Some(PE32_PLUS) {
            return Err(not_efi("no PE32+ header"));
        }
        let directories = u32_at(program, optional + 108).ok_or_else(cut)?;
        let certificates_entry = (directories > SECURITY).then_some(optional + 112 + 8 * 4);
        let certificates_bytes = match certificates_entry {
            Some(entry) => u32_at(program, entry + 4).ok_or_else(cut)? as usize,
            None => 0,
        };
        Ok(Headers {
            bytes: u32_at(program, optional + 60).ok_or_else(cut)? as usize,
            image_bytes: u32_at(program, optional + 56).ok_or_else(cut)? as usize,
            image_version: u16_at(program, optional + 44).ok_or_else(cut)?,
            checksum: optional + 64,
            certificates_entry,
            certificates_bytes,
            sections: sections(program, optional + optional_bytes, section_count)?,
        })
    }
}

fn sections(program: &[u8], table: usize, count: usize) -> Result<Vec<Section>, PeError> {
    if count > limits::PE_SECTIONS_MAX {
        return Err(PeError::Sections {
            got: count,
            max: limits::PE_SECTIONS_MAX,
        });
    }
    let section = |header: usize| {
        let field = |at| u32_at(program, header + at).map(|field| field as usize);
        Some(Section {
            name: array_at(program, header)?,
            memory_bytes: field(8)?,
            address: field(12)?,
            file_bytes: field(16)?,
            start: field(20)?,
        })
    };
    let all: Option<Vec<Section>> = (0..count)
        .map(|index| section(table + 40 * index))
        .collect();
    all.ok_or(PeError::Malformed {
        what: "the list of sections is cut off",
    })
}

const MACHINE_X86_64: u16 = 0x8664;
const PE32_PLUS: u16 = 0x20b;
/// IMAGE_DIRECTORY_ENTRY_SECURITY.
const SECURITY: u32 = 4;
