//! The files of an EROFS image, for whoever checks a volume without mounting it.
//!
//! Only what a volume needs: no compression, no chunks, no several devices, no extended attributes that are read; directories and
//! files, each in one piece. Everything else is refused. Source: the kernel's `fs/erofs/erofs_fs.h` and
//! `Documentation/filesystems/erofs.rst`. Nothing is allocated beyond one block and the list that comes out, whose length is
//! limited.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::limits::{MODEL_DEPTH_MAX, MODEL_ENTRIES_MAX, PATH_BYTES_MAX};
use crate::model::ModelError;

/// What can be read from any place.
pub trait ReadAt {
    /// Fills `buffer` from byte `at` on, or fails.
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buffer, at)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(at).ok().and_then(|at| self.get(at..));
        let bytes = bytes.and_then(|bytes| bytes.get(..buffer.len()));
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// A file and where its bytes lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Below the root, without a slash in front.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Of its first byte in the image.
    pub start: u64,
}

/// Lists the files of the image in the first `bytes_max` bytes of `image`; all of their bytes are within.
pub fn list(image: &(impl ReadAt + ?Sized), bytes_max: u64) -> Result<Vec<Found>, ModelError> {
    let mut reader = Reader {
        image: &|at, buffer| image.read_at(at, buffer),
        bytes_max,
        inodes: 0,
        found: Vec::new(),
        entries: 0,
    };
    let root = reader.superblock()?;
    let root = reader.inode(root)?;
    if root.kind != DIRECTORY {
        return Err(refuse("its root is no directory"));
    }
    reader.directory(root, "", 0)?;
    Ok(reader.found)
}

struct Reader<'a> {
    image: &'a dyn Fn(u64, &mut [u8]) -> io::Result<()>,
    bytes_max: u64,
    /// Where inodes are counted from, in bytes.
    inodes: u64,
    found: Vec<Found>,
    entries: u64,
}

#[derive(Clone, Copy)]
struct Inode {
    kind: u16,
    bytes: u64,
    /// Where the data is: whole blocks, and then what lies behind the inode itself.
    start: u64,
    tail: u64,
    inline: bool,
}

impl Inode {
    /// Where the piece of a block's length at most begins that has the byte `at`, a multiple of the block.
    fn place(&self, at: u64) -> Option<u64> {
        let last = self.inline && at + BLOCK > self.bytes;
        match last {
            true => Some(self.tail),
            false => self.start.checked_add(at),
        }
    }
}

