//! A root or a model's volume: EROFS without compression (`Documentation/filesystems/erofs.rst` and `fs/erofs/erofs_fs.h` of the
//! kernel).
//!
//! What lies behind the file system is the hash tree over it, whose superblock is described by
//! `Documentation/admin-guide/device-mapper/verity.rst`.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::formats::bytes::{Part, ReadError, number};
use crate::formats::item::{Item, ItemKind, Listing};
use crate::limits::{DEB_DEPTH_MAX, INSIDE_DIRECTORY_BYTES_MAX, INSIDE_ITEMS_MAX};

/// `EROFS_SUPER_MAGIC_V1`.
pub const MAGIC: [u8; 4] = 0xE0F5_E1E2_u32.to_le_bytes();
/// `EROFS_SUPER_OFFSET`.
pub const SUPERBLOCK: u64 = 1024;

/// Everything below the root directory, directories before what is in them.
pub fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let volume = Volume::open(*file)?;
    let mut listing = Reader::read(&volume)?;
    let end = volume.blocks << volume.block_bits;
    listing
        .areas
        .push((0..SUPERBLOCK + 128, "the file system's superblock"));
    listing
        .areas
        .push((SUPERBLOCK + 128..end, "the file system's own data"));
    if end < file.length() {
        let tree = end + volume.block();
        listing
            .areas
            .push((end..tree, "the superblock of the hash tree"));
        listing.areas.push((tree..file.length(), "the hash tree"));
    }
    Ok(listing)
}

/// The files of a model's volume. It needs less of the format than a root: blocks of 4096 bytes, no chunks, and nothing but
/// directories and files, each in one piece.
pub fn volume_files(file: &Part<'_>) -> Result<Vec<Item>, ReadError> {
    let volume = Volume::open(*file)?;
    if volume.block() != BLOCK_BYTES {
        return Err(unknown("blocks of another size than 4096 bytes"));
    }
    if volume.features & !PADDING != 0 {
        return Err(unknown("features that a volume does not need"));
    }
    let mut items = Reader::read(&volume)?.items;
    items.retain(|item| item.kind != ItemKind::Directory);
    match items.iter().find(|item| item.kind != ItemKind::File) {
        Some(_) => Err(broken("something in it is neither a file nor a directory")),
        None if items.iter().any(|item| item.extents.len() > 1) => {
            Err(broken("a file is in two pieces"))
        }
        None => Ok(items),
    }
}

/// The file system as a whole.
struct Volume<'a> {
    file: Part<'a>,
    block_bits: u32,
    features: u64,
    /// Where inodes are counted from.
    inodes: u64,
    root: u64,
    blocks: u64,
}

/// One inode.
struct Inode {
    mode: u32,
    owner: (u32, u32),
    bytes: u64,
    /// From its first byte to the end of its attributes.
    header: Range<u64>,
    extents: Vec<Range<u64>>,
}

impl<'a> Volume<'a> {
    fn open(file: Part<'a>) -> Result<Self, ReadError> {
        let block: [u8; 128] = file.array(SUPERBLOCK, "the superblock")?;
        if block[..4] != MAGIC {
            return Err(broken("its superblock has another magic number"));
        }
        let features = number::<4>(&block, 80);
        if features & !(PADDING | CHUNKS | PREFIXES) != 0 {
            return Err(unknown("compression or another feature"));
        }
        let block_bits = u32::from(block[12]);
        if !(9..=16).contains(&block_bits) {
            return Err(broken("its blocks have a length that no block has"));
        }
        let blocks = number::<4>(&block, 36);
        file.part(0, blocks << block_bits, "the file system")?;
        Ok(Self {
            file,
            block_bits,
            features,
            inodes: number::<4>(&block, 40) << block_bits,
            root: number::<2>(&block, 14),
            blocks,
        })
    }

    fn block(&self) -> u64 {
        1 << self.block_bits
    }

