//! What every q35 board has.

use super::super::{
    aml::*,
    resources::{Access, Passed, dword, io, memory32_fixed, qword, resources, word},
    shape::Shape,
    windows::{CONFIGURATION, above_4g, memory_below_4g},
};

/// A method that writes to the port where firmware writes its messages.
pub fn debug_port() -> Aml {
    let next = deref(index(local(0), local(2), none()));
    scope(
        "\\",
        [
            region("DBG", Space::Io, int(0x402), 1),
            field("DBG", BYTES, &[("DBGB", 8)]),
            method(
                "DBUG",
                1,
                [
                    to_hex_string(arg(0), local(0)),
                    to_buffer(local(0), local(0)),
                    subtract(size_of(local(0)), int(1), local(1)),
                    store(int(0), local(2)),
                    repeat(
                        less(local(2), local(1)),
                        [store(next, path("DBGB")), increment(local(2))],
                    ),
                    store(int(0x0a), path("DBGB")),
                ],
            ),
        ],
    )
}

/// The host bridge, and the memory that its configuration takes.
pub fn host_bridge(shape: &Shape) -> Aml {
    let (first, last) = CONFIGURATION;
    let configuration = dword(
        Passed::Memory { cacheable: false },
        first as u32,
        last as u32,
    );
    scope(
        "_SB",
        [
            device(
                "PCI0",
                [
                    name("_HID", eisa("PNP0A08")),
                    name("_CID", eisa("PNP0A03")),
                    name("_UID", int(0)),
                    capabilities(shape),
                    device_labels(),
                ],
            ),
            device(
                "DRAC",
                [
                    name("_HID", string("PNP0C01")),
                    name("_CRS", resources([configuration])),
                ],
            ),
        ],
    )
}

/// `_OSC`: what the system may control itself. It may do PCI Express hotplug only where ACPI does none.
fn capabilities(shape: &Shape) -> Aml {
    let granted = if shape.pci_hotplug { 0x1e } else { 0x1f };
    let flag = |bit| or(path("CDW1"), int(bit), path("CDW1"));
    method(
        "_OSC",
        4,
        [
            create_dword_field(arg(3), 0, "CDW1"),
            when(
                equal(arg(0), uuid("33db4d5b-1ff7-401c-9657-7441c03dd766")),
                [
                    create_dword_field(arg(3), 4, "CDW2"),
                    create_dword_field(arg(3), 8, "CDW3"),
                    store(path("CDW3"), local(0)),
                    and(local(0), int(granted), local(0)),
                    when(not(equal(arg(1), int(1))), [flag(8)]),
                    when(not(equal(path("CDW3"), local(0))), [flag(0x10)]),
                    store(local(0), path("CDW3")),
                ],
            ),
            otherwise([flag(4)]),
            ret(arg(3)),
        ],
    )
}

/// `EDSM`: the labels of built-in devices, for a device with a number of its own.
fn device_labels() -> Aml {
    let first = |of| index(of, int(0), none());
    serialized(
        "EDSM",
        5,
        [
            when(
                equal(arg(2), int(0)),
                [
                    store(buffer(&[0]), local(0)),
                    when(not(equal(arg(0), uuid(LABELS))), [ret(local(0))]),
                    when(less(arg(1), int(2)), [ret(local(0))]),
                    store(int(0x81), first(local(0))),
                    ret(local(0)),
                ],
            ),
            when(
                equal(arg(2), int(7)),
                [
                    store(package([int(0), string("")]), local(0)),
                    store(deref(first(arg(4))), local(1)),
                    store(local(1), first(local(0))),
                    ret(local(0)),
                ],
            ),
        ],
    )
}

/// The timer; present if its registers say something sensible.
pub fn hpet() -> Aml {
    let silent = either(equal(local(0), int(0)), equal(local(0), int(0xffff)));
    let too_slow = either(equal(local(1), int(0)), greater(local(1), int(100_000_000)));
    scope(
        "_SB",
        [device(
            "HPET",
            [
                name("_HID", eisa("PNP0103")),
                name("_UID", int(0)),
                region("HPTM", Space::Memory, int(0xfed0_0000), 0x400),
                field("HPTM", DWORDS | LOCK, &[("VEND", 32), ("PRD", 32)]),
                method(
                    "_STA",
                    0,
                    [
                        store(path("VEND"), local(0)),
                        store(path("PRD"), local(1)),
                        shift_right(local(0), int(16), local(0)),
                        when(silent, [ret(int(0))]),
                        when(too_slow, [ret(int(0))]),
                        ret(int(0xf)),
                    ],
                ),
                name(
                    "_CRS",
                    resources([memory32_fixed(Access::Read, 0xfed0_0000, 0x400)]),
                ),
            ],
        )],
    )
}

/// The block of general purpose events.
pub fn general_events() -> Aml {
    scope("_GPE", [name("_HID", string("ACPI0006"))])
}

/// What the root bus passes on, and the ports that the chipset takes from it.
pub fn windows(shape: &Shape) -> Aml {
    let memory = Passed::Memory { cacheable: false };
    let cached = Passed::Memory { cacheable: true };
    let (configuration, configuration_end) = CONFIGURATION;
    let low = memory_below_4g(shape) as u32;
    let (high, high_end) = above_4g(shape);
    let passed = resources([
        word(Passed::Buses, 0, 0xff),
        io(0xcf8, 1, 8),
        word(Passed::Ports, 0, 0xcf7),
        word(Passed::Ports, 0xd00, 0xffff),
        dword(cached, 0xa_0000, 0xb_ffff), // a screen's memory
        dword(memory, low, configuration as u32 - 1),
        dword(memory, configuration_end as u32 + 1, 0xfebf_ffff), // up to the I/O APIC
        qword(cached, high, high_end),
    ]);
    let mut body = vec![
        name("_CRS", passed),
        taken("GPE0", "GPE0 resources", 0x620, 16),
    ];
    if shape.pci_hotplug {
        body.push(taken("PHPR", "PCI Hotplug resources", 0xcc0, 0x18));
    }
    scope("\\_SB.PCI0", body)
}

/// Ports that are not for devices.
fn taken(of: &str, what: &str, start: u16, ports: u8) -> Aml {
    device(
        of,
        [
            name("_HID", string("PNP0A06")),
            name("_UID", string(what)),
            name("_STA", int(0xb)),
            name("_CRS", resources([io(start, 1, ports)])),
        ],
    )
}

/// Suspend to memory, suspend to disk, off.
pub fn sleep_states() -> Aml {
    let state = |of, kind| name(of, package([int(kind), int(kind), int(0), int(0)]));
    scope("\\", [state("_S3", 1), state("_S4", 2), state("_S5", 0)])
}

/// Where QEMU offers files.
pub fn configuration_port() -> Aml {
    scope(
        "\\_SB.PCI0",
        [device(
            "FWCF",
            [
                name("_HID", string("QEMU0002")),
                name("_STA", int(0xb)),
                name("_CRS", resources([io(0x510, 1, 12)])),
            ],
        )],
    )
}

/// The labels of built-in devices: PCI Firmware Specification 3.3, section 4.6.
pub const LABELS: &str = "e5c937d0-3553-4d7a-9117-ea4d19c3434d";
