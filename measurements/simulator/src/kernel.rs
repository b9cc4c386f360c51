//! The digest by which the firmware measures a kernel that it starts: Authenticode, in SHA-384.
//!
//! Microsoft, "Windows Authenticode Portable Executable Signature Format", "Calculating the PE Image Hash"; offsets from
//! the PE format specification for PE32+. Read a second time here, to be compared with what predicts registers.

use measurements::Digest48;
use sha2::{Digest, Sha384};

use crate::limits::{KERNEL_BYTES_MAX, KERNEL_SECTIONS_MAX};

/// Why a file is not a kernel that the firmware starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a 64-bit PE file: {0}")]
pub struct KernelError(&'static str);

/// The digest of a PE32+ file.
pub fn authenticode(file: &[u8]) -> Result<Digest48, KernelError> {
    if file.len() > KERNEL_BYTES_MAX {
        return Err(KernelError("it is too long"));
    }
    hashed_parts(file).map(|parts| {
        let hash = parts.iter().fold(Sha384::new(), Sha384::chain_update);
        Digest48(hash.finalize().into())
    })
}

/// The parts that are hashed, one after the other; numbered as in the paper.
fn hashed_parts(file: &[u8]) -> Result<Vec<&[u8]>, KernelError> {
    let cut = KernelError("it is cut");
    let u16_at = |at| number::<2>(file, at).ok_or(cut);
    let u32_at = |at| number::<4>(file, at).ok_or(cut);
    let part = |from, to| file.get(from..to).ok_or(cut);

    if file.get(..2) != Some(b"MZ") {
        return Err(KernelError("it does not begin with MZ"));
    }
    let pe = u32_at(0x3c)?;
    if pe > file.len() || part(pe, pe + 4)? != b"PE\0\0" {
        return Err(KernelError("its header is missing"));
    }
    let section_count = u16_at(pe + 6)?;
    let optional = pe + 24;
    if u16_at(optional)? != PE32_PLUS || u32_at(optional + 108)? <= CERTIFICATES {
        return Err(KernelError("its optional header"));
    }
    if section_count > KERNEL_SECTIONS_MAX {
        return Err(KernelError("the number of its sections"));
    }

    // 3-7. The headers, without the checksum and without the entry that says where the signature is.
    let checksum = optional + 64;
    let certificates = optional + 112 + 8 * CERTIFICATES;
    let headers_end = u32_at(optional + 60)?;
    let mut parts = vec![
        part(0, checksum)?,
        part(checksum + 4, certificates)?,
        part(certificates + 8, headers_end)?,
    ];

    // 9-13. The sections that have bytes in the file, by their place in it.
    let table = optional + u16_at(pe + 20)?;
    let mut sections = Vec::new();
    for entry in (table..).step_by(40).take(section_count) {
        let (length, at) = (u32_at(entry + 16)?, u32_at(entry + 20)?);
        if length > 0 {
            sections.push((at, length));
        }
    }
    sections.sort_unstable();
    let mut hashed = headers_end;
    for (at, length) in sections {
        if at < hashed {
            return Err(KernelError("its sections lie over one another"));
        }
        parts.push(part(at, at + length)?);
        hashed += length;
    }

    // 14. What is behind the sections, without the signature, which is the last of it.
    let signature = u32_at(certificates + 4)?;
    let rest_end = file.len().checked_sub(signature).ok_or(cut)?;
    if hashed < rest_end {
        parts.push(part(hashed, rest_end)?);
    }
    Ok(parts)
}

/// A little-endian number of a few bytes.
fn number<const BYTES: usize>(file: &[u8], at: usize) -> Option<usize> {
    let bytes = file.get(at..)?.first_chunk::<BYTES>()?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | usize::from(*byte)),
    )
}

const PE32_PLUS: usize = 0x20b;
/// The place of the signature in the data directories.
const CERTIFICATES: usize = 4;