    fn inode(&self, number_of: u64) -> Result<Inode, ReadError> {
        let at = number_of
            .checked_mul(32)
            .and_then(|at| at.checked_add(self.inodes));
        let at = at.ok_or(ReadError::Cut { what: "an inode" })?;
        let head: [u8; 32] = self.file.array(at, "an inode")?;
        let format = number::<2>(&head, 0);
        let mode = number::<2>(&head, 4) as u32;
        // Compact inodes have 32 bytes, extended ones 64.
        let (size, bytes, owner) = match format & 1 {
            0 => {
                let owner = (number::<2>(&head, 24) as u32, number::<2>(&head, 26) as u32);
                (32, number::<4>(&head, 8), owner)
            }
            _ => {
                let owner = (number::<4>(&head, 24) as u32, number::<4>(&head, 28) as u32);
                (64, number::<8>(&head, 8), owner)
            }
        };
        let place = number::<4>(&head, 16);
        // Chunks may be shared, but no honest file has its whole volume many times over.
        if bytes > self.file.length().saturating_mul(SHARED_MAX) {
            return Err(broken("a file is longer than the file system"));
        }
        let attributes = match number::<2>(&head, 2) {
            0 => 0,
            count => 12 + 4 * (count - 1),
        };
        let end = at + size + attributes;
        self.file.part(at, size + attributes, "an inode")?;
        let special = ItemKind::of(mode) == ItemKind::Device;
        let extents = match (format >> 1 & 7, special) {
            (_, true) => Vec::new(),
            (0, _) => self.flat(place, bytes)?,
            (2, _) => self.inline(place, bytes, end)?,
            (4, _) if self.features & CHUNKS != 0 => self.chunks(place, bytes, end)?,
            (1 | 3, _) => return Err(unknown("compression")),
            _ => return Err(unknown("a layout of files")),
        };
        Ok(Inode {
            mode,
            owner,
            bytes: if special { 0 } else { bytes },
            header: at..end,
            extents,
        })
    }

    /// One after the other from a block on.
    fn flat(&self, block: u64, bytes: u64) -> Result<Vec<Range<u64>>, ReadError> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let start = block << self.block_bits;
        self.file.part(start, bytes, "a file's content")?;
        Ok(Vec::from_iter(Some(start..start + bytes)))
    }

    /// All but the last block from a block on, and the last one behind the inode.
    fn inline(&self, block: u64, bytes: u64, behind: u64) -> Result<Vec<Range<u64>>, ReadError> {
        let before = bytes.div_ceil(self.block()).saturating_sub(1) << self.block_bits;
        let mut extents = self.flat(block, before)?;
        let tail = bytes - before;
        self.file.part(behind, tail, "a file's content")?;
        if behind % self.block() + tail > self.block() {
            return Err(broken(
                "the end of a file is not in one block with its inode",
            ));
        }
        if tail > 0 {
            extents.push(behind..behind + tail);
        }
        Ok(extents)
    }

    /// Chunks of blocks, each with its own place, from a list behind the inode.
    fn chunks(&self, format: u64, bytes: u64, behind: u64) -> Result<Vec<Range<u64>>, ReadError> {
        const INDEXES: u64 = 0x20;
        if format & !(0x1f | INDEXES) & 0xffff != 0 {
            return Err(unknown("a layout of chunks"));
        }
        let chunk = self.block() << (format & 0x1f);
        let width: u64 = if format & INDEXES == 0 { 4 } else { 8 };
        let list = behind.next_multiple_of(width);
        let count = bytes.div_ceil(chunk);
        self.file
            .part(list, count.saturating_mul(width), "a list of chunks")?;
        let mut extents: Vec<Range<u64>> = Vec::new();
        for index in 0..count {
            let entry: [u8; 4] = self
                .file
                .array(list + index * width + width - 4, "a chunk")?;
            let block = number::<4>(&entry, 0);
            if block == 0xffff_ffff {
                return Err(unknown("holes"));
            }
            let start = block << self.block_bits;
            let length = chunk.min(bytes - index * chunk);
            self.file.part(start, length, "a chunk")?;
            match extents.last_mut() {
                Some(last) if last.end == start => last.end += length,
                _ => extents.push(start..start + length),
            }
        }
        Ok(extents)
    }
}

struct Reader<'a> {
    volume: &'a Volume<'a>,
    listing: Listing,
    seen: BTreeSet<u64>,
    /// Of all files so far, however many share them.
    bytes: u64,
}

impl<'a> Reader<'a> {
    fn read(volume: &'a Volume<'a>) -> Result<Listing, ReadError> {
        let mut reader = Self {
            listing: Listing::default(),
            seen: BTreeSet::new(),
            bytes: 0,
            volume,
        };
        let root = volume.inode(volume.root)?;
        if ItemKind::of(root.mode) != ItemKind::Directory {
            return Err(broken("a directory is none"));
        }
        reader.directory("/", volume.root, root, 0)?;
        Ok(reader.listing)
    }

