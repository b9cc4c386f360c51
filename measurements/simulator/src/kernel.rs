//! The digest by which the firmware measures a kernel that it starts: Authenticode, in SHA-384.
//!
//! Microsoft, "Windows Authenticode Portable Executable Signature Format", "Calculating the PE Image Hash"; offsets from
//! the PE format specification for PE32+. A second implementation, to be compared with the one that predicts registers.

use registers::Digest48;
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

/// The parts that are hashed, one after the other; numbered as in the specification.
fn hashed_parts(file: &[u8]) -> Result<Vec<&[u8]>, KernelError> {
    let cut = KernelError("it is truncated");
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
        return Err(KernelError("its optional header is malformed"));
    }
    if section_count > KERNEL_SECTIONS_MAX {
        return Err(KernelError("it has too many sections"));
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
    let (mut hashed, mut end) = (headers_end, headers_end);
    for (at, length) in sections {
        if at < end {
            return Err(KernelError("its sections overlap"));
        }
        end = at + length;
        parts.push(part(at, end)?);
        hashed += length;
    }

    // 14. What is behind the sections, without the signature, which is the last of it. Where it begins is said by the sum
    // of what was hashed, in the paper and in edk2, and not by the end of the last section.
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

#[cfg(test)]
mod tests {
    use super::*;

    const PE: usize = 0x40;
    const OPTIONAL: usize = PE + 24;
    const TABLE: usize = OPTIONAL + 240;
    const HEADERS_END: usize = 0x200;

    /// A PE file with two sections, written in the wrong order, bytes behind them and a signature of 16 bytes.
    fn sample() -> Vec<u8> {
        let mut file: Vec<u8> = (0..0x2c0).map(|at| (at * 7 % 251) as u8).collect();
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(0x3c, &(PE as u32).to_le_bytes());
        put(PE, b"PE\0\0");
        put(PE + 6, &2u16.to_le_bytes());
        put(PE + 20, &240u16.to_le_bytes());
        put(OPTIONAL, &0x20bu16.to_le_bytes());
        put(OPTIONAL + 60, &(HEADERS_END as u32).to_le_bytes());
        put(OPTIONAL + 108, &16u32.to_le_bytes());
        put(OPTIONAL + 148, &16u32.to_le_bytes());
        for (index, (length, at)) in [(0x60u32, 0x240u32), (0x40, 0x200)].iter().enumerate() {
            put(TABLE + 40 * index + 16, &length.to_le_bytes());
            put(TABLE + 40 * index + 20, &at.to_le_bytes());
        }
        file
    }

    fn check(change: impl Fn(&mut Vec<u8>), expected: &'static str) {
        let mut file = sample();
        change(&mut file);
        assert_eq!(authenticode(&file), Err(KernelError(expected)));
    }

    #[test]
    fn all_is_hashed_but_checksum_and_signature() {
        let file = sample();
        let digest = authenticode(&file).unwrap();
        let certificates = OPTIONAL + 144;
        let hashed = [
            &file[..OPTIONAL + 64],
            &file[OPTIONAL + 68..certificates],
            &file[certificates + 8..0x2b0],
        ];
        assert_eq!(digest, Digest48::of(&hashed.concat()));

        for at in (0..file.len()).filter(|at| !(TABLE..TABLE + 80).contains(at)) {
            let mut flipped = file.clone();
            flipped[at] ^= 1;
            let unhashed = (OPTIONAL + 64..OPTIONAL + 68).contains(&at)
                || (certificates..certificates + 4).contains(&at)
                || at >= 0x2b0;
            assert_eq!(
                authenticode(&flipped) == Ok(digest),
                unhashed,
                "byte {at:#x}"
            );
        }
    }

    #[test]
    fn cut_files_are_refused_or_another_kernel_and_never_panic() {
        let file = sample();
        let digest = authenticode(&file);
        for end in 0..file.len() {
            assert_ne!(authenticode(&file[..end]), digest, "{end:#x}");
            for value in [0x7f, 0xff] {
                let mut changed = file.clone();
                changed[end] = value;
                // Whatever the result, no panic.
                let _ = authenticode(&changed);
            }
        }
    }

    #[test]
    fn what_is_not_a_kernel_is_refused() {
        check(|file| file[0] = 0, "it does not begin with MZ");
        check(|file| file[PE] = 0, "its header is missing");
        check(|file| file[0x3f] = 0xff, "its header is missing");
        check(
            |file| file[OPTIONAL] = 0x0c,
            "its optional header is malformed",
        );
        check(
            |file| file[OPTIONAL + 108] = 4,
            "its optional header is malformed",
        );
        check(|file| file[PE + 6] = 97, "it has too many sections");
        check(|file| file[TABLE + 21] = 0x01, "its sections overlap");
        check(|file| file[OPTIONAL + 151] = 1, "it is truncated");
        check(
            |file| *file = vec![0; KERNEL_BYTES_MAX + 1],
            "it is too long",
        );
    }
}
