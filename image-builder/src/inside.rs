//! What lies inside an image's files, read back: the initrd's archive, the root's file system, sections of a unified kernel image,
//! partitions of a disk.
//!
//! Written for whoever holds a manifest against the bytes, and names the file that a byte belongs to. The writers are others:
//! `mkfs.erofs` makes the root, `cpio`, `uki` and `disk` the rest, and no code is shared with them.
//!
//! **Trusts** nothing: an image may be a stranger's. **Promises** that reading ends, whatever the bytes say: every count has a limit,
//! no directory is entered twice, and no length is believed before it was held against the file's. **Lacks** compression: our roots have none, and a
//! compressed one is refused by name.

mod bytes;
mod cpio;
mod disk;
mod erofs;
mod listing;
mod programs;

pub use bytes::{Bytes, Part};
pub use listing::{Item, ItemKind, Listing, Place, list};

/// Why something cannot be looked into. Its author is at fault, or the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InsideError {
    /// The bytes end, or point behind their end.
    #[error("{what} lies behind the end of the file")]
    Cut {
        /// What.
        what: &'static str,
    },
    /// A rule of the format is broken.
    #[error("{format} is broken: {problem}")]
    Broken {
        /// Which format.
        format: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// Right, and not one that we read.
    #[error("{format} uses {what}, which this program does not read")]
    Unknown {
        /// Which format.
        format: &'static str,
        /// What it uses.
        what: &'static str,
    },
    /// More of something than any image has.
    #[error("{format} has more than {max} {what}")]
    TooMany {
        /// Which format.
        format: &'static str,
        /// Of what.
        what: &'static str,
        /// The limit.
        max: u64,
    },
    /// None of the formats.
    #[error("it is neither an archive, nor a file system, nor a program, nor a disk")]
    Strange,
    /// The disk.
    #[error("reading: {0}")]
    Disk(String),
}