    /// A directory and everything in it. `path` is its own.
    fn directory(
        &mut self,
        path: &str,
        number_of: u64,
        inode: Inode,
        depth: usize,
    ) -> Result<(), ReadError> {
        if depth > DEB_DEPTH_MAX {
            let (format, what, max) = (FORMAT, "directories in each other", DEB_DEPTH_MAX as u64);
            return Err(ReadError::TooMany { format, what, max });
        }
        if !self.seen.insert(number_of) {
            return Err(broken("a directory is in two places"));
        }
        if inode.bytes > INSIDE_DIRECTORY_BYTES_MAX {
            let (format, what) = (FORMAT, "bytes in one directory");
            let max = INSIDE_DIRECTORY_BYTES_MAX;
            return Err(ReadError::TooMany { format, what, max });
        }
        let mut names = Vec::with_capacity(inode.bytes as usize);
        let item = self.add(path, inode)?;
        item.read(&self.volume.file, &mut |piece| {
            names.extend_from_slice(piece)
        })?;
        let block = self.volume.block() as usize;
        let mut found = Vec::new();
        for names in names.chunks(block) {
            entries(names, &mut found)?;
        }
        drop(names);
        for (name, number_of, named) in found {
            if name == "." || name == ".." {
                continue;
            }
            let path = format!("{}/{name}", path.trim_end_matches('/'));
            let inode = self.volume.inode(number_of)?;
            let is_directory = ItemKind::of(inode.mode) == ItemKind::Directory;
            if named != UNNAMED && (named == NAMED_DIRECTORY) != is_directory {
                return Err(broken("a directory is called something else"));
            }
            if is_directory {
                self.directory(&path, number_of, inode, depth + 1)?;
            } else {
                self.add(&path, inode)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &str, inode: Inode) -> Result<Item, ReadError> {
        if self.listing.items.len() >= INSIDE_ITEMS_MAX {
            let (format, what, max) = (FORMAT, "entries", INSIDE_ITEMS_MAX as u64);
            return Err(ReadError::TooMany { format, what, max });
        }
        self.bytes = self.bytes.saturating_add(inode.bytes);
        let max = self.volume.file.length().saturating_mul(SHARED_MAX);
        if self.bytes > max {
            let (format, what) = (FORMAT, "bytes in its files");
            return Err(ReadError::TooMany { format, what, max });
        }
        let item = Item {
            path: path.to_owned(),
            kind: ItemKind::of(inode.mode),
            mode: inode.mode & 0o7777,
            owner: inode.owner,
            bytes: inode.bytes,
            header: inode.header,
            extents: inode.extents,
        };
        self.listing.items.push(item.clone());
        Ok(item)
    }
}

/// The entries of one block of a directory: descriptions of twelve bytes, then the names, the last one up to the end or to a zero.
fn entries(block: &[u8], found: &mut Vec<(String, u64, u8)>) -> Result<(), ReadError> {
    const SIZE: usize = 12;
    if block.len() < SIZE {
        return Err(broken("a block of a directory is too short"));
    }
    let first = number::<2>(block, 8) as usize;
    if !first.is_multiple_of(SIZE) || first < SIZE || first > block.len() {
        return Err(broken("the names of a directory begin in a wrong place"));
    }
    for at in (0..first).step_by(SIZE) {
        let start = number::<2>(block, at + 8) as usize;
        let next = match at + SIZE < first {
            true => number::<2>(block, at + SIZE + 8) as usize,
            false => block.len(),
        };
        let name = block.get(start..next).filter(|_| start >= first);
        let name = name.ok_or(broken("a name of a directory is out of place"))?;
        let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| broken("a name is not UTF-8"))?;
        if name.is_empty() || name.contains('/') || name.len() > 255 {
            return Err(broken("a name is empty, too long, or a path"));
        }
        found.push((name.to_owned(), number::<8>(block, at), block[at + 10]));
        if found.len() > INSIDE_ITEMS_MAX {
            let (format, what, max) = (FORMAT, "entries", INSIDE_ITEMS_MAX as u64);
            return Err(ReadError::TooMany { format, what, max });
        }
    }
    Ok(())
}

fn broken(problem: &'static str) -> ReadError {
    let format = FORMAT;
    ReadError::Broken { format, problem }
}

fn unknown(what: &'static str) -> ReadError {
    let format = FORMAT;
    ReadError::Unknown { format, what }
}

const FORMAT: &str = "the file system";
const BLOCK_BYTES: u64 = 4096;
/// Features that hide no file: padding at the beginning of compressed data, which mkfs.erofs sets whether or not it compresses;
/// chunks; long prefixes of attributes.
const PADDING: u64 = 0x01;
const CHUNKS: u64 = 0x04;
const PREFIXES: u64 = 0x40;
/// What an entry of a directory may say of its inode: nothing, `EROFS_FT_DIR`, or another kind.
const UNNAMED: u8 = 0;
const NAMED_DIRECTORY: u8 = 2;
/// How often the bytes of a volume may be in its files, for those that share theirs.
const SHARED_MAX: u64 = 16;
