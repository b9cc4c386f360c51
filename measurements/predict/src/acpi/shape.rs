//! A machine, as far as its ACPI tables show it, and which machines this generator vouches for.

use std::collections::BTreeMap;

use super::{Qemu, family};

/// A q35 machine of QEMU that OVMF has set up. What is not here (the CPU's features, the machine type's version from 8.2
/// on, what stands behind a device) changes no table. Nor is here what would add tables or parts of them: more sockets or
/// threads, NUMA nodes, IOMMUs, memory hotplug, further host bridges, a VM generation ID, devices with code for ACPI of
/// their own. A machine that has them has no shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Whose tables.
    pub qemu: Qemu,
    /// Processors at the start; all in one socket, one thread a core, as `-smp N` makes them.
    pub vcpus: u32,
    /// Processors that there can be.
    pub vcpus_max: u32,
    /// Memory.
    pub memory_mib: u64,
    /// `hpet=on`, which is QEMU's default.
    pub hpet: bool,
    /// `smm=on`.
    pub smm: bool,
    /// `pic=on`.
    pub pic: bool,
    /// `ICH9-LPC.acpi-pci-hotplug-with-bridge-support`, on by default.
    pub pci_hotplug: bool,
    /// The first serial port.
    pub serial: Serial,
    /// `-device tpm-crb`.
    pub tpm: bool,
    /// Devices on the root bus, by slot. Root ports are created in the order of their slots.
    pub slots: BTreeMap<u8, Slot>,
    /// Ports that are functions 1 to 7 of a slot whose function 0 is in `slots`, by slot and function.
    pub functions: BTreeMap<(u8, u8), Slot>,
    /// Where the firmware puts large BARs.
    pub address_width: AddressWidth,
    /// `q35-pcihost.pci-hole64-size`.
    pub pci_hole64_gib: u64,
}

/// The first serial port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serial {
    /// None.
    Absent,
    /// `-serial`: made with the board, between mouse and clock.
    Board,
    /// `-device isa-serial`: made after the board, and listed first.
    Added,
}

/// What is in a slot of the root bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    /// A device without a 64-bit BAR.
    Plain,
    /// A virtio device, with its BAR of 16 KiB.
    Virtio,
    /// A PCI Express port with nothing behind it.
    Port,
    /// A port with a device behind it.
    PortWith {
        /// The device's largest 64-bit BAR.
        bar_gib: u64,
        /// Its other 64-bit BARs together, all of them prefetchable.
        more_mib: u64,
    },
    /// A port with a passed-through device behind it, whose BARs are not known: at most eight of a machine's have up to
    /// 256 GiB, the others fit into what OVMF keeps for a port. The PCI hole is longer than all of them together.
    PortWithPassed {
        /// The port's `pref64-reserve`, or 0.
        reserved_gib: u64,
    },
}

impl Slot {
    pub(super) fn is_port(self) -> bool {
        matches!(self, Slot::Port) || self.is_plugged()
    }

    /// Whether something is behind a port.
    pub(super) fn is_plugged(self) -> bool {
        matches!(self, Slot::PortWith { .. } | Slot::PortWithPassed { .. })
    }
}

/// The width of addresses that OVMF reckons with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressWidth {
    /// A processor without pages of 1 GiB: OVMF takes 40 bits, whatever the processor says.
    Bits40,
    /// 46 bits or more, with pages of 1 GiB: OVMF takes 46.
    Bits46,
}

impl Shape {
    /// A machine without devices that is otherwise as QEMU makes it by default.
    pub fn new(qemu: Qemu, vcpus: u32, memory_mib: u64) -> Shape {
        Shape {
            qemu,
            vcpus,
            vcpus_max: vcpus,
            memory_mib,
            hpet: true,
            smm: true,
            pic: true,
            pci_hotplug: true,
            serial: Serial::Absent,
            tpm: false,
            slots: BTreeMap::new(),
            functions: BTreeMap::new(),
            address_width: AddressWidth::Bits46,
            pci_hole64_gib: 32,
        }
    }

    /// All devices of the root bus by slot and function, in order.
    pub(super) fn devices(&self) -> BTreeMap<(u8, u8), Slot> {
        let first = self
            .slots
            .iter()
            .map(|(slot, device)| ((*slot, 0), *device));
        let further = self
            .functions
            .iter()
            .map(|(place, device)| (*place, *device));
        first.chain(further).collect()
    }

    /// The ports' slots and functions, in order.
    pub(super) fn ports(&self) -> Vec<(u8, u8)> {
        let devices = self.devices().into_iter();
        let ports = devices.filter(|(_, slot)| slot.is_port());
        ports.map(|(place, _)| place).collect()
    }

    /// Memory that a port with a device behind it keeps, where one says so.
    pub(super) fn reserves(&self) -> bool {
        let reserves = |slot: &Slot| matches!(slot, Slot::PortWithPassed { reserved_gib } if *reserved_gib != 0);
        self.devices().values().any(reserves)
    }

