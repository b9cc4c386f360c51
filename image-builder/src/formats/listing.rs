//! A list of what is inside, and which of it a byte belongs to.

use super::bytes::{Part, ReadError};
use super::erofs::reader as erofs;
use super::item::{Item, ItemKind, Listing};
use super::{cpio, gpt, pe};

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

/// Looks into a file, whatever it is.
pub fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let starts = |magic: &[u8], at: u64| {
        let mut found = vec![0; magic.len()];
        file.read(at, &mut found, "").is_ok() && found == magic
    };
    if starts(b"070701", 0) {
        cpio::list(file)
    } else if starts(b"MZ", 0) {
        pe::list(file)
    } else if starts(&erofs::MAGIC, erofs::SUPERBLOCK) {
        erofs::list(file)
    } else if starts(b"EFI PART", gpt::SECTOR_BYTES) {
        gpt::list(file)
    } else {
        Err(ReadError::Strange)
    }
}

impl Listing {
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
