//! How a PCI device is added or taken away through ACPI. QEMU's `hw/acpi/pcihp.c`.
//!
//! Each bus that devices can be plugged into has a number. QEMU walks from the newest bus to the oldest, so the last port
//! is number 0.

use super::super::{aml::*, shape::Shape};
use super::{board::LABELS, slots::place_name};

/// The registers, and the methods that all buses share.
pub fn registers() -> Aml {
    scope(
        "_SB.PCI0",
        [
            region("PCST", Space::Io, int(0xcc0), 8),
            field("PCST", DWORDS | ZEROS, &[("PCIU", 32), ("PCID", 32)]),
            region("SEJ", Space::Io, int(0xcc8), 4),
            field("SEJ", DWORDS | ZEROS, &[("B0EJ", 32)]),
            region("BNMR", Space::Io, int(0xcd0), 8),
            field("BNMR", DWORDS | ZEROS, &[("BNUM", 32), ("PIDX", 32)]),
            mutex("BLCK"),
            method(
                "PCEJ",
                2,
                [
                    acquire("BLCK"),
                    store(arg(0), path("BNUM")),
                    store(bit(arg(1)), path("B0EJ")),
                    release("BLCK"),
                    ret(int(0)),
                ],
            ),
            method(
                "AIDX",
                2,
                [
                    acquire("BLCK"),
                    store(arg(0), path("BNUM")),
                    store(bit(arg(1)), path("PIDX")),
                    store(path("PIDX"), local(0)),
                    release("BLCK"),
                    ret(local(0)),
                ],
            ),
            device_labels(),
        ],
    )
}

/// `PDSM`: the label of a device behind a port, if it has one.
fn device_labels() -> Aml {
    let element = |of, at| index(of, int(at), none());
    let label = || {
        call(
            "AIDX",
            [deref(element(arg(4), 0)), deref(element(arg(4), 1))],
        )
    };
    let nothing = || [equal(local(2), int(0)), equal(local(2), int(0xffff_ffff))];
    let [zero, ones] = nothing();
    let no_label = or(zero, ones, none());
    let [zero, ones] = nothing();
    serialized(
        "PDSM",
        5,
        [
            when(
                equal(arg(2), int(0)),
                [
                    store(buffer(&[0]), local(0)),
                    when(not(equal(arg(0), uuid(LABELS))), [ret(local(0))]),
                    when(less(arg(1), int(2)), [ret(local(0))]),
                    store(int(0), local(1)),
                    store(label(), local(2)),
                    when(
                        not(no_label),
                        [
                            or(local(1), int(1), local(1)),
                            or(local(1), bit(int(7)), local(1)),
                        ],
                    ),
                    store(local(1), element(local(0), 0)),
                    ret(local(0)),
                ],
            ),
            when(
                equal(arg(2), int(7)),
                [
                    store(label(), local(2)),
                    store(package_with_room(2, []), local(0)),
                    when(
                        not(either(zero, ones)),
                        [
                            store(local(2), element(local(0), 0)),
                            store(string(""), element(local(0), 1)),
                        ],
                    ),
                    ret(local(0)),
                ],
            ),
        ],
    )
}

/// What a port holds besides its address and a device behind it: its bus's number, its only slot, and who to tell.
pub fn port(shape: &Shape, place: (u8, u8), plugged: bool) -> Aml {
    let later = shape.ports().iter().filter(|port| **port > place).count();
    let first = place_name((0, 0));
    let methods = slot_methods();
    let slot = match plugged {
        true => scope(&first, [methods]),
        false => device(&first, [name("_ADR", int(0)), methods]),
    };
    let changed = and(arg(0), int(1), none());
    let tell = when(changed, [notify(path(&first), arg(1))]);
    terms([
        name("BSEL", int(later as u64)),
        slot,
        method("DVNT", 2, [tell]),
    ])
}

/// The label and the removal of what is in a slot.
fn slot_methods() -> Aml {
    let element = |at| index(local(0), int(at), none());
    let label = [arg(0), arg(1), arg(2), arg(3), local(0)];
    let body = [
        store(package([int(0), int(0)]), local(0)),
        store(path("BSEL"), element(0)),
        store(path("ASUN"), element(1)),
        ret(call("PDSM", label)),
    ];
    terms([
        name("ASUN", int(0)),
        serialized("_DSM", 4, body),
        name("_SUN", int(0)),
        method("_EJ0", 1, [call("PCEJ", [path("BSEL"), path("_SUN")])]),
    ])
}

/// The event of a PCI device: asks every bus what changed.
pub fn changed(shape: &Shape) -> Vec<Aml> {
    let newest_first: Vec<String> = shape.ports().into_iter().rev().map(place_name).collect();
    if newest_first.is_empty() {
        return vec![scope("_GPE", [method("_E01", 0, [])])];
    }
    let mut ask: Vec<Aml> = newest_first
        .iter()
        .zip(0..)
        .map(|(port, bus)| {
            let added = call("DVNT", [path("PCIU"), int(1)]);
            let removed = call("DVNT", [path("PCID"), int(3)]);
            scope(
                port,
                [method(
                    "PCNT",
                    0,
                    [store(int(bus), path("BNUM")), added, removed],
                )],
            )
        })
        .collect();
    ask.push(method(
        "PCNT",
        0,
        newest_first
            .iter()
            .map(|port| path(&format!("^{port}.PCNT"))),
    ));
    vec![
        scope("\\_SB.PCI0", ask),
        scope(
            "_GPE",
            [method(
                "_E01",
                0,
                [
                    acquire("\\_SB.PCI0.BLCK"),
                    path("\\_SB.PCI0.PCNT"),
                    release("\\_SB.PCI0.BLCK"),
                ],
            )],
        ),
    ]
}

fn bit(number: Aml) -> Aml {
    shift_left(int(1), number, none())
}
