//! What is plugged into the machine of a guest.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use attest::Profile;
use predict::acpi::{Qemu, Shape};
use predict::qemu::{MachineSize, launched_shape};

/// What is plugged into a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Devices {
    /// A disk, vsock and a serial port.
    Guest,
    /// The same and a TPM: a simulated guest.
    GuestWithTpm,
    /// The same as [`Devices::Guest`], and one H100 alone behind a root port in slot 4.
    GuestWithH100,
}

/// No list of devices that a guest can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is no list of devices: guest, guest-with-tpm or guest-with-1-h100{why}")]
pub struct DevicesError {
    /// What was asked for, its beginning.
    pub got: String,
    /// Why there is no such machine, where somebody could think that there is.
    pub why: &'static str,
}

impl Devices {
    /// What was not compared of such machines, if something was not.
    pub fn not_compared(self) -> Option<&'static str> {
        (self == Devices::GuestWithH100).then_some(
            "no passed-through GPU was compared: the tables are those of QEMU for stand-ins with BARs of an H100's size",
        )
    }

    /// The machine as its tables show it.
    pub(super) fn shape(self, size: MachineSize, qemu: Qemu) -> Shape {
        let profile = match self {
            Devices::Guest => Profile::Cpu,
            Devices::GuestWithTpm => Profile::Sim,
            Devices::GuestWithH100 => Profile::H100,
        };
        launched_shape(profile, size, qemu)
    }
}

impl std::fmt::Display for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Devices::Guest => "guest",
            Devices::GuestWithTpm => "guest-with-tpm",
            Devices::GuestWithH100 => "guest-with-1-h100",
        })
    }
}

impl FromStr for Devices {
    type Err = DevicesError;

    fn from_str(text: &str) -> Result<Devices, DevicesError> {
        let all = [
            Devices::Guest,
            Devices::GuestWithTpm,
            Devices::GuestWithH100,
        ];
        let known = all.into_iter().find(|known| known.to_string() == text);
        known.ok_or_else(|| DevicesError {
            got: text.chars().take(NAME_CHARACTERS_MAX).collect(),
            why: no_machine(text),
        })
    }
}

/// NVIDIA's release notes of R550 for Hopper: one GPU for each guest in single mode, or all eight of a board with its NVSwitches.
fn no_machine(devices: &str) -> &'static str {
    let gpus = devices.strip_prefix("guest-with-");
    match gpus.and_then(|rest| rest.strip_suffix("-h100")) {
        Some("2" | "3" | "4" | "5" | "6" | "7") => {
            ". With driver 550 a guest in confidential mode has one H100, or all eight of a board"
        }
        Some("8") => {
            ". Eight H100 in confidential mode are Protected PCIe: four NVSwitches, the fabric manager and NSCQ belong to the guest, \
             and no recipe builds it yet"
        }
        _ => "",
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

const NAME_CHARACTERS_MAX: usize = 40;
