//! The list of memory that QEMU hands to the firmware of a trust domain, which measures it into RTMR0 first.
//!
//! As `hw/i386/tdvf-hob.c` and `hw/i386/kvm/tdx.c` of QEMU write it for a q35 machine, in the format of the UEFI Platform
//! Initialization specification, volume 3, section 5: a table of 56 bytes, a resource of 48 bytes per range, and an end
//! that the firmware does not measure.

use std::ops::Range;

use registers::Digest48;

use crate::firmware::{FirmwareError, Kind, Section, the_one};

/// The digest of the list for a firmware with these sections and a machine with so much memory.
pub fn hand_off_digest(sections: &[Section], memory_mib: u64) -> Result<Digest48, FirmwareError> {
    let ranges = ranges(sections, memory_mib.saturating_mul(1 << 20))?;
    let address = the_one(sections, Kind::HandOffBlocks)?.memory.start;
    let length = TABLE_BYTES + RESOURCE_BYTES * ranges.len() as u64;
    let end = address
        .checked_add(length + END_BYTES)
        .ok_or(FirmwareError::Memory { address })?;

    let mut list = Vec::new();
    block_header(&mut list, 1, TABLE_BYTES as u16);
    put32(&mut list, [9, 0]);
    put64(&mut list, [0, 0, 0, 0, end]);
    for (memory, accepted) in ranges {
        block_header(&mut list, 3, RESOURCE_BYTES as u16);
        put64(&mut list, [0, 0]);
        put32(
            &mut list,
            [if accepted { 0 } else { 7 }, PRESENT_AND_TESTED],
        );
        put64(&mut list, [memory.start, memory.end - memory.start]);
    }
    Ok(Digest48::of(&list))
}

/// All memory in order, and whether it is accepted: what the firmware starts with is, the rest is not.
fn ranges(sections: &[Section], memory: u64) -> Result<Vec<(Range<u64>, bool)>, FirmwareError> {
    let low = if memory < LOW_MEMORY_MAX {
        memory
    } else {
        LOW_MEMORY_OF_LARGE
    };
    let in_memory = |kind| matches!(kind, Kind::HandOffBlocks | Kind::Temporary);
    let mut accepted: Vec<_> = sections
        .iter()
        .filter(|section| in_memory(section.kind))
        .map(|section| section.memory.clone())
        .collect();
    accepted.sort_by_key(|range| range.start);

    let mut ranges = Vec::new();
    let mut at = 0;
    for range in accepted {
        if range.start < at || range.end > low {
            return Err(FirmwareError::Memory {
                address: range.start,
            });
        }
        if range.start > at {
            ranges.push((at..range.start, false));
        }
        at = range.end;
        ranges.push((range, true));
    }
    if at < low {
        ranges.push((at..low, false));
    }
    if memory > low {
        ranges.push((HIGH_MEMORY..HIGH_MEMORY + (memory - low), false));
    }
    Ok(ranges)
}

/// Kind, length and four reserved bytes.
fn block_header(list: &mut Vec<u8>, kind: u16, length: u16) {
    list.extend(kind.to_le_bytes());
    list.extend(length.to_le_bytes());
    list.extend([0; 4]);
}

fn put32<const N: usize>(list: &mut Vec<u8>, values: [u32; N]) {
    list.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

fn put64<const N: usize>(list: &mut Vec<u8>, values: [u64; N]) {
    list.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

const TABLE_BYTES: u64 = 56;
const RESOURCE_BYTES: u64 = 48;
const END_BYTES: u64 = 8;
/// EFI_RESOURCE_ATTRIBUTE_PRESENT, INITIALIZED and TESTED.
const PRESENT_AND_TESTED: u32 = 7;
/// A q35 machine with less has all of it below 4 GiB (QEMU, `pc_q35_init`).
const LOW_MEMORY_MAX: u64 = 0xb000_0000;
/// One with more has so much of it there.
const LOW_MEMORY_OF_LARGE: u64 = 0x8000_0000;
const HIGH_MEMORY: u64 = 1 << 32;

#[cfg(test)]
mod tests;
