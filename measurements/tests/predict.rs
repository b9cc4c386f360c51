//! Predictions against registers and logs that others made: real machines, other predictors, a TPM.

mod common;

use common::{gunzip, made, platform, vector};
use measurements::{
    Digest48, Register,
    acpi::{Qemu, Serial, Shape, acpi_files},
    predict::{
        Boot, EventKind, Inputs, KernelHeader, PageOrder, PredictedEvent,
        acpi::{AcpiFiles, TABLE_LOADER, allocated_by},
        direct, mrtd, predict, replay, rtmr0,
    },
};

const OVMF: &str = "firmware/ovmf-2025.02-8+deb13u1.fd";
const UBUNTU_OVMF: &str = "firmware/ovmf-2025.02-3ubuntu2.fd";
const GRID: &str = "acpi/grid-qemu-10.0.13";

#[test]
fn mrtd_is_what_three_other_tools_say() {
    let Some(firmware) = vector(OVMF) else { return };
    for (order, expected) in [
        (PageOrder::SinglePass, SINGLE_PASS),
        (PageOrder::TwoPass, TWO_PASS),
    ] {
        assert_eq!(mrtd(&firmware, order).unwrap().to_string(), expected);
    }
}

#[test]
fn rtmr0_of_one_whole_machine_is_what_two_other_tools_say() {
    let (Some(firmware), Some(acpi)) = (vector(OVMF), grid("base-4c-2g")) else {
        return;
    };
    let events = rtmr0(&platform(&firmware, 2048), &acpi).unwrap();
    assert_eq!(replay(Register::Rtmr0, &events).to_string(), WHOLE_MACHINE);
}

/// The same machine again, with tables that no QEMU made.
#[test]
fn rtmr0_of_a_whole_machine_needs_no_qemu() {
    let Some(firmware) = vector(OVMF) else { return };
    let shape = Shape {
        hpet: false,
        smm: false,
        pic: false,
        serial: Serial::Board,
        ..Shape::new(Qemu::V10_0_13, 4, 2048)
    };
    let events = rtmr0(&platform(&firmware, 2048), &acpi_files(&shape).unwrap()).unwrap();
    assert_eq!(replay(Register::Rtmr0, &events).to_string(), WHOLE_MACHINE);
}

