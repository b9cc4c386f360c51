//! A disk that firmware starts from: a partition table with a boot partition, the root, and the root's hash tree.
//!
//! ```text
//! 1 MiB             | a multiple of 1 MiB           | data blocks     | superblock, tree | … end
//! partition table   | 1: FAT32, EFI/BOOT/BOOTX64.EFI | 2: root (EROFS) | 3: its dm-verity | table again
//! ```
//! The second and the third partition are the bytes of `root.img`, one after the other, so a guest finds the same blocks on
//! both. Types are those of the UAPI Group's "Discoverable Partitions Specification", and so are the identities of root and
//! tree: the two halves of the root hash. The other identities are functions of the contents; there is no time and nothing
//! random on the disk. Firmware measures the table, identities and all, and nothing else that this module makes.
//!
//! Trusts nothing; promises that equal parts are equal disks. What nobody wrote stays a hole, and where the file system can
//! share blocks between files, the root takes no further space. Memory does not grow with the root.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};

pub use crate::formats::fat::FatError;
use crate::formats::gpt::{Guid, Partition, SECTOR_BYTES};
use crate::formats::verity;
use crate::formats::verity::BLOCK_BYTES;
use crate::formats::{fat, gpt};

/// Where firmware looks for a program on a disk that nobody configured it for (UEFI 2.10, section 3.5.1.1).
pub const BOOT_PATH: &str = "EFI/BOOT/BOOTX64.EFI";

/// What is on a disk.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// Files of the boot partition: path and contents. Each name is of capital letters, digits, `_` and `-`, at most eight,
    /// then `.` and at most three more.
    pub files: &'a [(&'a str, &'a [u8])],
    /// The root with its tree, as [`verity::append`] left it.
    pub root: Option<(&'a File, &'a verity::Root)>,
}

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum DiskError {
    #[error(transparent)]
    Fat(#[from] fat::FatError),
    #[error("the root has {got} bytes, which is not data and tree of {data_blocks} blocks")]
    Root { got: u64, data_blocks: u64 },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Writes the disk to `out`, an empty file.
pub fn write(parts: &Parts<'_>, out: &File) -> Result<(), DiskError> {
    let boot = fat::lay_out(parts.files)?;
    let contents = Contents::of(parts);
    let mut partitions = vec![Partition {
        kind: gpt::BOOT,
        id: contents.identity("boot partition"),
        first: ALIGNMENT_SECTORS,
        sectors: boot.sectors().next_multiple_of(ALIGNMENT_SECTORS),
        read_only: false,
        name: "boot",
    }];
    if let Some((image, root)) = parts.root {
        partitions.extend(of_root(image, root, partitions[0].end())?);
    }
    let end = partitions.last().map_or(0, Partition::end) + gpt::SECTORS;
    let sectors = end.next_multiple_of(ALIGNMENT_SECTORS);
    out.set_len(sectors * SECTOR_BYTES)?;
    gpt::write(&partitions, contents.identity("disk"), sectors, out)?;
    boot.write(ALIGNMENT_SECTORS, contents.bytes("volume"), out)?;
    if let Some((image, _)) = parts.root {
        copy(image, out, partitions[1].first * SECTOR_BYTES)?;
    }
    Ok(())
}

/// Data and tree, without a gap.
fn of_root(image: &File, root: &verity::Root, first: u64) -> Result<[Partition; 2], DiskError> {
    let bytes = image.metadata()?.len();
    let blocks = verity::blocks(root.data_blocks).filter(|_| root.data_blocks > 0);
    let whole = blocks.filter(|blocks| blocks.checked_mul(BLOCK_BYTES) == Some(bytes));
    let blocks = whole.ok_or(DiskError::Root {
        got: bytes,
        data_blocks: root.data_blocks,
    })?;
    let (high, low) = root.hash.split_at(16);
    let half = |half: &[u8]| Guid(half.try_into().expect("32 bytes have two halves of 16"));
    let data = Partition {
        kind: gpt::ROOT,
        id: half(high),
        first,
        sectors: root.data_blocks * BLOCK_SECTORS,
        read_only: true,
        name: "root",
    };
    let tree = Partition {
        kind: gpt::ROOT_VERITY,
        id: half(low),
        first: data.end(),
        sectors: (blocks - root.data_blocks) * BLOCK_SECTORS,
        read_only: true,
        name: "root-verity",
    };
    Ok([data, tree])
}

/// Of all that a disk holds.
struct Contents([u8; 32]);

impl Contents {
    fn of(parts: &Parts<'_>) -> Self {
        let mut hasher = Sha256::new_with_prefix("chrysalis disk 1\n");
        let mut add = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        add(parts.root.map_or(&[], |(_, root)| &root.hash));
        let mut files = parts.files.to_vec();
        files.sort();
        for (path, contents) in files {
            add(path.as_bytes());
            add(contents);
        }
        Self(hasher.finalize().into())
    }

    /// A UUID (RFC 9562, version 8), another for each use.
    fn identity(&self, of: &str) -> Guid {
        let mut bytes = self.bytes(of);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }

    fn bytes<const N: usize>(&self, of: &str) -> [u8; N] {
        let digest = Sha256::new_with_prefix(self.0).chain_update(of).finalize();
        let mut bytes = [0; N];
        bytes.copy_from_slice(&digest[..N]);
        bytes
    }
}

/// All of `from` to `at`. The kernel copies, or shares the blocks where the file system can (`copy_file_range`).
fn copy(mut from: &File, mut to: &File, at: u64) -> io::Result<()> {
    let bytes = from.seek(SeekFrom::End(0))?;
    from.rewind()?;
    to.seek(SeekFrom::Start(at))?;
    match io::copy(&mut from.take(bytes), &mut to)? {
        copied if copied == bytes => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

const BLOCK_SECTORS: u64 = BLOCK_BYTES / SECTOR_BYTES;
/// One mebibyte.
const ALIGNMENT_SECTORS: u64 = 2048;
