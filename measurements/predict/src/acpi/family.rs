//! The production machines of QEMU 10.1.0, and what only they may have: ports as functions of one slot, and passed-through
//! devices behind them.
//!
//! Seven of them were compared, with no, one, eight and twelve such devices. What all have in common is the rule's edge;
//! processors, memory and devices vary as the seven show. Tables of the same parts were compared of other versions too.

use super::shape::{AcpiError, AddressWidth, Serial, Shape, Slot};
use super::{Qemu, windows::GIB};

/// Where the root bus begins if a port reserves memory: OVMF puts its window behind memory, aligned to this.
pub const RESERVING_ALIGNMENT: u64 = 256 * GIB;

/// Whether the machine has what the seven have, or, of another version, nothing that only they have.
pub fn check(shape: &Shape) -> Result<(), AcpiError> {
    let unproven = match shape.qemu {
        Qemu::V10_1_0 => of_the_family(shape),
        _ => elsewhere(shape),
    };
    match unproven {
        Some(what) => Err(AcpiError::Unproven(what)),
        None => Ok(()),
    }
}

fn of_the_family(shape: &Shape) -> Option<&'static str> {
    board(shape).or_else(|| devices(shape))
}

fn board(shape: &Shape) -> Option<&'static str> {
    let unproven = [
        (
            shape.vcpus_max > VCPUS_MAX,
            "QEMU 10.1.0 and more than 32 processors",
        ),
        (
            shape.vcpus != shape.vcpus_max,
            "QEMU 10.1.0 and room for more processors",
        ),
        (!shape.hpet, "QEMU 10.1.0 and hpet=off"),
        (shape.smm, "QEMU 10.1.0 and smm=on"),
        (shape.pic, "QEMU 10.1.0 and pic=on"),
        (
            !shape.pci_hotplug,
            "QEMU 10.1.0 and no hotplug of PCI devices",
        ),
        (
            shape.serial != Serial::Absent,
            "QEMU 10.1.0 and a serial port",
        ),
        (shape.tpm, "QEMU 10.1.0 and a TPM"),
        (
            shape.address_width != AddressWidth::Bits46,
            "QEMU 10.1.0 and narrow addresses",
        ),
        (
            shape.pci_hole64_gib != PCI_HOLE64_GIB,
            "QEMU 10.1.0 and a PCI hole other than 4096 GiB",
        ),
    ];
    first(&unproven)
}

fn devices(shape: &Shape) -> Option<&'static str> {
    let devices = shape.devices();
    let ports = shape.ports().len();
    let passed = |slot: &&Slot| matches!(slot, Slot::PortWithPassed { .. });
    let all_passed = devices.values().filter(passed).count() == ports;
    let reserved = |slot: &Slot| match slot {
        Slot::PortWithPassed { reserved_gib } => ![0, RESERVED_GIB].contains(reserved_gib),
        Slot::Plain | Slot::Virtio | Slot::Port | Slot::PortWith { .. } => false,
    };
    let unproven = [
        (
            !devices.values().any(|slot| *slot == Slot::Virtio),
            "QEMU 10.1.0 and no virtio device",
        ),
        (
            !all_passed,
            "QEMU 10.1.0 and a port without a passed-through device",
        ),
        (
            ports > PORTS_MAX,
            "QEMU 10.1.0 and more than twelve root ports",
        ),
        (
            devices.values().any(reserved),
            "QEMU 10.1.0 and a port's reserve other than 512 GiB",
        ),
        (
            shape.reserves() && ports > 1,
            "a port's reserve and further root ports",
        ),
        // OVMF's window was seen at 256 GiB and nowhere else.
        (
            shape.reserves() && shape.memory_mib > MEMORY_BELOW_RESERVE_MIB_MAX,
            "a port's reserve and more than 254 GiB of memory",
        ),
        (
            !shape.reserves() && ports == 1,
            "QEMU 10.1.0 and one root port without a reserve of 512 GiB",
        ),
    ];
    first(&unproven)
}

fn elsewhere(shape: &Shape) -> Option<&'static str> {
    let passed = |slot: &Slot| matches!(slot, Slot::PortWithPassed { .. });
    let unproven = [
        (
            shape.devices().values().any(passed),
            "a passed-through device and a QEMU other than 10.1.0",
        ),
        (
            !shape.functions.is_empty(),
            "ports as functions of one slot and a QEMU other than 10.1.0",
        ),
    ];
    first(&unproven)
}

fn first(unproven: &[(bool, &'static str)]) -> Option<&'static str> {
    let found = unproven.iter().find(|(applies, _)| *applies);
    found.map(|(_, what)| *what)
}

const VCPUS_MAX: u32 = 32;
const PORTS_MAX: usize = 12;
const PCI_HOLE64_GIB: u64 = 4096;
const RESERVED_GIB: u64 = 512;
/// What ends at 256 GiB: 2 GiB of it are below 4 GiB.
const MEMORY_BELOW_RESERVE_MIB_MAX: u64 = 254 * 1024;
