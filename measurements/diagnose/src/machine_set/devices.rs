//! What is plugged into the machine of a guest.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use predict::acpi::{Qemu, Shape, Slot};
use predict::qemu::{MachineSize, guest_shape};

/// What is plugged into a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Devices {
    /// A disk, vsock and a serial port.
    Guest,
    /// The same and a TPM: a simulated guest.
    GuestWithTpm,
    /// The same as [`Devices::Guest`], and H100 GPUs.
    GuestWithH100(Gpus),
}

/// How many GPUs a machine has: one to eight, each alone behind a root port, in slots 4 to 11.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gpus(u8);

/// No list of devices.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{got:?} is no list of devices: guest, guest-with-tpm, guest-with-1-h100 to guest-with-8-h100"
)]
pub struct DevicesError {
    /// What was asked for, its beginning.
    pub got: String,
}

impl Devices {
    /// What was not compared of such machines, if something was not.
    pub fn not_compared(self) -> Option<&'static str> {
        matches!(self, Devices::GuestWithH100(_)).then_some(
            "no passed-through GPU was compared: the tables are those of QEMU for stand-ins with BARs of an H100's size",
        )
    }

    /// The machine as its tables show it.
    pub(super) fn shape(self, size: MachineSize, qemu: Qemu) -> Shape {
        let mut shape = guest_shape(size, qemu, self == Devices::GuestWithTpm);
        if let Devices::GuestWithH100(gpus) = self {
            let slots = (GPU_SLOT_FIRST..).take(gpus.count().into());
            shape.slots.extend(slots.map(|slot| (slot, H100)));
        }
        shape
    }
}

impl Gpus {
    /// So many GPUs, if machines with so many were compared.
    pub fn new(count: u8) -> Option<Gpus> {
        (1..=GPUS_MAX).contains(&count).then_some(Gpus(count))
    }

    /// How many.
    pub fn count(self) -> u8 {
        self.0
    }
}

impl std::fmt::Display for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Devices::Guest => f.write_str("guest"),
            Devices::GuestWithTpm => f.write_str("guest-with-tpm"),
            Devices::GuestWithH100(gpus) => write!(f, "guest-with-{}-h100", gpus.count()),
        }
    }
}

impl FromStr for Devices {
    type Err = DevicesError;

    fn from_str(text: &str) -> Result<Devices, DevicesError> {
        let gpus = (1..=GPUS_MAX).map(|count| Devices::GuestWithH100(Gpus(count)));
        let mut all = [Devices::Guest, Devices::GuestWithTpm]
            .into_iter()
            .chain(gpus);
        let known = all.find(|devices| devices.to_string() == text);
        known.ok_or_else(|| DevicesError {
            got: text.chars().take(NAME_CHARACTERS_MAX).collect(),
        })
    }
}

impl TryFrom<String> for Devices {
    type Error = DevicesError;

    fn try_from(text: String) -> Result<Devices, DevicesError> {
        text.parse()
    }
}

impl From<Devices> for String {
    fn from(devices: Devices) -> String {
        devices.to_string()
    }
}

/// The BARs of an H100, all of them 64-bit and prefetchable: 128 GiB, 32 MiB and 16 MiB. Its SR-IOV BARs are none: QEMU's
/// `hw/vfio/pci.c` hides that capability from the guest.
const H100: Slot = Slot::PortWith {
    bar_gib: 128,
    more_mib: 48,
};
const GPU_SLOT_FIRST: u8 = 4;
const GPUS_MAX: u8 = 8;
const NAME_CHARACTERS_MAX: usize = 40;