/// MRTD of this firmware stands in the signed quote of a real machine too. The fixtures have no table loader, which is
/// rebuilt here as QEMU builds it.
#[test]
fn another_predictors_fixtures_have_the_same_registers() {
    let Some(firmware) = vector(UBUNTU_OVMF) else {
        return;
    };
    for (fixture, memory_mib) in [("canonical-defaults", 2048), ("q35-with-hpet", 4096)] {
        let tables = vector(&format!("acpi/{fixture}/acpi_tables.bin")).unwrap();
        let expected = vector(&format!("acpi/{fixture}/expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let events = rtmr0(&platform(&firmware, memory_mib), &rebuilt(tables)).unwrap();
        let mrtd = mrtd(&firmware, PageOrder::SinglePass).unwrap();
        let rtmr0 = replay(Register::Rtmr0, &events);
        assert_eq!(mrtd.to_string(), expected["mrtd"], "{fixture}");
        assert_eq!(rtmr0.to_string(), expected["rtmr0"], "{fixture}");
    }
}

#[test]
fn the_rebuilt_table_loader_is_qemus() {
    for shape in [
        "base-1c-2g",
        "base-8c-2g",
        "hpet-smm-pic-4c-4g",
        "rootport1-8c-4g",
    ] {
        let Some(real) = grid(shape) else { return };
        assert!(real == rebuilt(real["etc/acpi/tables"].clone()), "{shape}");
    }
}

/// The order of a real QEMU's script, and of one with a TPM, in whose log the third ACPI event is 64 KiB of zeros.
#[test]
fn acpi_files_are_measured_in_the_order_of_the_script() {
    let Some(real) = grid("base-4c-2g") else {
        return;
    };
    assert_eq!(
        allocated_by(&real[TABLE_LOADER]).unwrap(),
        ["etc/acpi/rsdp", "etc/acpi/tables"]
    );
    let Some(log) = tpm_log() else { return };
    let names = ["etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables"];
    let mut acpi = made::acpi();
    acpi.insert("etc/tpm/log".into(), vec![0; 64 * 1024]);
    acpi.insert(TABLE_LOADER.into(), made::table_loader(&names));
    let ours: Vec<_> = of_kind(
        &rtmr0(&platform(&made::firmware(), 2048), &acpi).unwrap(),
        ACPI,
    );
    let logged = logged_of_kind(&log, 10);
    assert_eq!((ours.len(), logged.len()), (4, 4));
    assert_eq!(ours[2], logged[2]);
    assert!(logged.iter().filter(|d| **d == ours[2]).count() == 1);
}

/// Real logs of guests with 1 and with 64 GiB. The second ran an OVMF whose first temporary section is a page longer.
#[test]
fn the_memory_list_and_variables_are_those_of_real_guests() {
    let (Some(firmware), Some(log)) = (vector(OVMF), vector("ccel/dstack/ccel.bin")) else {
        return;
    };
    let real = parse_log(&log);
    let ours = rtmr0(&platform(&firmware, 1024), &made::acpi()).unwrap();
    compare_but_acpi(&ours, &in_register(&real, 1));

    let report = vector("ccel/dstack/quote-report.json").unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let log: Vec<serde_json::Value> =
        serde_json::from_str(report["event_log"].as_str().unwrap()).unwrap();
    let real: Vec<Logged> = log
        .iter()
        .filter(|event| event["imr"] == 0)
        .map(|event| Logged {
            pcr: 0,
            kind: event["event_type"].as_u64().unwrap() as u32,
            digest: event["digest"].as_str().unwrap().parse().unwrap(),
        })
        .collect();
    let longer = with_longer_temporary_section(firmware);
    let ours = rtmr0(&platform(&longer, 64 * 1024), &made::acpi()).unwrap();
    compare_but_acpi(&ours, &real);
}

/// Everything of a TPM's log that TDX measures too and that needs no kernel file.
#[test]
fn a_tpm_log_has_the_same_events() {
    let (Some(log), Some(firmware)) = (tpm_log(), vector(OVMF)) else {
        return;
    };
    let names = vector("tpm-log/direct/names.txt").unwrap();
    let names = String::from_utf8(names).unwrap();
    let cmdline = names.lines().last().unwrap();
    let cmdline = cmdline.strip_suffix(" initrd=initrd").unwrap();

    let ours = rtmr0(&platform(&firmware, 2048), &made::acpi()).unwrap();
    let variables = digests(&ours[2..8]);
    assert_eq!(digests_of(&log, 7), variables);
    assert_eq!(
        logged_of_kind(&log, 0x8000_0002),
        of_kind(&ours, EventKind::VariableBoot)
    );

    let ours = direct::rtmr1(&made::kernel()).unwrap();
    assert_eq!(digests_of(&log, 4)[1..], digests(&ours[1..3]));
    assert_eq!(digests_of(&log, 5)[1..], digests(&ours[3..]));

    let ours = direct::rtmr2(cmdline, Some(b"any")).unwrap();
    assert_eq!(digests_of(&log, 9)[0], ours[0].digest);
    let without_initrd = direct::rtmr2(cmdline, None).unwrap();
    assert_ne!(digests_of(&log, 9)[0], without_initrd[0].digest);
}

#[test]
fn each_input_changes_the_registers_it_belongs_to_and_no_other() {
    let (firmware, kernel, acpi) = (made::firmware(), made::kernel(), made::acpi());
    let boot = |kernel, initrd, cmdline| Boot::Direct {
        kernel,
        initrd,
        cmdline,
        header: KernelHeader::AsOnDisk,
    };
    let initrd = Some(b"initrd".as_slice());
    let inputs = Inputs {
        platform: platform(&firmware, 2048),
        page_order: PageOrder::SinglePass,
        acpi: &acpi,
        boot: boot(&kernel, initrd, "console=ttyS0"),
    };
    let mut code = firmware.clone();
    code[0x2000] ^= 1;
    let mut other_kernel = kernel.clone();
    other_kernel[0x210] ^= 1;
    let mut other_acpi = acpi.clone();
    other_acpi.get_mut("etc/acpi/tables").unwrap()[7] ^= 1;
    let check = |other: Inputs, changed: [bool; 5]| {
        let (a, b) = (predict(&inputs).unwrap(), predict(&other).unwrap());
        let (a, b) = (a.registers(), b.registers());
        let differs = [
            a.mrtd != b.mrtd,
            a.rtmr[0] != b.rtmr[0],
            a.rtmr[1] != b.rtmr[1],
            a.rtmr[2] != b.rtmr[2],
            a.rtmr[3] != b.rtmr[3],
        ];
        assert_eq!(differs, changed, "{other:?}");
    };
    let (f, t) = (false, true);
    check(inputs, [f, f, f, f, f]);
    check(
        Inputs {
            platform: platform(&code, 2048),
            ..inputs
        },
        [t, f, f, f, f],
    );
    let page_order = PageOrder::TwoPass;
    check(
        Inputs {
            page_order,
            ..inputs
        },
        [t, f, f, f, f],
    );
    check(
        Inputs {
            platform: platform(&firmware, 4096),
            ..inputs
        },
        [f, t, f, f, f],
    );
    check(
        Inputs {
            acpi: &other_acpi,
            ..inputs
        },
        [f, t, f, f, f],
    );
    check(
        Inputs {
            boot: boot(&other_kernel, initrd, "console=ttyS0"),
            ..inputs
        },
        [f, f, t, f, f],
    );
    check(
        Inputs {
            boot: boot(&kernel, Some(b"other"), "console=ttyS0"),
            ..inputs
        },
        [f, f, f, t, f],
    );
    check(
        Inputs {
            boot: boot(&kernel, None, "console=ttyS0"),
            ..inputs
        },
        [f, f, f, t, f],
    );
    check(
        Inputs {
            boot: boot(&kernel, initrd, "console=ttyS1"),
            ..inputs
        },
        [f, f, f, t, f],
    );
}

/// Everything but what TDX does not have in its log is equal, in order; the digests of ACPI tables are another machine's.
fn compare_but_acpi(ours: &[PredictedEvent], real: &[Logged]) {
    let real_kinds: Vec<u32> = real.iter().map(|event| event.kind).collect();
    assert_eq!(real_kinds, REAL_KINDS);
    assert_eq!(ours.len(), real.len());
    for (ours, real) in ours.iter().zip(real) {
        assert_eq!(ours.digest == real.digest, ours.kind != ACPI, "{ours:?}");
    }
}

struct Logged {
    pcr: u32,
    kind: u32,
    digest: Digest48,
}

fn tpm_log() -> Option<Vec<Logged>> {
    vector("tpm-log/direct/tpmlog.bin").map(|bytes| parse_log(&bytes))
}

/// TCG PC Client Platform Firmware Profile, section 10: a first event in the old format, then TCG_PCR_EVENT2.
fn parse_log(bytes: &[u8]) -> Vec<Logged> {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut at = 32 + u32_at(28) as usize;
    let mut events = Vec::new();
    while at + 12 < bytes.len() && matches!(u32_at(at + 8), 1..=4) {
        let (pcr, kind, count) = (u32_at(at), u32_at(at + 4), u32_at(at + 8));
        at += 12;
        let mut digest = None;
        for _ in 0..count {
            let (algorithm, start) = (u16::from_le_bytes([bytes[at], bytes[at + 1]]), at + 2);
            let length = match algorithm {
                4 => 20,
                0xb => 32,
                0xc => 48,
                other => panic!("algorithm {other}"),
            };
            at = start + length;
            if algorithm == 0xc {
                digest = Some(Digest48(bytes[start..at].try_into().unwrap()));
            }
        }
        at += 4 + u32_at(at) as usize;
        let digest = digest.unwrap();
        events.push(Logged { pcr, kind, digest });
    }
    assert!(events.len() > 10);
    events
}

fn in_register(log: &[Logged], pcr: u32) -> Vec<Logged> {
    let of = log.iter().filter(|event| event.pcr == pcr);
    of.map(|event| Logged { ..*event }).collect()
}

fn digests_of(log: &[Logged], pcr: u32) -> Vec<Digest48> {
    in_register(log, pcr).iter().map(|e| e.digest).collect()
}

fn logged_of_kind(log: &[Logged], kind: u32) -> Vec<Digest48> {
    let of = log.iter().filter(|event| event.kind == kind);
    of.map(|event| event.digest).collect()
}

fn digests(events: &[PredictedEvent]) -> Vec<Digest48> {
    events.iter().map(|event| event.digest).collect()
}

fn of_kind(events: &[PredictedEvent], kind: EventKind) -> Vec<Digest48> {
    let of = events.iter().filter(|event| event.kind == kind);
    of.map(|event| event.digest).collect()
}

/// A machine of the grid, dumped from QEMU.
fn grid(shape: &str) -> Option<AcpiFiles> {
    let file = |fw_cfg: &str, name: &str| {
        let packed = vector(&format!("{GRID}/{shape}/{name}.bin.gz"))?;
        Some((fw_cfg.to_owned(), gunzip(&packed)))
    };
    Some(AcpiFiles::from([
        file(TABLE_LOADER, "loader")?,
        file("etc/acpi/rsdp", "rsdp")?,
        file("etc/acpi/tables", "tables")?,
    ]))
}

/// The script and pointer that QEMU makes for these tables (`hw/i386/acpi-build.c`): a checksum for each table but FACS,
/// pointers of FACP and RSDT, the pointer of the RSDP.
fn rebuilt(tables: Vec<u8>) -> AcpiFiles {
    const TABLES: &str = "etc/acpi/tables";
    const RSDP: &str = "etc/acpi/rsdp";
    let command = |kind: u32, names: &[&str], rest: &[u8]| {
        let mut bytes = kind.to_le_bytes().to_vec();
        for (index, name) in names.iter().enumerate() {
            bytes.extend(name.as_bytes());
            bytes.resize(4 + 56 * (index + 1), 0);
        }
        bytes.extend(rest);
        bytes.resize(128, 0);
        bytes
    };
    let allocate = |name, align: u32, zone: u8| {
        command(1, &[name], &[&align.to_le_bytes()[..], &[zone]].concat())
    };
    let pointer = |file, at: usize, bytes: u8| {
        let rest = [&(at as u32).to_le_bytes()[..], &[bytes]].concat();
        command(2, &[file, TABLES], &rest)
    };
    let checksum = |file, at: usize, start: usize, bytes: usize| {
        let rest = [at, start, bytes].map(|field| (field as u32).to_le_bytes());
        command(3, &[file], &rest.concat())
    };
    let mut loader = [allocate(RSDP, 16, 2), allocate(TABLES, 64, 1)].concat();
    let (mut at, mut rsdt) = (0, None);
    while tables[at..at + 4] != [0; 4] {
        let bytes = u32::from_le_bytes(tables[at + 4..at + 8].try_into().unwrap()) as usize;
        match &tables[at..at + 4] {
            b"FACP" => {
                for (field, bytes) in [(36, 4), (40, 4), (140, 8)] {
                    loader.extend(pointer(TABLES, at + field, bytes));
                }
            }
            b"RSDT" => {
                rsdt = Some(at as u32);
                for field in (36..bytes).step_by(4) {
                    loader.extend(pointer(TABLES, at + field, 4));
                }
            }
            _ => {}
        }
        if &tables[at..at + 4] != b"FACS" {
            loader.extend(checksum(TABLES, at + 9, at, bytes));
        }
        at += bytes;
    }
    loader.extend(pointer(RSDP, 16, 4));
    loader.extend(checksum(RSDP, 8, 0, 20));
    loader.resize(4096, 0);
    let rsdp = [b"RSD PTR \0BOCHS \0", &rsdt.unwrap().to_le_bytes()[..]].concat();
    AcpiFiles::from([
        (TABLE_LOADER.into(), loader),
        (RSDP.into(), rsdp),
        (TABLES.into(), tables),
    ])
}

/// Moves the section that begins at 0x811000 one page down, as older builds of OVMF have it.
fn with_longer_temporary_section(mut firmware: Vec<u8>) -> Vec<u8> {
    let section = |address: u64, bytes: u64| [address.to_le_bytes(), bytes.to_le_bytes()].concat();
    let short = section(0x81_1000, 0xf000);
    let at = firmware.windows(16).rposition(|w| w == short).unwrap();
    firmware[at..at + 16].copy_from_slice(&section(0x81_0000, 0x1_0000));
    firmware
}

const ACPI: EventKind = EventKind::PlatformConfigFlags;
/// RTMR0 of a direct boot as real logs have it.
const REAL_KINDS: [u32; 13] = [
    0x8000_000b,
    0x8000_000a,
    0x8000_0001,
    0x8000_0001,
    0x8000_0001,
    0x8000_0001,
    0x8000_0001,
    4,
    10,
    10,
    10,
    0x8000_0002,
    0x8000_0002,
];
const SINGLE_PASS: &str = "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11";
const TWO_PASS: &str = "456f07902150d008bb913c3e1e84e9297f735a6c83cd2a957a1f0a8bbedb06df188e3837ae48d32c73d473d097dc0db2";
const WHOLE_MACHINE: &str = "252f61b41c0c2560d1fd737b5932fcc0961e7e94a28e702972843afea4bd354ce997c13cba801a16faf18c921cec4474";
