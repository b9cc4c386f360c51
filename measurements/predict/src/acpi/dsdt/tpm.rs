//! The TPM, and how the system asks firmware for an operation on it at the next start: TCG's Physical Presence Interface
//! 1.3 and Platform Reset Attack Mitigation 1.10. QEMU's `hw/acpi/tpm.c` and `hw/i386/acpi-build.c`.

use super::super::{
    aml::*,
    resources::{Access, memory32_fixed, resources},
};

/// A TPM 2.0 behind a command response buffer.
pub fn crb() -> Aml {
    device(
        "TPM",
        [
            name("_HID", string("MSFT0101")),
            name("_STR", string("TPM 2.0 Device")),
            name(
                "_CRS",
                resources([memory32_fixed(Access::ReadWrite, 0xfed4_0000, 0x1000)]),
            ),
            name("_STA", int(0xf)),
            name("_UID", int(1)),
            shared_memory(),
            allowed(),
            name("TPM2", package([int(0), int(0)])),
            name("TPM3", package([int(0), int(0), int(0)])),
            serialized(
                "_DSM",
                4,
                [
                    when(
                        equal(arg(0), uuid("3dddfaa6-361b-4eb4-a424-8d10089d1653")),
                        physical_presence(),
                    ),
                    when(
                        equal(arg(0), uuid("376054ed-cc13-4675-901c-4756d7f2d45d")),
                        memory_overwrite(),
                    ),
                ],
            ),
        ],
    )
}

/// The memory that system and firmware share.
fn shared_memory() -> Aml {
    let requests = [
        ("PPIN", 8),
        ("PPIP", 32),
        ("PPRP", 32),
        ("PPRQ", 32),
        ("PPRM", 32),
        ("LPPR", 32),
    ];
    terms([
        region("TPP2", Space::Memory, int(0xfed4_5100), 0x5a),
        field("TPP2", ANY, &requests),
        region("TPP3", Space::Memory, int(0xfed4_515a), 1),
        field("TPP3", BYTES, &[("MOVV", 8)]),
    ])
}

/// `TPFN`: what firmware allows for an operation.
fn allowed() -> Aml {
    let flags = add(int(0xfed4_5000), arg(0), none());
    serialized(
        "TPFN",
        1,
        [
            when(not(less(arg(0), int(0x100))), [ret(int(0))]),
            region("TPP1", Space::Memory, flags, 1),
            field("TPP1", BYTES, &[("TPPF", 8)]),
            ret(path("TPPF")),
        ],
    )
}

fn physical_presence() -> Vec<Aml> {
    let function = |number, body: Vec<Aml>| when(equal(arg(2), int(number)), body);
    let element = |of, at| index(of, int(at), none());
    let argument = |at| deref(element(arg(3), at));
    let answer = |number| ret(int(number));
    let ask = || {
        terms([
            store(argument(0), local(0)),
            store(call("TPFN", [local(0)]), local(1)),
        ])
    };
    let level = || and(local(1), int(7), none());
    let not_implemented = || when(equal(level(), int(0)), [answer(1)]);
    let request = |parameter| {
        [
            store(local(0), path("PPRQ")),
            store(parameter, path("PPRM")),
        ]
    };
    let revision = |number, body: Vec<Aml>| when(equal(arg(1), int(number)), body);
    let into = |value, list, at| store(path(value), element(path(list), at));
    vec![
        function(0, vec![ret(buffer(&[0xff, 1]))]),
        function(1, vec![ret(string("1.3"))]),
        function(
            2,
            vec![
                ask(),
                not_implemented(),
                request(int(0)).concat(),
                answer(0),
            ],
        ),
        function(
            3,
            vec![
                revision(1, vec![into("PPRQ", "TPM2", 1), ret(path("TPM2"))]),
                revision(
                    2,
                    vec![
                        into("PPRQ", "TPM3", 1),
                        into("PPRM", "TPM3", 2),
                        ret(path("TPM3")),
                    ],
                ),
            ],
        ),
        function(4, vec![answer(2)]),
        function(
            5,
            vec![
                into("LPPR", "TPM3", 1),
                into("PPRP", "TPM3", 2),
                ret(path("TPM3")),
            ],
        ),
        function(6, vec![answer(3)]),
        function(
            7,
            vec![
                ask(),
                not_implemented(),
                when(equal(level(), int(2)), [answer(3)]),
                revision(1, request(int(0)).into()),
                revision(2, request(argument(1)).into()),
                answer(0),
            ],
        ),
        function(8, vec![ask(), ret(level())]),
        ret(buffer(&[0])),
    ]
}

fn memory_overwrite() -> Vec<Aml> {
    vec![
        when(equal(arg(2), int(0)), [ret(buffer(&[3]))]),
        when(
            equal(arg(2), int(1)),
            [
                store(deref(index(arg(3), int(0), none())), local(0)),
                store(local(0), path("MOVV")),
                ret(int(0)),
            ],
        ),
    ]
}
