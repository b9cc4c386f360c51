//! From a PCI device's interrupt pin to an interrupt: over eight programmable links (with the old controller), or
//! over eight fixed lines (with the I/O APIC).

use super::super::{
    aml::*,
    resources::{interrupts, resources},
};

/// The mode, the two routing tables, and what they name.
pub fn routing() -> [Aml; 3] {
    let mut devices = vec![
        scope(
            "PCI0",
            [
                name("PRTP", table("LNK")),
                name("PRTA", table("GSI")),
                method(
                    "_PRT",
                    0,
                    [
                        when(equal(path("PICF"), int(0)), [ret(path("PRTP"))]),
                        otherwise([ret(path("PRTA"))]),
                    ],
                ),
            ],
        ),
        link_status(),
        link_resources(),
    ];
    devices.extend(('A'..='H').zip(0..).map(|(letter, id)| link(letter, id)));
    devices.extend(
        ('A'..='H')
            .zip(16..)
            .map(|(letter, number)| line(letter, number)),
    );
    [
        name("PICF", int(0)),
        method("_PIC", 1, [store(arg(0), path("PICF"))]),
        scope("_SB", devices),
    ]
}

/// For each slot and pin, the link or line behind it: the first 25 slots share the last four in turns, slot 30 has them in
/// order, and the chipset's own devices have the first four.
fn table(kind: &str) -> Aml {
    let rows = (0..32u64).flat_map(|slot| (0..4u64).map(move |pin| (slot, pin)));
    package(rows.map(|(slot, pin)| {
        let number = match slot {
            0..=24 => 4 + (slot + pin) % 4,
            30 => 4 + pin,
            _ => pin,
        };
        let target = format!("{kind}{}", char::from(b'A' + number as u8));
        package([int(slot << 16 | 0xffff), int(pin), path(&target), int(0)])
    }))
}

/// Whether a link's register says that it is routed.
fn link_status() -> Aml {
    let off = and(int(0x80), arg(0), none());
    method("IQST", 1, [when(off, [ret(int(9))]), ret(int(0xb))])
}

/// The interrupt that a link's register says.
fn link_resources() -> Aml {
    serialized(
        "IQCR",
        1,
        [
            name("PRR0", resources([interrupts(&[0])])),
            create_dword_field(path("PRR0"), 5, "PRRI"),
            store(and(arg(0), int(0xf), none()), path("PRRI")),
            ret(path("PRR0")),
        ],
    )
}

/// A link, with its register in the chipset.
fn link(letter: char, id: u64) -> Aml {
    let register = &format!("PRQ{letter}");
    device(
        &format!("LNK{letter}"),
        [
            name("_HID", eisa("PNP0C0F")),
            name("_UID", int(id)),
            name("_PRS", resources([interrupts(&[5, 10, 11])])),
            method("_STA", 0, [ret(call("IQST", [path(register)]))]),
            method("_DIS", 0, [or(path(register), int(0x80), path(register))]),
            method("_CRS", 0, [ret(call("IQCR", [path(register)]))]),
            method(
                "_SRS",
                1,
                [
                    create_dword_field(arg(0), 5, "PRRI"),
                    store(path("PRRI"), path(register)),
                ],
            ),
        ],
    )
}

/// A line, which nothing can change.
fn line(letter: char, number: u32) -> Aml {
    let fixed = resources([interrupts(&[number])]);
    device(
        &format!("GSI{letter}"),
        [
            name("_HID", eisa("PNP0C0F")),
            name("_UID", int(number.into())),
            name("_PRS", fixed.clone()),
            name("_CRS", fixed),
            method("_DIS", 0, []),
            method("_SRS", 1, []),
        ],
    )
}
