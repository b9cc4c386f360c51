//! The DSDT: what the system can call, part by part, in QEMU's order.

mod board;
mod cpus;
mod hotplug;
mod interrupts;
mod isa;
mod slots;
mod tpm;

use super::{aml::Aml, shape::Shape};

/// Its body.
pub fn dsdt(shape: &Shape) -> Aml {
    let mut parts = vec![board::debug_port(), board::host_bridge(shape)];
    if shape.pci_hotplug {
        parts.push(hotplug::registers());
    }
    parts.extend(interrupts::routing());
    if shape.hpet {
        parts.push(board::hpet());
    }
    parts.extend([
        board::general_events(),
        cpus::processors(shape),
        cpus::changed(),
        board::windows(shape),
        board::sleep_states(),
        board::configuration_port(),
        slots::root_bus(shape),
    ]);
    if shape.pci_hotplug {
        parts.extend(hotplug::changed(shape));
    }
    parts.concat()
}
