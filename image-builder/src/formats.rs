//! File formats: the reader and the writer of each, side by side.
//!
//! ```text
//! deb, deb_scripts, pax, compression    what Debian ships                        read
//! cpio                                  the initrd                               written, read
//! erofs, verity                         the root and a model's volume            written by the locked mkfs.erofs, read
//! pe, uki                               programs that firmware starts            written, read
//! gpt, fat                              a disk that firmware starts from         written; the partition table is read, too
//! elf                                   what a loader reads of a program         read
//! gguf                                  a model in one file                      read, for its small files
//! ```
//! [`list`] looks into any of an image's files. It is for whoever compares a manifest with bytes, and names the file that a byte
//! belongs to. No reader shares code with the writer of its format.
//!
//! **Trusts** nothing: an image may be anybody's. **Promises** that reading ends, whatever the bytes say: every count has a limit, no
//! directory is entered twice, and no length is believed before it was held against the file's. **Lacks** compression in EROFS:
//! our roots have none, and a compressed one is refused by name.

pub(crate) mod bytes;
pub(crate) mod compression;
pub mod cpio;
pub mod deb;
pub mod deb_scripts;
pub(crate) mod elf;
pub mod entry;
pub mod erofs;
pub(crate) mod fat;
pub mod gguf;
pub(crate) mod gpt;
pub(crate) mod item;
pub(crate) mod listing;
pub(crate) mod metered;
pub mod pax;
pub(crate) mod pe;
pub mod uki;
pub mod verity;

pub use bytes::{Bytes, Part, ReadError};
pub use item::{Item, ItemKind, Listing};
pub use listing::{Position, list};
