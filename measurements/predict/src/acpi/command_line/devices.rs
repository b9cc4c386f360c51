//! PCI devices: which slot of the root bus each takes, and what is behind a port.

use std::collections::BTreeMap;

use super::super::size::{self, GIB, MIB};
use super::super::{Shape, Slot};
use super::settings::Settings;
use super::{CommandLineError, setting, short};

/// What devices refer to.
#[derive(Default)]
pub struct Devices {
    /// Ports by name.
    ports: BTreeMap<String, u8>,
    /// Memory by name, in bytes.
    memory: BTreeMap<String, u64>,
}

impl Devices {
    /// An object of a kind that is in no table. Memory has a size, which a device's BAR may be.
    pub fn object(&mut self, value: &str) -> Result<(), CommandLineError> {
        // The one object that QEMU's own examples write as JSON.
        if let Ok(object) = serde_json::from_str::<serde_json::Value>(value)
            && object["qom-type"] == "tdx-guest"
        {
            return Ok(());
        }
        let mut settings = Settings::read("-object", value)?;
        let kind = settings.head_or("qom-type")?;
        if !OBJECTS.contains(&kind.as_str()) {
            return Err(setting("-object", &kind));
        }
        if let (Some(id), Some(bytes)) = (settings.take("id")?, settings.take("size")?) {
            let bytes = size::bytes(&bytes, 1).ok_or_else(|| setting("-object", &bytes))?;
            self.memory.insert(id, bytes);
        }
        Ok(())
    }

    /// A PCI device.
    pub fn pci(
        &mut self,
        shape: &mut Shape,
        kind: &str,
        mut settings: Settings,
    ) -> Result<(), CommandLineError> {
        let id = settings.take("id")?;
        let bus = settings.take("bus")?;
        let bus = bus.filter(|bus| bus != ROOT_BUS);
        let slot = match kind {
            "pci-testdev" | "nvme" => {
                let behind = self.behind_port(kind, &mut settings)?;
                return self.plug(shape, kind, bus.as_deref(), behind);
            }
            "pcie-root-port" => {
                settings.only(&["chassis", "addr"])?;
                Slot::Port
            }
            "e1000" => {
                settings.only(&["netdev", "mac", "romfile", "bootindex", "addr"])?;
                Slot::Plain
            }
            _ if VIRTIO.contains(&kind) => {
                settings.only(&VIRTIO_SETTINGS)?;
                Slot::Virtio
            }
            _ => return Err(unknown(kind)),
        };
        if let Some(bus) = bus {
            return Err(unknown(&format!("{kind} on {bus}")));
        }
        let number = free_slot(shape, &mut settings)?;
        if slot == Slot::Port {
            self.add_port(id, number)?;
        }
        shape.slots.insert(number, slot);
        Ok(())
    }

    /// QEMU lists ports as they are made; the shape lists them by their slots.
    fn add_port(&mut self, id: Option<String>, number: u8) -> Result<(), CommandLineError> {
        let id = id.unwrap_or_else(|| format!("(slot {number})"));
        if self.ports.values().any(|earlier| *earlier > number) {
            return Err(unknown("pcie-root-port in a slot before an earlier port's"));
        }
        match self.ports.insert(id, number) {
            None => Ok(()),
            Some(_) => Err(CommandLineError::Twice {
                what: "the name of a port".into(),
            }),
        }
    }

    /// The 64-bit BARs of a device that stands in for a GPU.
    fn behind_port(&self, kind: &str, settings: &mut Settings) -> Result<Slot, CommandLineError> {
        let (bar_bytes, more_mib) = match kind {
            // One memory BAR of a size that is asked for.
            "pci-testdev" => {
                let asked = settings.take("membar")?.unwrap_or_default();
                settings.only(&["membar-backed"])?;
                let bytes = size::bytes(&asked, 1);
                (bytes.ok_or_else(|| settings.refused("membar"))?, 0)
            }
            // A memory BAR as large as its object, and a buffer.
            _ => {
                let memory = settings.take("pmrdev")?.unwrap_or_default();
                let buffer = settings.take("cmb_size_mb")?.unwrap_or_default();
                settings.only(&["serial"])?;
                let bytes = self.memory.get(&memory).copied();
                let bytes = bytes.ok_or_else(|| settings.refused("pmrdev"))?;
                let buffer = buffer.parse::<u64>();
                (bytes, buffer.map_err(|_| settings.refused("cmb_size_mb"))?)
            }
        };
        match bar_bytes.is_multiple_of(GIB) {
            true => Ok(Slot::PortWith {
                bar_gib: bar_bytes / GIB,
                more_mib,
            }),
            false => Err(settings.refused(&format!("a BAR of {} MiB", bar_bytes / MIB))),
        }
    }

    fn plug(
        &self,
        shape: &mut Shape,
        kind: &str,
        bus: Option<&str>,
        device: Slot,
    ) -> Result<(), CommandLineError> {
        let port = bus.and_then(|bus| self.ports.get(bus));
        let behind = port.and_then(|port| shape.slots.get_mut(port));
        match behind {
            Some(port @ Slot::Port) => {
                *port = device;
                Ok(())
            }
            _ => Err(unknown(&format!("{kind} on {}", bus.unwrap_or(ROOT_BUS)))),
        }
    }
}

/// The slot that is asked for, or the first that is free. Slot 0 is the host bridge's, slot 31 the chipset's.
fn free_slot(shape: &Shape, settings: &mut Settings) -> Result<u8, CommandLineError> {
    let free = |slot: &u8| !shape.slots.contains_key(slot);
    let asked = settings.take("addr")?;
    let slot = match &asked {
        Some(address) => {
            // With or without a function, which must be the first.
            let digits = address.strip_suffix(".0").unwrap_or(address);
            let digits = digits.strip_prefix("0x").unwrap_or(digits);
            u8::from_str_radix(digits, 16).ok().filter(free)
        }
        None => (1..=30).find(free),
    };
    let slot = slot.filter(|slot| (1..=30).contains(slot));
    slot.ok_or_else(|| settings.refused(&format!("addr={}", asked.unwrap_or_default())))
}

fn unknown(device: &str) -> CommandLineError {
    CommandLineError::Device {
        device: short(device),
    }
}

const ROOT_BUS: &str = "pcie.0";

/// Objects that are in no table.
const OBJECTS: [&str; 7] = [
    "memory-backend-ram",
    "memory-backend-memfd",
    "memory-backend-file",
    "rng-random",
    "rng-builtin",
    "iothread",
    "tdx-guest",
];

/// Virtio devices with one 64-bit BAR of 16 KiB and nothing of their own in ACPI.
const VIRTIO: [&str; 8] = [
    "virtio-blk-pci",
    "virtio-net-pci",
    "virtio-serial-pci",
    "virtio-scsi-pci",
    "virtio-rng-pci",
    "virtio-balloon-pci",
    "vhost-vsock-pci",
    "vhost-user-vsock-pci",
];

/// What may be set of them: what stands behind, and how it is driven.
const VIRTIO_SETTINGS: [&str; 25] = [
    "addr",
    "drive",
    "netdev",
    "chardev",
    "rng",
    "mac",
    "serial",
    "guest-cid",
    "romfile",
    "disable-legacy",
    "iommu_platform",
    "bootindex",
    "queues",
    "num-queues",
    "queue-size",
    "mq",
    "iothread",
    "packed",
    "share-rw",
    "write-cache",
    "config-wce",
    "max-bytes",
    "period",
    "free-page-reporting",
    "max_ports",
];
