//! A list of what is inside, and which of it a byte belongs to.

use std::ops::Range;

use super::bytes::{Part, ReadError};
use super::cpio::reader as cpio;
use super::erofs::reader as erofs;
use super::gpt::reader as disk;
use super::pe as programs;

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

/// Where a byte lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The things around it, the outermost first.
    pub inside: Vec<String>,
    /// What of the innermost it is.
    pub part: &'static str,
    /// Counted from the beginning of that.
    pub at: u64,
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

    /// How far into its content a place of the whole is.
    fn position(&self, offset: u64) -> Option<u64> {
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

/// Looks into a file, whatever it is.
pub fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let starts = |magic: &[u8], at: u64| {
        let mut found = vec![0; magic.len()];
        file.read(at, &mut found, "").is_ok() && found == magic
    };
    if starts(b"070701", 0) {
        cpio::list(file)
    } else if starts(b"MZ", 0) {
        programs::list(file)
    } else if starts(&erofs::MAGIC, erofs::SUPERBLOCK) {
        erofs::list(file)
    } else if starts(b"EFI PART", disk::BLOCK) {
        disk::list(file)
    } else {
        Err(ReadError::Strange)
    }
}

impl Listing {
    /// The thing called `path`.
    pub fn item(&self, path: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.path == path)
    }

    /// What a byte of `file`, whose listing this is, belongs to; sections and partitions are looked into as well.
    pub fn place(&self, file: &Part<'_>, offset: u64) -> Position {
        for item in &self.items {
            if let Some(at) = item.position(offset) {
                return self.within(file, item, at);
            }
        }
        let described = self.items.iter().find(|item| item.header.contains(&offset));
        if let Some(item) = described {
            return Position {
                inside: vec![item.path.clone()],
                part: "its description",
                at: offset - item.header.start,
            };
        }
        let area = self.areas.iter().find(|(range, _)| range.contains(&offset));
        let (start, part) = area.map_or((0, "between its parts"), |(range, name)| {
            (range.start, *name)
        });
        Position {
            inside: Vec::new(),
            part,
            at: offset - start,
        }
    }

    fn within(&self, file: &Part<'_>, item: &Item, at: u64) -> Position {
        let part = match item.kind {
            ItemKind::File | ItemKind::Section => "its content",
            ItemKind::Directory => "the names in it",
            ItemKind::Link => "its target",
            ItemKind::Device => "it",
        };
        let mut place = Position {
            inside: vec![item.path.clone()],
            part,
            at,
        };
        if let (ItemKind::Section, [extent]) = (item.kind, &item.extents[..]) {
            let inner = file.part(extent.start, extent.end - extent.start, "a section");
            // What cannot be looked into is a plain content.
            if let Ok(inner) = inner
                && let Ok(listing) = list(&inner)
            {
                let deeper = listing.place(&inner, at);
                place.inside.extend(deeper.inside);
                (place.part, place.at) = (deeper.part, deeper.at);
            }
        }
        place
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.inside.is_empty() {
            true => write!(f, "byte {} of {}", self.at, self.part),
            false => write!(
                f,
                "{}, byte {} of {}",
                self.inside.join(" "),
                self.at,
                self.part
            ),
        }
    }
}
