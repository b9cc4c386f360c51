//! The ISA bridge: the registers of the interrupt links, and the old devices behind it.

use super::super::{
    Qemu,
    aml::*,
    resources::{io, irq, irq_level, resources},
    shape::{Serial, Shape},
};

/// What it holds besides its address.
pub fn bridge(shape: &Shape) -> Vec<Aml> {
    let registers = [
        ("PRQA", 8),
        ("PRQB", 8),
        ("PRQC", 8),
        ("PRQD", 8),
        ("", 32),
        ("PRQE", 8),
        ("PRQF", 8),
        ("PRQG", 8),
        ("PRQH", 8),
    ];
    let mut inside = vec![
        region("PIRQ", Space::PciConfig, int(0x60), 12),
        scope("\\_SB", [field("PCI0.SF8.PIRQ", BYTES, &registers)]),
    ];
    // QEMU lists the newest device first.
    inside.extend(match shape.serial {
        Serial::Absent => vec![keyboard(), mouse(), clock()],
        Serial::Board => vec![keyboard(), mouse(), serial(shape.qemu), clock()],
        Serial::Added => vec![serial(shape.qemu), keyboard(), mouse(), clock()],
    });
    inside
}

fn keyboard() -> Aml {
    device(
        "KBD",
        [
            name("_HID", eisa("PNP0303")),
            name("_STA", int(0xf)),
            name("_CRS", resources([io(0x60, 1, 1), io(0x64, 1, 1), irq(1)])),
        ],
    )
}

fn mouse() -> Aml {
    device(
        "MOU",
        [
            name("_HID", eisa("PNP0F13")),
            name("_STA", int(0xf)),
            name("_CRS", resources([irq(12)])),
        ],
    )
}

fn serial(qemu: Qemu) -> Aml {
    let interrupt = match qemu {
        Qemu::V9_2_1 | Qemu::V10_0_13 | Qemu::V10_1_0 | Qemu::V10_2_1 => irq(4),
        Qemu::V11_1_3 => irq_level(4),
    };
    device(
        "COM1",
        [
            name("_HID", eisa("PNP0501")),
            name("_UID", int(1)),
            name("_STA", int(0xf)),
            name("_CRS", resources([io(0x3f8, 0, 8), interrupt])),
        ],
    )
}

fn clock() -> Aml {
    device(
        "RTC",
        [
            name("_HID", eisa("PNP0B00")),
            name("_CRS", resources([io(0x70, 1, 8), irq(8)])),
        ],
    )
}
