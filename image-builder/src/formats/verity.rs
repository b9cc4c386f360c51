//! dm-verity: a hash tree over a disk image, so that a guest believes a disk by one hash on its measured command line.
//!
//! ```text
//! data blocks | superblock | top level of the tree … lowest level
//! ```
//! Format 1, SHA-256, blocks of 4096 bytes for data and hashes, salt before the block. Algorithm: the kernel's
//! `Documentation/admin-guide/device-mapper/verity.rst`; layout: cryptsetup's `lib/verity/verity.h` and its on-disk wiki page.
//! The salt is the SHA-256 of the data: equal images stay equal, and nobody can prepare collisions for a salt in advance.
//! One block of memory per level, whatever the size of the image.

mod read;

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};

pub use read::{Reader, VerityFault};

/// Bytes of a data or hash block.
pub const BLOCK_BYTES: u64 = 4096;
const DIGESTS_PER_BLOCK: u64 = BLOCK_BYTES / 32;
const BLOCK: usize = BLOCK_BYTES as usize;
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// What the guest must be told to open the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// The hash of the tree's top.
    pub hash: [u8; 32],
    /// What is hashed before every block.
    pub salt: [u8; 32],
    /// How many blocks of data there are; the superblock is the block after them.
    pub data_blocks: u64,
}

/// Appends superblock and hash tree to `image`, which is open for reading and writing and holds whole blocks.
pub fn append(image: &File) -> io::Result<Root> {
    append_counted(image, &mut |_| {})
}

/// As [`append`], and says how many bytes of the data are in the tree so far.
pub fn append_counted(image: &File, hashed: &mut dyn FnMut(u64)) -> io::Result<Root> {
    let bytes = image.metadata()?.len();
    if bytes == 0 || bytes % BLOCK_BYTES != 0 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("an image of {bytes} bytes is not a number of {BLOCK_BYTES} byte blocks"),
        ));
    }
    let data_blocks = bytes / BLOCK_BYTES;
    let mut hasher = Sha256::new();
    for_each_block(image, data_blocks, |block| {
        hasher.update(block);
        Ok(())
    })?;
    let salt: [u8; 32] = hasher.finalize().into();
    image.write_all_at(&superblock(salt, data_blocks), bytes)?;

    let write = |block: &[u8], at: u64| image.write_all_at(block, at * BLOCK_BYTES);
    Ok(Root {
        hash: grow(image, salt, data_blocks, &write, hashed)?,
        salt,
        data_blocks,
    })
}

/// What [`check`] found first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum Difference {
    #[error("the block behind the data is not the superblock of its hash tree")]
    Superblock,
    #[error("block {block} of the volume, in the hash tree, does not fit the data")]
    Tree { block: u64 },
    #[error("its root hash is another one")]
    Root,
}

/// Whether superblock and tree of `image` are those of its data and end in the root hash. Makes the tree again and compares it, so
/// that also the part of it which nobody has read is right.
pub fn check(
    image: &File,
    root: &Root,
    hashed: &mut dyn FnMut(u64),
) -> io::Result<Option<Difference>> {
    let mut block = vec![0; BLOCK];
    let data_bytes = root.data_blocks.checked_mul(BLOCK_BYTES);
    let data_bytes = data_bytes.ok_or(io::ErrorKind::InvalidInput)?;
    image.read_exact_at(&mut block, data_bytes)?;
    if block != superblock(root.salt, root.data_blocks) {
        return Ok(Some(Difference::Superblock));
    }
    let first = Cell::new(None);
    let compare = |made: &[u8], at: u64| {
        let mut block = [0; BLOCK];
        image.read_exact_at(&mut block, at * BLOCK_BYTES)?;
        if block != made && first.get().is_none() {
            first.set(Some(Difference::Tree { block: at }));
        }
        Ok(())
    };
    let hash = grow(image, root.salt, root.data_blocks, &compare, hashed)?;
    let other = (hash != root.hash).then_some(Difference::Root);
    Ok(first.get().or(other))
}

/// Blocks of data, superblock and tree together; `None` if nobody can count so far.
pub fn blocks(data_blocks: u64) -> Option<u64> {
    let tree: u64 = level_sizes(data_blocks).iter().sum();
    data_blocks.checked_add(1)?.checked_add(tree)
}

