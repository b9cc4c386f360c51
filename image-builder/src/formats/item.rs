//! What lies in a file, as each reader of a format lists it.

use std::io::{self, Read};
use std::ops::Range;

use super::bytes::{Part, ReadError};

/// What lies in a file, in the file's own order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Listing {
    /// Files, directories, sections, partitions.
    pub items: Vec<Item>,
    /// Parts that belong to none of them, with their names.
    pub areas: Vec<(Range<u64>, &'static str)>,
}

/// One thing inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its absolute path, or its name.
    pub path: String,
    /// What it is.
    pub kind: ItemKind,
    /// Permission bits.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Its length.
    pub bytes: u64,
    /// Where it is described.
    pub header: Range<u64>,
    /// Where its bytes are, in their order.
    pub extents: Vec<Range<u64>>,
}

/// What a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A file.
    File,
    /// A directory; its bytes are the names in it.
    Directory,
    /// A symbolic link; its bytes are the target.
    Link,
    /// A device, or another special file.
    Device,
    /// A section or a partition, which may have things inside.
    Section,
}

impl Listing {
    /// The thing called `path`.
    pub fn item(&self, path: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.path == path)
    }
}

impl Item {
    /// Feeds its bytes to `take`, a piece at a time.
    pub fn read(&self, from: &Part<'_>, take: &mut dyn FnMut(&[u8])) -> Result<(), ReadError> {
        let mut buffer = vec![0; 64 * 1024];
        for extent in &self.extents {
            let mut at = extent.start;
            while at < extent.end {
                let length = (extent.end - at).min(buffer.len() as u64);
                let piece = &mut buffer[..length as usize];
                from.read(at, piece, "a file's content")?;
                take(piece);
                at += length;
            }
        }
        Ok(())
    }

    /// Its bytes as a reader, from the beginning.
    pub fn reader<'a>(&self, from: &'a Part<'a>) -> impl Read + 'a {
        let extents = self.extents.clone();
        Content { from, extents }
    }

    /// How far into its content a place of the whole is.
    pub fn position(&self, offset: u64) -> Option<u64> {
        let mut before = 0;
        for extent in &self.extents {
            if extent.contains(&offset) {
                return Some(before + offset - extent.start);
            }
            before += extent.end - extent.start;
        }
        None
    }
}

/// The rest of a thing's bytes.
struct Content<'a> {
    from: &'a Part<'a>,
    extents: Vec<Range<u64>>,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.extents.retain(|extent| !extent.is_empty());
        let Some(extent) = self.extents.first_mut() else {
            return Ok(0);
        };
        let length = (extent.end - extent.start).min(buffer.len() as u64);
        let piece = &mut buffer[..length as usize];
        let read = self.from.read(extent.start, piece, "a file's content");
        read.map_err(io::Error::other)?;
        extent.start += length;
        Ok(length as usize)
    }
}

impl ItemKind {
    /// By the type bits of a mode: `inode(7)`.
    pub fn of(mode: u32) -> Self {
        match mode & 0o170_000 {
            0o100_000 => Self::File,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Link,
            _ => Self::Device,
        }
    }
}
