//! Partitions of a disk (UEFI, section 5.3: GPT).

use crate::formats::bytes::ReadError;
use crate::formats::bytes::{Part, number};
use crate::formats::listing::{Item, ItemKind, Listing};

/// Partitions by the first table; the second one at the end is an area.
pub fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let header: [u8; 92] = file.array(BLOCK, "the header of the partition table")?;
    let (table, count, size) = (
        number::<8>(&header, 72),
        number::<4>(&header, 80),
        number::<4>(&header, 84),
    );
    if count > PARTITIONS_MAX || size != 128 {
        return Err(broken("its list of partitions is none that firmware makes"));
    }
    let start = table.checked_mul(BLOCK).ok_or(ReadError::Cut {
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
        let (from, length) = (first.checked_mul(BLOCK), last.checked_sub(first));
        let length = length.and_then(|blocks| blocks.checked_add(1)?.checked_mul(BLOCK));
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

/// A logical block.
pub const BLOCK: u64 = 512;
const PARTITIONS_MAX: u64 = 128;
