//! A file of packed weights: a model's matrices as the kernels keep them, so that loading is one copy from the disk to where they
//! stay.
//!
//! ```text
//! 8 bytes     CHRYPACK
//! 4 bytes     1, the version, little-endian
//! 4 bytes     length of the header with its spaces
//! header      JSON, then spaces up to a multiple of 4096 from the start of the file
//! parts       one after another in the order of the header, each followed by zeros up to a multiple of 64
//! 32 bytes    SHA-256 of everything before
//! ```
//! The header names the packer with its version, the digest of every file that the weights came from, and for each part its kind,
//! shape and length. A part's place follows from the lengths before it, so parts can neither overlap nor leave a gap.
//!
//! **Promises.** What differs from the file that was written in a single bit is an error from [`Reader::finish`]; whatever else is
//! wrong is one before anything is allocated for it. **Lacks.** The kernels' layout of a part, which is `kernels::Packed`'s: whoever
//! reads a part compares its length with what kind and shape call for.

mod reader;
#[cfg(test)]
mod tests;
mod writer;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use reader::Reader;
pub use writer::Writer;

/// How the file begins.
pub const MAGIC: &[u8; 8] = b"CHRYPACK";
/// The version that is written and read.
pub const VERSION: u32 = 1;
/// The header with its spaces: a hundred thousand parts need some 12 MB.
pub const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Parts of one file.
pub const PARTS_MAX: usize = 100_000;
/// Files that the weights came from.
pub const SOURCES_MAX: usize = 4096;
/// The header ends at a multiple of this.
const HEADER_ALIGNMENT: u64 = 4096;
/// Parts begin at a multiple of this.
const PART_ALIGNMENT: u64 = 64;
/// The digest at the end.
const DIGEST_BYTES: u64 = 32;
/// Magic, version and length.
const START_BYTES: u64 = 16;

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The program that packed it, with its version.
    pub packer: String,
    /// The files that it was made from.
    pub sources: Vec<Source>,
    /// The matrices and vectors, in the order of their bytes.
    pub parts: Vec<Part>,
}

/// A file of weights that was packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name in the model's directory.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of its content, 64 hexadecimal digits in lower case.
    pub sha256: String,
}

/// A matrix or a vector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// How its numbers are kept: `f32`, `bf16`, `q8` or `q4` in the kernels' layout, or `plain` for f32 in a row.
    pub kind: String,
    /// Outputs; 1 for a vector.
    pub rows: usize,
    /// Inputs, or a vector's numbers.
    pub columns: usize,
    /// Its bytes, without the zeros behind it.
    pub bytes: u64,
}

/// Why a file of packed weights is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum PackedFileError {
    #[error("it does not begin with CHRYPACK")]
    Magic,
    #[error("it has version {0} of the format; this program reads version {VERSION}")]
    Version(u32),
    #[error(
        "its header has {0} bytes; at most {HEADER_BYTES_MAX} are allowed, and a multiple of {HEADER_ALIGNMENT} with the start"
    )]
    HeaderLength(u64),
    #[error("its header: {0}")]
    Header(String),
    #[error("it has {found} bytes, its header calls for {expected}")]
    Length { found: u64, expected: u64 },
    #[error("part {name} has {found} bytes, its place takes {expected}")]
    Part {
        name: String,
        found: u64,
        expected: u64,
    },
    #[error("it has {0} parts, and all were read")]
    NoMoreParts(usize),
    #[error("{0} of its parts were not read")]
    PartsLeft(usize),
    #[error("the bytes behind part {0} are not zeros")]
    Padding(String),
    #[error("its content is not that of its digest: it was damaged or changed")]
    Digest,
    #[error("it cannot be read or written: {0}")]
    Unreadable(std::io::ErrorKind),
}

impl PackedFileError {
    fn unreadable(error: std::io::Error) -> Self {
        PackedFileError::Unreadable(error.kind())
    }
}

impl Header {
    /// The length of the whole file, where it can be told.
    fn file_bytes(&self, header_bytes: u64) -> Option<u64> {
        let parts = self.parts.iter().try_fold(0u64, |all, part| {
            all.checked_add(part.bytes)?
                .checked_next_multiple_of(PART_ALIGNMENT)
        });
        parts?
            .checked_add(START_BYTES + DIGEST_BYTES)?
            .checked_add(header_bytes)
    }

    /// The conditions that a parsed header meets.
    fn check(&self) -> Result<(), PackedFileError> {
        let refuse = |why: String| Err(PackedFileError::Header(why));
        if self.parts.len() > PARTS_MAX {
            return refuse(format!(
                "{} parts; at most {PARTS_MAX} are allowed",
                self.parts.len()
            ));
        }
        if self.sources.len() > SOURCES_MAX {
            return refuse(format!(
                "{} sources; at most {SOURCES_MAX} are allowed",
                self.sources.len()
            ));
        }
        for source in &self.sources {
            let digits = source.sha256.bytes();
            if source.sha256.len() != 64
                || !digits
                    .clone()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            {
                return refuse(format!("the sha256 of {:?} is not 64 digits", source.name));
            }
        }
        let mut names = std::collections::BTreeSet::new();
        for part in &self.parts {
            if part.rows == 0 || part.columns == 0 || part.bytes == 0 {
                return refuse(format!("part {:?} is empty", part.name));
            }
            if !matches!(part.kind.as_str(), "f32" | "bf16" | "q8" | "q4" | "plain") {
                return refuse(format!("part {:?} is of kind {:?}", part.name, part.kind));
            }
            if !names.insert(part.name.as_str()) {
                return refuse(format!("part {:?} stands twice", part.name));
            }
        }
        Ok(())
    }
}

fn padding(bytes: u64) -> usize {
    (bytes.next_multiple_of(PART_ALIGNMENT) - bytes) as usize
}
