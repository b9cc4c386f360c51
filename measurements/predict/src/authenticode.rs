//! The digest by which firmware measures a program it loads: Authenticode over SHA-384.
//!
//! Microsoft's "Windows Authenticode Portable Executable Signature Format", calculating the image hash, in the form of
//! edk2 (`TdTcg2Dxe/MeasureBootPeCoff.c`), because it is edk2 that measures: everything but the checksum, the place of
//! the certificates, and the certificates. A Linux kernel with an EFI stub is such a program.

use sha2::{Digest, Sha384};

use super::pe::Headers;
use crate::limits;
use registers::Digest48;

/// Why a file cannot be measured as a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum PeError {
    #[error("the program has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error(
        "the program is none of EFI for 64-bit x86: {what}; a Linux kernel needs CONFIG_EFI_STUB"
    )]
    NotEfi { what: &'static str },
    #[error("the program's headers are broken: {what}")]
    Malformed { what: &'static str },
    #[error("the program has {got} sections, more than the {max} allowed")]
    Sections { got: usize, max: usize },
}

/// The Authenticode SHA-384 digest of a kernel as it lies on disk.
pub fn authenticode(kernel: &[u8]) -> Result<Digest48, PeError> {
    let headers = headers(kernel, limits::KERNEL_BYTES_MAX)?;
    of_program(kernel, &headers)
}

/// The headers of a program that is no longer than `max` bytes.
pub(super) fn headers(program: &[u8], max: usize) -> Result<Headers, PeError> {
    match program.len() {
        got if got > max => Err(PeError::TooLong { got, max }),
        _ => Headers::parse(program),
    }
}

/// The digest of a program with these headers.
pub(super) fn of_program(program: &[u8], headers: &Headers) -> Result<Digest48, PeError> {
    let malformed = |what| PeError::Malformed { what };
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
    let with_contents = headers.sections.iter().filter(|s| s.file_bytes != 0);
    let mut in_file: Vec<_> = with_contents.map(|s| (s.start, s.file_bytes)).collect();
    in_file.sort_by_key(|(start, _)| *start);
    for (start, bytes) in in_file {
        let end = start.checked_add(bytes);
        let end = end.ok_or(malformed("a section ends past all addresses"))?;
        part(start, end, "a section lies past the file")?;
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
