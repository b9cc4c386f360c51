//! Processors, and how one is added or taken away. QEMU's `hw/acpi/cpu.c`.

use super::super::{
    Qemu,
    aml::*,
    resources::{io, resources},
    shape::Shape,
    tables::local_apic,
};

/// The registers of processor hotplug, and every processor there can be.
pub fn processors(shape: &Shape) -> Aml {
    scope(
        "_SB",
        [
            registers(shape.qemu),
            container(shape.qemu, shape.vcpus_max.into()),
        ],
    )
}

/// The event of a processor.
pub fn changed() -> Aml {
    method("\\_GPE._E02", 0, [path("\\_SB.CPUS.CSCN")])
}

fn registers(qemu: Qemu) -> Aml {
    let flags = [
        ("", 32),
        ("CPEN", 1),
        ("CINS", 1),
        ("CRMV", 1),
        ("CEJ0", 1),
        ("CEJF", 1),
        ("", 3),
        ("CCMD", 8),
    ];
    let mut body = vec![
        name("_HID", eisa("PNP0A06")),
        name("_UID", string("CPU Hotplug resources")),
        mutex("CPLK"),
        name("_CRS", resources([io(0xcd8, 1, 12)])),
        region("PRST", Space::Io, int(0xcd8), 12),
        field("PRST", BYTES | ZEROS, &flags),
        field("PRST", DWORDS, &[("CSEL", 32), ("", 32), ("CDAT", 32)]),
    ];
    match qemu {
        // It switches from a format of registers that newer versions no longer have.
        Qemu::V9_2_1 | Qemu::V10_0_13 | Qemu::V10_1_0 | Qemu::V10_2_1 => {
            body.push(serialized("_INI", 0, [store(int(0), path("CSEL"))]))
        }
        Qemu::V11_1_3 => {}
    }
    device("\\_SB.PCI0.PRES", body)
}

fn container(qemu: Qemu, count: u64) -> Aml {
    let mut body = vec![
        name("_HID", string("ACPI0010")),
        name("_CID", eisa("PNP0A05")),
        method(
            "CTFY",
            2,
            (0..count).map(|id| {
                when(
                    equal(arg(0), int(id)),
                    [notify(path(&processor_name(id)), arg(1))],
                )
            }),
        ),
        status(),
        eject(),
        match qemu {
            Qemu::V9_2_1 => scan_one_list(count),
            Qemu::V10_0_13 | Qemu::V10_1_0 | Qemu::V10_2_1 | Qemu::V11_1_3 => scan(count),
        },
        report(),
    ];
    body.extend((0..count).map(one));
    device("\\_SB.CPUS", body)
}

fn one(id: u64) -> Aml {
    let mut body = vec![
        serialized("_STA", 0, [ret(call("CSTA", [int(id)]))]),
        name("_MAT", buffer(&local_apic(id as u8, true))),
    ];
    // The first processor stays.
    if id > 0 {
        body.push(method("_EJ0", 1, [call("CEJ0", [int(id)])]));
    }
    body.push(serialized(
        "_OST",
        3,
        [call("COST", [int(id), arg(0), arg(1), arg(2)])],
    ));
    processor(&processor_name(id), id as u8, body)
}

/// `CSTA`: is this processor there?
fn status() -> Aml {
    serialized(
        "CSTA",
        1,
        [
            acquire(LOCK_PATH),
            store(arg(0), register("CSEL")),
            store(int(0), local(0)),
            when(equal(register("CPEN"), int(1)), [store(int(0xf), local(0))]),
            release(LOCK_PATH),
            ret(local(0)),
        ],
    )
}

/// `CEJ0`: takes this processor away.
fn eject() -> Aml {
    serialized(
        "CEJ0",
        1,
        [
            acquire(LOCK_PATH),
            store(arg(0), register("CSEL")),
            store(int(1), register("CEJ0")),
            release(LOCK_PATH),
        ],
    )
}

/// `COST`: tells QEMU how it went.
fn report() -> Aml {
    serialized(
        "COST",
        4,
        [
            acquire(LOCK_PATH),
            store(arg(0), register("CSEL")),
            store(int(1), register("CCMD")),
            store(arg(1), register("CDAT")),
            store(int(2), register("CCMD")),
            store(arg(2), register("CDAT")),
            release(LOCK_PATH),
        ],
    )
}

