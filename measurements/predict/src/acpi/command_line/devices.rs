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
    ports: BTreeMap<String, (u8, u8)>,
    /// What a port keeps for devices behind it, in GiB.
    reserved: BTreeMap<(u8, u8), u64>,
    /// Slots of several functions.
    several: Vec<u8>,
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
            // What it shows in its BARs is the host's; only a machine whose tables do not depend on that has a shape.
            "vfio-pci" => {
                settings.only(&["host", "iommufd", "rombar", "romfile"])?;
                let behind = Slot::PortWithPassed { reserved_gib: 0 };
                return self.plug(shape, kind, bus.as_deref(), behind);
            }
            "pci-testdev" | "nvme" => {
                let behind = self.behind_port(kind, &mut settings)?;
                return self.plug(shape, kind, bus.as_deref(), behind);
            }
            "pcie-root-port" if bus.is_none() => return self.port(shape, id, settings),
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
        let number = match place(shape, &mut settings)? {
            (number, 0) => number,
            (number, function) => {
                return Err(settings.refused(&format!("addr={number:#x}.{function}")));
            }
        };
        shape.slots.insert(number, slot);
        Ok(())
    }

    /// A root port. As further function of a slot, it needs a first that says that there are more.
    fn port(
        &mut self,
        shape: &mut Shape,
        id: Option<String>,
        mut settings: Settings,
    ) -> Result<(), CommandLineError> {
        let reserved = match settings.take("pref64-reserve")? {
            None => None,
            Some(text) => match size::whole(&text, 1, GIB) {
                Some(gib @ 1..) => Some(gib),
                _ => return Err(settings.refused(&format!("pref64-reserve={text}"))),
            },
        };
        let several = settings.switch("multifunction", &["on", "off"])?;
        settings.only(&["chassis", "slot", "port", "addr"])?;
        let (slot, function) = place(shape, &mut settings)?;
        if function == 0 {
            self.add_port(id, (slot, 0))?;
            shape.slots.insert(slot, Slot::Port);
            self.several
                .extend(several.filter(|set| set == "on").map(|_| slot));
        } else {
            if !self.several.contains(&slot) {
                return Err(settings.refused(&format!("addr={slot:#x}.{function}")));
            }
            self.add_port(id, (slot, function))?;
            shape.functions.insert((slot, function), Slot::Port);
        }
        self.reserved
            .extend(reserved.map(|gib| ((slot, function), gib)));
        Ok(())
    }

    /// That every reserve is that of a port with a device that is passed through.
    pub fn check(&self, shape: &Shape) -> Result<(), CommandLineError> {
        let devices = shape.devices();
        let unused =
            |place: &&(u8, u8)| !matches!(devices.get(place), Some(Slot::PortWithPassed { .. }));
        match self.reserved.keys().find(unused) {
            Some(_) => Err(unknown(
                "pcie-root-port with pref64-reserve and no vfio-pci behind it",
            )),
            None => Ok(()),
        }
    }

    /// QEMU lists ports as they are made; the shape lists them by their slots.
    fn add_port(&mut self, id: Option<String>, place: (u8, u8)) -> Result<(), CommandLineError> {
        let id = id.unwrap_or_else(|| format!("(slot {}.{})", place.0, place.1));
        if self.ports.values().any(|earlier| *earlier > place) {
            return Err(unknown("pcie-root-port in a slot before an earlier port's"));
        }
        match self.ports.insert(id, place) {
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
        let behind = port.and_then(|place| match place {
            (slot, 0) => shape.slots.get_mut(slot),
            place => shape.functions.get_mut(place),
        });
        match behind {
            Some(behind @ Slot::Port) => {
                let reserved = port.and_then(|place| self.reserved.get(place));
                *behind = match (device, reserved) {
                    (Slot::PortWithPassed { .. }, Some(gib)) => {
                        Slot::PortWithPassed { reserved_gib: *gib }
                    }
                    (device, _) => device,
                };
                Ok(())
            }
            _ => Err(unknown(&format!("{kind} on {}", bus.unwrap_or(ROOT_BUS)))),
        }
    }
}

/// Slot and function that are asked for, or the first slot that is free. Slot 0 is the host bridge's, slot 31 the chipset's.
fn place(shape: &Shape, settings: &mut Settings) -> Result<(u8, u8), CommandLineError> {
    let free = |slot: &u8| !shape.slots.contains_key(slot);
    let devices = shape.devices();
    let asked = settings.take("addr")?;
    let slot = match &asked {
        Some(address) => {
            let (slot, function) = address.split_once('.').unwrap_or((address, "0"));
            let digits = slot.strip_prefix("0x").unwrap_or(slot);
            let function = function.parse().ok().filter(|function| *function <= 7);
            u8::from_str_radix(digits, 16).ok().zip(function)
        }
        None => (1..=30).find(free).map(|slot| (slot, 0)),
    };
    let slot = slot.filter(|(slot, _)| (1..=30).contains(slot));
    let slot = slot.filter(|place| !devices.contains_key(place));
    slot.ok_or_else(|| settings.refused(&format!("addr={}", asked.unwrap_or_default())))
}

fn unknown(device: &str) -> CommandLineError {
    CommandLineError::Device {
        device: short(device),
    }
}

const ROOT_BUS: &str = "pcie.0";

/// Objects that are in no table.
const OBJECTS: [&str; 8] = [
    "memory-backend-ram",
    "memory-backend-memfd",
    "memory-backend-file",
    "rng-random",
    "rng-builtin",
    "iommufd",
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
