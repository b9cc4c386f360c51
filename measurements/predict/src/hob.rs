//! The TD HOB: the list of memory ranges that QEMU writes for the firmware, and the firmware measures first of all.
//!
//! Hand-off blocks are those of the UEFI Platform Initialization specification, volume 3; which ranges there are is
//! QEMU's `hw/i386/tdvf-hob.c` and `hw/i386/pc_q35.c`. Real logs of guests with 1, 2 and 64 GiB agree.

use super::PredictError;
use super::tdvf::{SectionKind, Tdvf};
use crate::limits;

/// The bytes that are measured: everything before the closing block.
pub(super) fn td_hob(tdvf: &Tdvf<'_>, memory_mib: u64) -> Result<Vec<u8>, PredictError> {
    let hob_address = tdvf.only(SectionKind::TdHob)?.memory.start;
    let ranges = ranges(tdvf, memory_mib)?;
    let bytes = HANDOFF_BYTES + RESOURCE_BYTES * ranges.len();
    let mut hob = Vec::with_capacity(bytes);
    hob.extend(header(HANDOFF, HANDOFF_BYTES));
    hob.extend(9u32.to_le_bytes()); // EFI_HOB_HANDOFF_TABLE_VERSION
    hob.extend([0; 4 + 4 * 8]); // boot mode; memory top and bottom, free memory top and bottom
    // EfiEndOfHobList points behind the closing block.
    let end = hob_address.saturating_add((bytes + END_BYTES) as u64);
    hob.extend(end.to_le_bytes());
    for range in &ranges {
        hob.extend(header(RESOURCE_DESCRIPTOR, RESOURCE_BYTES));
        hob.extend([0; 16]); // owner
        hob.extend(range.kind.to_le_bytes());
        hob.extend(PRESENT_INITIALIZED_TESTED.to_le_bytes());
        hob.extend(range.start.to_le_bytes());
        hob.extend(range.bytes.to_le_bytes());
    }
    Ok(hob)
}

struct Range {
    kind: u32,
    start: u64,
    bytes: u64,
}

/// Memory below 4 GiB, cut where the firmware's own pages are accepted already, then memory above 4 GiB.
fn ranges(tdvf: &Tdvf<'_>, memory_mib: u64) -> Result<Vec<Range>, PredictError> {
    if memory_mib == 0 || memory_mib > limits::MEMORY_MIB_MAX {
        return Err(PredictError::Memory {
            got_mib: memory_mib,
        });
    }
    let memory = memory_mib << 20;
    let low = if memory < LOW_MEMORY_ALL {
        memory
    } else {
        LOW_MEMORY_SPLIT
    };
    let mut accepted: Vec<_> = tdvf
        .sections()
        .iter()
        .filter(|s| matches!(s.kind, SectionKind::TdHob | SectionKind::TempMem))
        .map(|s| s.memory.clone())
        .collect();
    accepted.sort_by_key(|range| range.start);
    let mut ranges = Vec::new();
    let mut add = |kind, start: u64, end: u64| {
        if start < end {
            let bytes = end - start;
            ranges.push(Range { kind, start, bytes });
        }
    };
    let mut at = 0;
    for range in accepted {
        if range.end > low {
            return Err(PredictError::Memory {
                got_mib: memory_mib,
            });
        }
        add(UNACCEPTED, at, range.start);
        add(SYSTEM_MEMORY, range.start, range.end);
        at = range.end;
    }
    add(UNACCEPTED, at, low);
    add(UNACCEPTED, FOUR_GIB, FOUR_GIB + (memory - low));
    Ok(ranges)
}

/// u16 type, u16 length, u32 reserved.
fn header(kind: u16, bytes: usize) -> [u8; 8] {
    let mut header = [0; 8];
    header[..2].copy_from_slice(&kind.to_le_bytes());
    header[2..4].copy_from_slice(&(bytes as u16).to_le_bytes());
    header
}

/// QEMU's q35 keeps all memory below 4 GiB if there is less than this, and otherwise the next number of bytes.
const LOW_MEMORY_ALL: u64 = 0xb000_0000;
const LOW_MEMORY_SPLIT: u64 = 0x8000_0000;
const FOUR_GIB: u64 = 1 << 32;
const HANDOFF: u16 = 1;
const HANDOFF_BYTES: usize = 56;
const RESOURCE_DESCRIPTOR: u16 = 3;
const RESOURCE_BYTES: usize = 48;
const END_BYTES: usize = 8;
/// Resource types.
const SYSTEM_MEMORY: u32 = 0;
const UNACCEPTED: u32 = 7;
/// Resource attributes.
const PRESENT_INITIALIZED_TESTED: u32 = 7;
