//! Which addresses the root bus passes on: what is left below 4 GiB, and where OVMF puts 64-bit BARs.

use super::family::RESERVING_ALIGNMENT;
use super::shape::{AddressWidth, Shape, Slot};

/// First and last address of a range.
pub type Range = (u64, u64);

/// The memory-mapped configuration of all 256 buses, as OVMF sets it up.
pub const CONFIGURATION: Range = (0xe000_0000, 0xefff_ffff);

/// Memory below 4 GiB. QEMU's `hw/i386/pc_q35.c`: with 2.75 GiB or more, only 2 GiB stay below.
pub fn memory_below_4g(shape: &Shape) -> u64 {
    let memory = shape.memory_mib * MIB;
    if memory >= 0xb000_0000 {
        2 * GIB
    } else {
        memory
    }
}

/// The window above 4 GiB: from the lowest 64-bit BAR, or where memory ends; at least as long as QEMU's option says.
/// QEMU's `hw/pci-host/q35.c`.
pub fn above_4g(shape: &Shape) -> Range {
    let memory_end = 4 * GIB + shape.memory_mib * MIB - memory_below_4g(shape);
    let bars = bars(shape);
    let first = match bars {
        Some(_) if shape.reserves() => memory_end.next_multiple_of(RESERVING_ALIGNMENT),
        Some((first, _)) => first,
        None => memory_end.next_multiple_of(GIB),
    };
    let least = (first + shape.pci_hole64_gib * GIB).next_multiple_of(GIB) - 1;
    match bars {
        Some((_, last)) if !shape.reserves() => (first, last.max(least)),
        _ => (first, least),
    }
}

/// The 64-bit BARs of the root bus. edk2's resource allocator places them one after another, those with the largest
/// alignment first. A BAR is aligned to its size, a port's window to the largest BAR behind it.
fn bars(shape: &Shape) -> Option<Range> {
    let (base, port) = match shape.address_width {
        AddressWidth::Bits40 => (0xc0_0000_0000, GIB / 2),
        AddressWidth::Bits46 => (0x3800_0000_0000, 32 * GIB),
    };
    let devices = shape.devices();
    let placed = devices.values().filter_map(|slot| match slot {
        Slot::Plain => None,
        Slot::Virtio => Some((VIRTIO_BAR_BYTES, VIRTIO_BAR_BYTES)),
        // OVMF keeps this much for what may be plugged into a port.
        Slot::Port | Slot::PortWithPassed { .. } => Some((port, port)),
        Slot::PortWith { bar_gib, more_mib } => {
            let bar = bar_gib * GIB;
            Some((bar.max(port), port.max(bar + more_mib * MIB)))
        }
    });
    let mut placed: Vec<(u64, u64)> = placed.collect();
    placed.sort_unstable_by(|left, right| right.cmp(left));
    let place =
        |end: u64, (alignment, bytes): &(u64, u64)| end.next_multiple_of(*alignment) + bytes;
    let end = placed.iter().fold(base, place);
    (!placed.is_empty()).then_some((base, end - 1))
}

const MIB: u64 = 1 << 20;
/// A GiB in bytes.
pub const GIB: u64 = 1 << 30;
const VIRTIO_BAR_BYTES: u64 = 16 << 10;