/// Makes the tree of the data, and gives each of its blocks to `put` with where it belongs.
fn grow(
    image: &File,
    salt: [u8; 32],
    data_blocks: u64,
    put: &dyn Fn(&[u8], u64) -> io::Result<()>,
    hashed: &mut dyn FnMut(u64),
) -> io::Result<[u8; 32]> {
    let mut tree = Tree::new(put, salt, data_blocks);
    let mut done = 0;
    for_each_block(image, data_blocks, |block| {
        done += BLOCK_BYTES;
        if done % READ_BYTES as u64 == 0 {
            hashed(done);
        }
        tree.add(0, salted(&salt, block))
    })?;
    tree.finish()
}

/// Blocks of each level, lowest first. A single block of data needs no tree: its hash is the root hash.
fn level_sizes(data_blocks: u64) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut blocks = data_blocks;
    while blocks > 1 {
        blocks = blocks.div_ceil(DIGESTS_PER_BLOCK);
        sizes.push(blocks);
    }
    sizes
}

/// The levels of the tree as they fill, lowest first.
struct Tree<'a> {
    put: &'a dyn Fn(&[u8], u64) -> io::Result<()>,
    salt: [u8; 32],
    levels: Vec<Level>,
    top: [u8; 32],
}

struct Level {
    /// Where its next block goes, counted in blocks.
    next: u64,
    /// The block being filled; zeros after the digests, as the format asks for.
    block: Box<[u8; BLOCK]>,
    filled: usize,
}

impl<'a> Tree<'a> {
    fn new(
        put: &'a dyn Fn(&[u8], u64) -> io::Result<()>,
        salt: [u8; 32],
        data_blocks: u64,
    ) -> Self {
        let level = |next| Level {
            next,
            block: Box::new([0; BLOCK]),
            filled: 0,
        };
        Self {
            put,
            salt,
            levels: starts(data_blocks).into_iter().map(level).collect(),
            top: [0; 32],
        }
    }

    /// Puts one digest into `level`, and that level's digest into the next one when its block is full.
    fn add(&mut self, level: usize, digest: [u8; 32]) -> io::Result<()> {
        let Some(filling) = self.levels.get_mut(level) else {
            self.top = digest;
            return Ok(());
        };
        filling.block[filling.filled..filling.filled + 32].copy_from_slice(&digest);
        filling.filled += 32;
        if filling.filled == BLOCK {
            return self.close(level);
        }
        Ok(())
    }

    fn close(&mut self, level: usize) -> io::Result<()> {
        let full = &mut self.levels[level];
        (self.put)(&full.block[..], full.next)?;
        let digest = salted(&self.salt, &full.block[..]);
        full.next += 1;
        full.filled = 0;
        full.block.fill(0);
        self.add(level + 1, digest)
    }

    fn finish(mut self) -> io::Result<[u8; 32]> {
        for level in 0..self.levels.len() {
            if self.levels[level].filled > 0 {
                self.close(level)?;
            }
        }
        Ok(self.top)
    }
}

/// Where each level begins, lowest first, counted in blocks.
fn starts(data_blocks: u64) -> Vec<u64> {
    // The top level lies first, right after the superblock.
    let mut next = data_blocks + 1;
    let mut starts = Vec::new();
    for size in level_sizes(data_blocks).iter().rev() {
        starts.push(next);
        next += size;
    }
    starts.reverse();
    starts
}

fn salted(salt: &[u8], block: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(salt)
        .chain_update(block)
        .finalize()
        .into()
}

/// `struct verity_sb`, 512 bytes, padded to one block.
fn superblock(salt: [u8; 32], data_blocks: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK);
    bytes.extend(b"verity\0\0");
    bytes.extend(1u32.to_le_bytes()); // superblock version
    bytes.extend(1u32.to_le_bytes()); // hash type: "normal", salt first
    bytes.extend(&salt[..16]); // UUID; nobody reads it, so it is one more function of the data
    bytes.extend(b"sha256");
    bytes.resize(64, 0);
    bytes.extend((BLOCK_BYTES as u32).to_le_bytes());
    bytes.extend((BLOCK_BYTES as u32).to_le_bytes());
    bytes.extend(data_blocks.to_le_bytes());
    bytes.extend(32u16.to_le_bytes()); // salt size
    bytes.extend([0; 6]);
    bytes.extend(salt);
    bytes.resize(BLOCK, 0);
    bytes
}

fn for_each_block(
    image: &File,
    data_blocks: u64,
    mut each: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(READ_BYTES, image);
    reader.seek(SeekFrom::Start(0))?;
    let mut block = [0; BLOCK];
    for _ in 0..data_blocks {
        reader.read_exact(&mut block)?;
        each(&block)?;
    }
    Ok(())
}
