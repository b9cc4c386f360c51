//! Predictions against registers and logs that others made: real machines, other predictors, a TPM.

use crate::common::{gunzip, made, platform, vector};
use predict::{
    Boot, Edk2Release, EventKind, Inputs, KernelHeader, PageOrder, PredictedEvent,
    acpi::{
        Qemu, Serial, Shape, Tables, TablesError, acpi_files,
        files::{AcpiFiles, TABLE_LOADER, allocated_by},
        files_of_tables,
    },
    direct, mrtd, predict, replay, rtmr0,
};
use registers::{Digest48, Register};

pub const OVMF: &str = "firmware/ovmf-2025.02-8+deb13u1.fd";
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
/// rebuilt as QEMU builds it.
#[test]
fn another_predictors_fixtures_have_the_same_registers() {
    let Some(firmware) = vector(UBUNTU_OVMF) else {
        return;
    };
    for (fixture, memory_mib) in [("canonical-defaults", 2048), ("q35-with-hpet", 4096)] {
        let tables = vector(&format!("acpi/{fixture}/acpi_tables.bin")).unwrap();
        let expected = vector(&format!("acpi/{fixture}/expected.json")).unwrap();
        let expected: serde_json::Value = serde_json::from_slice(&expected).unwrap();
        let events = rtmr0(
            &platform(&firmware, memory_mib),
            &files_of_tables(&tables).unwrap(),
        )
        .unwrap();
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
        let rebuilt = files_of_tables(&real["etc/acpi/tables"]).unwrap();
        assert!(real == rebuilt, "{shape}");
    }
}

#[test]
fn what_is_no_blob_of_tables_is_refused() {
    let shape = Shape::new(Qemu::V10_0_13, 2, 2048);
    let good = acpi_files(&shape).unwrap().into_files();
    let tables = &good["etc/acpi/tables"];
    assert!(files_of_tables(tables).unwrap() == good);
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = tables.clone();
        change(&mut bad);
        files_of_tables(&bad).unwrap_err()
    };
    let what = |error: TablesError| match error {
        TablesError::Malformed { what, .. } => what,
        other => panic!("{other}"),
    };
    let fadt = tables.windows(4).position(|word| word == b"FACP").unwrap();
    let rsdt = tables.windows(4).position(|word| word == b"RSDT").unwrap();
    assert_eq!(what(refused(&|b| b.clear())), "there is no RSDT at the end");
    assert_eq!(
        what(refused(&|b| b[rsdt..].fill(0))),
        "there is no RSDT at the end"
    );
    assert_eq!(
        what(refused(&|b| b[4..8].fill(0xff))),
        "a table has no length that it can have"
    );
    assert_eq!(
        what(refused(&|b| b[4] = 35)),
        "a table has no length that it can have"
    );
    assert_eq!(what(refused(&|b| b.truncate(6))), "a table is cut off");
    assert_eq!(
        what(refused(&|b| b[fadt + 40] ^= 4)),
        "a pointer leads to no table"
    );
    assert_eq!(
        what(refused(&|b| b[rsdt + 36] ^= 4)),
        "a pointer leads to no table"
    );
    assert_eq!(
        what(refused(&|b| b[fadt + 9] = 1)),
        "a checksum is filled in, which firmware does later"
    );
    let many = |b: &mut Vec<u8>| *b = [b"FACS\x24\0\0\0".as_slice(), &[0; 28]].concat().repeat(65);
    assert_eq!(what(refused(&many)), "there are too many tables");
    let unknown = TablesError::Unknown {
        signature: "XACP".into(),
    };
    assert_eq!(refused(&|b| b[fadt] = b'X'), unknown);
    let with_tpm = Shape { tpm: true, ..shape };
    let with_tpm = acpi_files(&with_tpm).unwrap().into_files();
    let unknown = TablesError::Unknown {
        signature: "TPM2".into(),
    };
    assert_eq!(files_of_tables(&with_tpm["etc/acpi/tables"]), Err(unknown));
    let long = vec![0; 4 * 1024 * 1024 + 1];
    assert!(matches!(
        files_of_tables(&long),
        Err(TablesError::TooLong { .. })
    ));
    // Each byte of a header turned, and each length cut.
    for at in (0..64).chain(fadt..fadt + 244).chain(rsdt..rsdt + 60) {
        let _ = files_of_tables(&tables[..at]);
        for bit in 0..8 {
            let mut bad = tables[..16384].to_vec();
            bad[at] ^= 1 << bit;
            let _ = files_of_tables(&bad);
        }
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

    let ours = direct::rtmr1(&made::kernel(), Edk2Release::STABLE202502).unwrap();
    assert_eq!(digests_of(&log, 4)[1..], digests(&ours[1..3]));
    assert_eq!(digests_of(&log, 5)[1..], digests(&ours[3..]));

    let ours = direct::rtmr2(cmdline, Some(b"any")).unwrap();
    assert_eq!(digests_of(&log, 9)[0], ours[0].digest);
    let without_initrd = direct::rtmr2(cmdline, None).unwrap();
    assert_ne!(digests_of(&log, 9)[0], without_initrd[0].digest);
}

#[test]
fn each_input_changes_the_registers_it_belongs_to_and_no_other() {
    let (firmware, kernel) = (made::firmware(), made::kernel());
    let acpi = Tables::insecure_from(made::acpi());
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
    let mut other_acpi = made::acpi();
    other_acpi.get_mut("etc/acpi/tables").unwrap()[7] ^= 1;
    let other_acpi = Tables::insecure_from(other_acpi);
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

pub struct Logged {
    pub pcr: u32,
    pub kind: u32,
    pub digest: Digest48,
}

fn tpm_log() -> Option<Vec<Logged>> {
    vector("tpm-log/direct/tpmlog.bin").map(|bytes| parse_log(&bytes))
}

/// TCG PC Client Platform Firmware Profile, section 10: a first event in the old format, then TCG_PCR_EVENT2.
pub fn parse_log(bytes: &[u8]) -> Vec<Logged> {
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

pub fn in_register(log: &[Logged], pcr: u32) -> Vec<Logged> {
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

/// Moves the section that begins at 0x811000 one page down, as older builds of OVMF have it.
pub fn with_longer_temporary_section(mut firmware: Vec<u8>) -> Vec<u8> {
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