impl Reader<'_> {
    fn superblock(&mut self) -> Result<u64, ModelError> {
        let mut block = [0; 128];
        self.read(SUPERBLOCK, &mut block)?;
        if word(&block, 0) != MAGIC {
            return Err(refuse("it is no EROFS"));
        }
        if block[12] != BLOCK_BITS {
            return Err(refuse("its blocks have another size than 4096 bytes"));
        }
        // Compression, chunks, devices, fragments: none of it is in a volume. Padding at the front is how large files are
        // decompressed, and means nothing here.
        if word(&block, 80) & !LZ4_0PADDING != 0 {
            return Err(refuse("it has features that a volume does not need"));
        }
        self.inodes = u64::from(word(&block, 40)) * BLOCK;
        Ok(half(&block, 14).into())
    }

    fn inode(&self, number: u64) -> Result<Inode, ModelError> {
        let place = number
            .checked_mul(32)
            .and_then(|offset| offset.checked_add(self.inodes))
            .ok_or_else(|| refuse("an inode lies nowhere"))?;
        let mut bytes = [0; 64];
        // A compact inode may be the last thing in the image.
        self.read(place, &mut bytes[..32])?;
        let format = half(&bytes, 0);
        let (size, header) = match format & 1 {
            0 => (word(&bytes, 8).into(), 32),
            _ => {
                self.read(place, &mut bytes)?;
                (long(&bytes, 8), 64)
            }
        };
        let inline = match format >> 1 {
            0 => false,
            2 => true,
            _ => return Err(refuse("an inode has a form that a volume does not need")),
        };
        let attributes = match half(&bytes, 2) {
            0 => 0,
            count => 12 + (u64::from(count) - 1) * 4,
        };
        let start = u64::from(word(&bytes, 16)) * BLOCK;
        let tail = place.checked_add(header + attributes);
        let inode = Inode {
            kind: half(&bytes, 4) & KIND,
            bytes: size,
            start,
            tail: tail.ok_or_else(|| refuse("an inode lies nowhere"))?,
            inline,
        };
        // Whole blocks, then a piece behind the inode, which lies in one block with it.
        let blocks = if inline { size - size % BLOCK } else { size };
        let within = |start: u64, bytes: u64| {
            bytes == 0
                || start
                    .checked_add(bytes)
                    .is_some_and(|end| end <= self.bytes_max)
        };
        let tail_fits = !inline || inode.tail % BLOCK + size % BLOCK <= BLOCK;
        if !within(start, blocks) || !within(inode.tail, size - blocks) || !tail_fits {
            return Err(refuse("an inode has bytes outside of the image"));
        }
        Ok(inode)
    }

    fn directory(&mut self, inode: Inode, path: &str, depth: usize) -> Result<(), ModelError> {
        if depth > MODEL_DEPTH_MAX {
            return Err(refuse("a directory lies too deep"));
        }
        let mut at = 0;
        while at < inode.bytes {
            let length = (inode.bytes - at).min(BLOCK);
            let mut block = vec![0; usize::try_from(length).unwrap_or(0)];
            let place = inode
                .place(at)
                .ok_or_else(|| refuse("a directory lies nowhere"))?;
            self.read(place, &mut block)?;
            for (name, number) in names(&block)? {
                self.entries += 1;
                if self.entries > 4 * MODEL_ENTRIES_MAX {
                    return Err(refuse("it has too many files"));
                }
                if name != "." && name != ".." {
                    self.entry(&name, number, path, depth)?;
                }
            }
            at += BLOCK;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        name: &str,
        number: u64,
        directory: &str,
        depth: usize,
    ) -> Result<(), ModelError> {
        let path = match directory {
            "" => name.to_owned(),
            directory => format!("{directory}/{name}"),
        };
        if path.len() > PATH_BYTES_MAX {
            return Err(refuse("a path is too long"));
        }
        let inode = self.inode(number)?;
        match inode.kind {
            DIRECTORY => self.directory(inode, &path, depth + 1),
            FILE => {
                // A file in one piece: all in blocks, or all behind its inode.
                let start = match inode.inline {
                    false => inode.start,
                    true if inode.bytes < BLOCK => inode.tail,
                    true => return Err(refuse("a file is in two pieces")),
                };
                let bytes = inode.bytes;
                self.found.push(Found { path, bytes, start });
                Ok(())
            }
            _ => Err(refuse("something in it is neither a file nor a directory")),
        }
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> Result<(), ModelError> {
        let end = at.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.bytes_max) {
            return Err(refuse("it ends too early"));
        }
        (self.image)(at, buffer).map_err(|error| refuse(&error.to_string()))
    }
}

/// Names and inode numbers of one block of a directory: entries of 12 bytes, then their names one after the other.
fn names(block: &[u8]) -> Result<Vec<(String, u64)>, ModelError> {
    let broken = || refuse("a directory is broken");
    let entry = |index: usize| block.get(index * 12..index * 12 + 12);
    let first = usize::from(half(entry(0).ok_or_else(broken)?, 8));
    if first == 0 || first % 12 != 0 || first > block.len() {
        return Err(broken());
    }
    let count = first / 12;
    let mut names = Vec::new();
    for index in 0..count {
        let this = entry(index).ok_or_else(broken)?;
        let begin = usize::from(half(this, 8));
        let end = match index + 1 < count {
            true => usize::from(half(entry(index + 1).ok_or_else(broken)?, 8)),
            false => block.len(),
        };
        let name = block.get(begin..end).ok_or_else(broken)?;
        // The last name of a block that is not full ends with a zero.
        let name = name.split(|byte| *byte == 0).next().unwrap_or(name);
        let name = std::str::from_utf8(name).map_err(|_| broken())?;
        if name.is_empty() || name.contains('/') {
            return Err(broken());
        }
        names.push((name.to_owned(), long(this, 0)));
    }
    Ok(names)
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from(half(bytes, at)) | u32::from(half(bytes, at + 2)) << 16
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from(word(bytes, at)) | u64::from(word(bytes, at + 4)) << 32
}

fn refuse(problem: &str) -> ModelError {
    ModelError::Volume(problem.to_owned())
}

const SUPERBLOCK: u64 = 1024;
const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK: u64 = 4096;
const BLOCK_BITS: u8 = 12;
/// `EROFS_FEATURE_INCOMPAT_LZ4_0PADDING`, which mkfs.erofs sets whether or not it compresses.
const LZ4_0PADDING: u32 = 1;
/// Of a mode: what the inode is.
const KIND: u16 = 0o170_000;
const DIRECTORY: u16 = 0o040_000;
const FILE: u16 = 0o100_000;
