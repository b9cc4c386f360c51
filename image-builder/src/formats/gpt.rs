//! The partition table (UEFI 2.10, section 5), for sectors of 512 bytes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::bytes::{Part, ReadError, number};
use super::item::{Item, ItemKind, Listing};

/// One partition.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Partition {
    pub kind: Guid,
    pub id: Guid,
    /// Its first sector.
    pub first: u64,
    pub sectors: u64,
    pub read_only: bool,
    /// For people; ASCII, at most 36 characters.
    pub name: &'static str,
}

impl Partition {
    /// The sector after its last.
    pub fn end(&self) -> u64 {
        self.first + self.sectors
    }
}

/// An identity, its bytes in the order in which it is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guid(pub [u8; 16]);

impl Guid {
    /// As it lies on a disk: its first three numbers with the least byte first (UEFI 2.10, appendix A).
    fn bytes(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }
}

/// Writes the table of a disk with so many sectors: the old kind of table, which says that there is a new one, then the new
/// one, and its copy at the end.
pub(crate) fn write(
    partitions: &[Partition],
    disk: Guid,
    sectors: u64,
    out: &File,
) -> io::Result<()> {
    let last = sectors - 1;
    let mut old = [0; SECTOR];
    // From sector 1 to the end, in a field that ends at two tebibytes.
    let covered = u32::try_from(last).unwrap_or(u32::MAX);
    old[446..454].copy_from_slice(&[0, 0, 2, 0, 0xee, 0xff, 0xff, 0xff]);
    old[454..458].copy_from_slice(&1u32.to_le_bytes());
    old[458..462].copy_from_slice(&covered.to_le_bytes());
    old[510..].copy_from_slice(&[0x55, 0xaa]);
    put(out, 0, &old)?;

    let mut entries = vec![0; ENTRIES * ENTRY];
    for (entry, partition) in entries.chunks_exact_mut(ENTRY).zip(partitions) {
        entry[..16].copy_from_slice(&partition.kind.bytes());
        entry[16..32].copy_from_slice(&partition.id.bytes());
        entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
        entry[40..48].copy_from_slice(&(partition.end() - 1).to_le_bytes());
        let attributes = u64::from(partition.read_only) << READ_ONLY;
        entry[48..56].copy_from_slice(&attributes.to_le_bytes());
        for (place, letter) in entry[56..].chunks_exact_mut(2).zip(partition.name.bytes()) {
            place[0] = letter;
        }
    }
    let copy = sectors - SECTORS;
    for (own, other, at) in [(1, last, 2), (last, 1, copy)] {
        let mut header = [0; HEADER];
        header[..16].copy_from_slice(b"EFI PART\0\0\x01\0\x5c\0\0\0");
        for (field, value) in [
            (24, own),
            (32, other),
            (40, 1 + SECTORS),
            (48, copy - 1),
            (72, at),
        ] {
            header[field..field + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        header[56..72].copy_from_slice(&disk.bytes());
        header[80..84].copy_from_slice(&(ENTRIES as u32).to_le_bytes());
        header[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
        header[88..92].copy_from_slice(&crc32(&entries).to_le_bytes());
        let sum = crc32(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        put(out, own, &header)?;
        put(out, at, &entries)?;
    }
    Ok(())
}

/// CRC-32 of IEEE 802.3, bit by bit: a table has a few thousand bytes.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), step)
    })
}

const SECTOR: usize = SECTOR_BYTES as usize;
const HEADER: usize = 92;
const ENTRY: usize = 128;
const ENTRIES: usize = 128;
/// Of the table at either end: a header, and the entries.
pub(crate) const SECTORS: u64 = 1 + (ENTRIES * ENTRY / SECTOR) as u64;
/// The attribute that says so, of partitions of the kinds below.
const READ_ONLY: u64 = 60;

/// EFI system partition.
pub(crate) const BOOT: Guid = Guid(0xc12a7328_f81f_11d2_ba4b_00a0c93ec93b_u128.to_be_bytes());
/// Root of x86-64.
pub(crate) const ROOT: Guid = Guid(0x4f68bce3_e8cd_4db1_96e7_fbcaf984b709_u128.to_be_bytes());
/// dm-verity of a root of x86-64.
pub(crate) const ROOT_VERITY: Guid =
    Guid(0x2c7357ed_ebd2_46d9_aec1_23d437ec2bf5_u128.to_be_bytes());

/// Writes at a sector.
pub(crate) fn put(out: &File, sector: u64, bytes: &[u8]) -> io::Result<()> {
    out.write_all_at(bytes, sector * SECTOR_BYTES)
}

/// What the table counts in; virtio disks have sectors of this size unless told otherwise.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// Partitions by the first table; the second one at the end is an area.
pub(crate) fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let header: [u8; 92] = file.array(SECTOR_BYTES, "the header of the partition table")?;
    let (table, count, size) = (
        number::<8>(&header, 72),
        number::<4>(&header, 80),
        number::<4>(&header, 84),
    );
    if count > PARTITIONS_MAX || size != 128 {
        return Err(broken("its list of partitions is none that firmware makes"));
    }
    let start = table.checked_mul(SECTOR_BYTES).ok_or(ReadError::Cut {
        what: "the list of partitions",
    })?;
    file.part(start, 128 * count, "the list of partitions")?;
    let mut listing = Listing::default();
    for index in 0..count {
        let at = start + 128 * index;
        let entry: [u8; 128] = file.array(at, "the list of partitions")?;
        if entry[..16] == [0; 16] {
            continue;
        }
        let (first, last) = (number::<8>(&entry, 32), number::<8>(&entry, 40));
        let (from, length) = (first.checked_mul(SECTOR_BYTES), last.checked_sub(first));
        let length = length.and_then(|blocks| blocks.checked_add(1)?.checked_mul(SECTOR_BYTES));
        let (Some(from), Some(length)) = (from, length) else {
            return Err(broken("a partition ends before it begins"));
        };
        file.part(from, length, "a partition")?;
        let name = entry[56..].chunks_exact(2);
        let name: Vec<u16> = { name }
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
            .take_while(|unit| *unit != 0)
            .collect();
        let name = String::from_utf16_lossy(&name).replace(char::is_control, "?");
        listing.items.push(Item {
            path: format!("partition {} ({name})", index + 1),
            kind: ItemKind::Section,
            mode: 0,
            owner: (0, 0),
            bytes: length,
            header: at..at + 128,
            extents: Vec::from_iter(Some(from..from + length)),
        });
    }
    let end = start + 128 * count;
    listing.areas.push((0..end, "the partition table"));
    Ok(listing)
}

fn broken(problem: &'static str) -> ReadError {
    let format = "the partition table";
    ReadError::Broken { format, problem }
}

const PARTITIONS_MAX: u64 = 128;