    /// Whether this machine lies among those whose tables were compared with QEMU's own. The limits are the largest and the
    /// smallest that were; `measurements/predict/tests/it/acpi.rs` has them all.
    pub(super) fn check(&self) -> Result<(), AcpiError> {
        self.possible()?;
        family::check(self)?;
        let ports = self.ports().len();
        let narrow = self.address_width == AddressWidth::Bits40;
        let devices = self.slots.values().any(|slot| slot.is_plugged());
        let more = |max: u64, least_gib: u64| {
            self.slots.values().any(|slot| match slot {
                Slot::PortWith { bar_gib, more_mib } => *more_mib > max && *bar_gib < least_gib,
                Slot::Plain | Slot::Virtio | Slot::Port | Slot::PortWithPassed { .. } => false,
            })
        };
        let unproven = [
            (
                !self.is_only_machine_of_its_version(),
                "this version of QEMU, of which one other machine was compared,",
            ),
            (self.vcpus_max > VCPUS_MAX, "more than 200 processors"),
            (
                self.memory_mib < MEMORY_MIB_MIN,
                "less than 512 MiB of memory",
            ),
            (
                self.memory_mib > MEMORY_MIB_MAX,
                "more than 512 GiB of memory",
            ),
            (
                self.pci_hole64_gib > PCI_HOLE64_GIB_MAX,
                "a PCI hole of more than 16 TiB",
            ),
            (
                ports > PORTS_MAX && self.qemu != Qemu::V10_1_0,
                "more than eight root ports",
            ),
            (
                more(BARS_MORE_MIB_MAX, u64::MAX),
                "more than 48 MiB of further BARs behind a port",
            ),
            (
                more(0, BAR_GIB_WITH_MORE_MIN),
                "further BARs beside one of less than 64 GiB",
            ),
            // What does not fit into the narrow window goes elsewhere, in ways that were not seen.
            (
                devices && narrow,
                "a device behind a port, and narrow addresses",
            ),
        ];
        match unproven.into_iter().find(|(applies, _)| *applies) {
            Some((_, what)) => Err(AcpiError::Unproven(what)),
            None => Ok(()),
        }
    }

    /// Where nothing is plugged in, the width of addresses is in no table.
    fn is_only_machine_of_its_version(&self) -> bool {
        self.qemu.only_machine().is_none_or(|only| {
            let address_width = match self.slots.is_empty() {
                true => only.address_width,
                false => self.address_width,
            };
            let seen = Shape {
                address_width,
                ..self.clone()
            };
            seen == only
        })
    }

    fn possible(&self) -> Result<(), AcpiError> {
        let taken = |number: &u8| !(1..=30).contains(number);
        let odd = |slot: &Slot| match slot {
            Slot::PortWith { bar_gib, .. } => !bar_gib.is_power_of_two() || *bar_gib > BAR_GIB_MAX,
            Slot::Plain | Slot::Virtio | Slot::Port | Slot::PortWithPassed { .. } => false,
        };
        let impossible = [
            (self.vcpus == 0, "no processor"),
            (
                self.vcpus > self.vcpus_max,
                "more processors than there can be",
            ),
            (self.slots.keys().any(taken), "a slot other than 1 to 30"),
            (
                self.slots.values().any(odd),
                "a BAR that is no power of two up to 256 GiB",
            ),
            (self.pci_hole64_gib == 0, "no PCI hole"),
            (
                self.functions
                    .keys()
                    .any(|(_, function)| !(1..=7).contains(function)),
                "a function other than 0 to 7",
            ),
            (
                self.functions
                    .keys()
                    .any(|(slot, _)| !self.slots.contains_key(slot)),
                "a slot that has no function 0",
            ),
            (
                !self.functions.values().all(|device| device.is_port()),
                "a further function of a slot that is no port",
            ),
        ];
        match impossible.into_iter().find(|(applies, _)| *applies) {
            Some((_, what)) => Err(AcpiError::Impossible(what)),
            None => Ok(()),
        }
    }
}

/// Why there are no tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum AcpiError {
    #[error(
        "the ACPI tables of a machine with {0} were never compared with QEMU's; read them from QEMU"
    )]
    Unproven(&'static str),
    #[error(
        "the ACPI tables of QEMU {got:?} were never compared; those of 9.2.1, 10.0.13, 10.1.0, 10.2.1 and 11.1.3 were"
    )]
    Version { got: String },
    #[error("there is no machine with {0}")]
    Impossible(&'static str),
}

const VCPUS_MAX: u32 = 200;
const MEMORY_MIB_MIN: u64 = 512;
const MEMORY_MIB_MAX: u64 = 512 * 1024;
const PCI_HOLE64_GIB_MAX: u64 = 16 * 1024;
const PORTS_MAX: usize = 8;
const BAR_GIB_MAX: u64 = 256;
const BARS_MORE_MIB_MAX: u64 = 48;
const BAR_GIB_WITH_MORE_MIN: u64 = 64;
