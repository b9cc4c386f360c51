//! The devices of the root bus, by their slots, and what stands beside the bus.

use super::super::{aml::*, shape::Shape};
use super::{hotplug, isa, tpm};

/// Host bridge, the machine's devices, and the chipset's functions in slot 31: ISA bridge, SATA, SMBus.
pub fn root_bus(shape: &Shape) -> Aml {
    let mut bus = vec![function(0, 0, [])];
    bus.extend(shape.devices().into_iter().map(|(place, slot)| {
        let plugged = slot.is_plugged();
        let mut inside = Vec::new();
        if plugged {
            inside.push(function(0, 0, []));
        }
        if slot.is_port() && shape.pci_hotplug {
            inside.push(hotplug::port(shape, place, plugged));
        }
        function(place.0, place.1, inside)
    }));
    bus.push(function(31, 0, isa::bridge(shape)));
    bus.extend([function(31, 2, []), function(31, 3, [])]);
    let mut body = vec![scope("PCI0", bus)];
    if shape.tpm {
        body.push(tpm::crb());
    }
    scope("\\_SB", body)
}

/// The name of a function of a slot.
pub fn place_name((slot, function): (u8, u8)) -> String {
    function_name(slot, function)
}

fn function(slot: u8, function: u8, inside: impl IntoIterator<Item = Aml>) -> Aml {
    let address = name("_ADR", int(u64::from(slot) << 16 | u64::from(function)));
    device(&function_name(slot, function), [address, terms(inside)])
}

fn function_name(slot: u8, function: u8) -> String {
    format!("S{:02X}", slot << 3 | function)
}