/// `CSCN`: finds what changed, up to 255 of each kind at a time, and tells the system.
fn scan(count: u64) -> Aml {
    let [found, added, at, current, again, removed] =
        [0, 1, 2, 3, 4, 5].map(|index| move || local(index));
    let full = |list: Aml| equal(list, int(0xff));
    let noted = |flag, list, length: &dyn Fn() -> Aml| {
        when(
            equal(register(flag), int(1)),
            [
                store(current(), index(path(list), length(), none())),
                increment(length()),
                store(int(1), found()),
            ],
        )
    };
    let search = repeat(
        both(equal(found(), int(1)), less(current(), int(count))),
        [
            store(int(0), found()),
            store(current(), register("CSEL")),
            store(int(0), register("CCMD")),
            when(less(register("CDAT"), current()), [leave()]),
            when(
                either(full(added()), full(removed())),
                [store(int(1), again()), leave()],
            ),
            store(register("CDAT"), current()),
            noted("CINS", "CNEW", &added),
            noted("CRMV", "CEJL", &removed),
            increment(current()),
        ],
    );
    let next = |list| store(deref(index(path(list), at(), none())), current());
    let done = |flag| {
        terms([
            store(current(), register("CSEL")),
            store(int(1), register(flag)),
            increment(at()),
        ])
    };
    serialized(
        "CSCN",
        0,
        [
            acquire(LOCK_PATH),
            name("CNEW", package_with_room(255, [])),
            name("CEJL", package_with_room(255, [])),
            store(int(0), current()),
            store(int(1), again()),
            repeat(
                equal(again(), int(1)),
                [
                    store(int(0), again()),
                    store(int(1), found()),
                    store(int(0), added()),
                    store(int(0), removed()),
                    search,
                    store(int(0), at()),
                    repeat(
                        less(at(), added()),
                        [
                            next("CNEW"),
                            call("CTFY", [current(), int(1)]),
                            store(current(), debug()),
                            done("CINS"),
                        ],
                    ),
                    store(int(0), at()),
                    repeat(
                        less(at(), removed()),
                        [
                            next("CEJL"),
                            call("CTFY", [current(), int(3)]),
                            done("CRMV"),
                        ],
                    ),
                ],
            ),
            release(LOCK_PATH),
        ],
    )
}

/// `CSCN` before QEMU 10: it tells of a removal where it finds it, so it has no list of those.
fn scan_one_list(count: u64) -> Aml {
    let [found, added, at, current, again] = [0, 1, 2, 3, 4].map(|index| move || local(index));
    let removal = otherwise([when(
        equal(register("CRMV"), int(1)),
        [
            call("CTFY", [current(), int(3)]),
            store(int(1), register("CRMV")),
            store(int(1), found()),
        ],
    )]);
    let search = repeat(
        both(equal(found(), int(1)), less(current(), int(count))),
        [
            store(int(0), found()),
            store(current(), register("CSEL")),
            store(int(0), register("CCMD")),
            when(less(register("CDAT"), current()), [leave()]),
            when(equal(added(), int(0xff)), [store(int(1), again()), leave()]),
            store(register("CDAT"), current()),
            when(
                equal(register("CINS"), int(1)),
                [
                    store(current(), index(path("CNEW"), added(), none())),
                    increment(added()),
                    store(int(1), found()),
                ],
            ),
            removal,
            increment(current()),
        ],
    );
    let tell = repeat(
        less(at(), added()),
        [
            store(deref(index(path("CNEW"), at(), none())), current()),
            call("CTFY", [current(), int(1)]),
            store(current(), debug()),
            store(current(), register("CSEL")),
            store(int(1), register("CINS")),
            increment(at()),
        ],
    );
    let passes = repeat(
        equal(again(), int(1)),
        [
            store(int(0), again()),
            store(int(1), found()),
            store(int(0), added()),
            search,
            store(int(0), at()),
            tell,
        ],
    );
    serialized(
        "CSCN",
        0,
        [
            acquire(LOCK_PATH),
            name("CNEW", package_with_room(255, [])),
            store(int(0), current()),
            store(int(1), again()),
            passes,
            release(LOCK_PATH),
        ],
    )
}

fn processor_name(id: u64) -> String {
    format!("C{id:03X}")
}

fn register(name: &str) -> Aml {
    path(&format!("\\_SB.PCI0.PRES.{name}"))
}

const LOCK_PATH: &str = "\\_SB.PCI0.PRES.CPLK";
