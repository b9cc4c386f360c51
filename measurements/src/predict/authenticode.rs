//! The digest by which firmware measures a program it loads: Authenticode over SHA-384.
//!
//! Microsoft's "Windows Authenticode Portable Executable Signature Format", calculating the image hash, in the form of
//! edk2 (`TdTcg2Dxe/MeasureBootPeCoff.c`), because it is edk2 that measures: everything but the checksum, the place of
//! the certificates, and the certificates. A Linux kernel with an EFI stub is such a program.

use sha2::{Digest, Sha384};

use super::bytes::{u16_at, u32_at};
use crate::{Digest48, limits};

/// Why a file cannot be measured as a program. Whoever chose the file is at fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    /// Longer than any kernel.
    #[error("the kernel has {got} bytes, more than the {max} allowed")]
    TooLong {
        /// Bytes offered.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not a program for 64-bit x86. The legacy loader would start such a kernel unmeasured, so we predict nothing.
    #[error(
        "the kernel is not an EFI program for 64-bit x86: {what}; use one built with CONFIG_EFI_STUB"
    )]
    NotEfi {
        /// What is missing.
        what: &'static str,
    },
    /// A length or place that contradicts another.
    #[error("the kernel's program headers are broken: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// More sections than any kernel has.
    #[error("the kernel has {got} sections, more than the {max} allowed")]
    Sections {
        /// Sections in the file.
        got: usize,
        /// Sections allowed.
        max: usize,
    },
}

/// The Authenticode SHA-384 digest of a program as it lies on disk.
pub fn authenticode(program: &[u8]) -> Result<Digest48, PeError> {
    let malformed = |what| PeError::Malformed { what };
    if program.len() > limits::KERNEL_BYTES_MAX {
        return Err(PeError::TooLong {
            got: program.len(),
            max: limits::KERNEL_BYTES_MAX,
        });
    }
    let headers = Headers::parse(program)?;
    let mut hash = Sha384::new();
    let mut part = |start: usize, end: usize, what| {
        let bytes = program.get(start..end).ok_or(malformed(what))?;
        hash.update(bytes);
        Ok::<_, PeError>(())
    };

    // Steps 3 to 7: the headers without the checksum and without the entry that places the certificates.
    let outside = "a header field lies outside the headers";
    part(0, headers.checksum, outside)?;
    match headers.certificates_entry {
        Some(entry) => {
            part(headers.checksum + 4, entry, outside)?;
            part(entry + 8, headers.bytes, outside)?;
        }
        None => part(headers.checksum + 4, headers.bytes, outside)?,
    }
    // Steps 8 to 13: the sections, in the order in which they lie in the file.
    let mut summed = headers.bytes;
    for (start, bytes) in &headers.sections {
        let end = start.checked_add(*bytes);
        let end = end.ok_or(malformed("a section ends past all addresses"))?;
        part(*start, end, "a section lies past the file")?;
        // Sections may lie over each other. The sum stays below 2^39: 96 sections within a bounded file.
        summed += bytes;
    }
    // Step 14: what follows, without the certificates, which are last.
    if program.len() > summed {
        let end = program
            .len()
            .checked_sub(headers.certificates_bytes)
            .filter(|end| *end >= summed)
            .ok_or(malformed(
                "the certificates are longer than what follows the sections",
            ))?;
        part(summed, end, "the end of the file")?;
    }
    Ok(Digest48(hash.finalize().into()))
}

/// What the algorithm needs of a PE32+ header (Microsoft PE Format, "Optional Header").
struct Headers {
    /// SizeOfHeaders.
    bytes: usize,
    /// Where the checksum lies.
    checksum: usize,
    /// Where the fifth data directory lies, if there are five.
    certificates_entry: Option<usize>,
    certificates_bytes: usize,
    /// Start and length in the file, sorted by start, without empty ones.
    sections: Vec<(usize, usize)>,
}

impl Headers {
    fn parse(program: &[u8]) -> Result<Headers, PeError> {
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
        let bytes = u32_at(program, optional + 60).ok_or_else(cut)? as usize;
        let directories = u32_at(program, optional + 108).ok_or_else(cut)?;
        let certificates_entry = (directories > SECURITY).then_some(optional + 112 + 8 * 4);
        let certificates_bytes = match certificates_entry {
            Some(entry) => u32_at(program, entry + 4).ok_or_else(cut)? as usize,
            None => 0,
        };
        let sections = sections(program, optional + optional_bytes, section_count)?;
        Ok(Headers {
            bytes,
            checksum: optional + 64,
            certificates_entry,
            certificates_bytes,
            sections,
        })
    }
}

fn sections(program: &[u8], table: usize, count: usize) -> Result<Vec<(usize, usize)>, PeError> {
    if count > limits::PE_SECTIONS_MAX {
        return Err(PeError::Sections {
            got: count,
            max: limits::PE_SECTIONS_MAX,
        });
    }
    let mut sections = Vec::with_capacity(count);
    for header in (0..count).map(|index| table + 40 * index) {
        let (Some(bytes), Some(start)) =
            (u32_at(program, header + 16), u32_at(program, header + 20))
        else {
            return Err(PeError::Malformed {
                what: "the list of sections is cut off",
            });
        };
        if bytes != 0 {
            sections.push((start as usize, bytes as usize));
        }
    }
    sections.sort_by_key(|(start, _)| *start);
    Ok(sections)
}

const MACHINE_X86_64: u16 = 0x8664;
const PE32_PLUS: u16 = 0x20b;
/// IMAGE_DIRECTORY_ENTRY_SECURITY.
const SECURITY: u32 = 4;
