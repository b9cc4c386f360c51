//! Lists of memory, held against real machines and other tools.

use super::*;
use crate::firmware::{
    Firmware,
    tests::{DEBIAN, vector},
};

fn section(kind: Kind, memory: Range<u64>) -> Section {
    Section {
        kind,
        data: 0..0,
        memory,
        measured: false,
    }
}

/// As Debian's OVMF 2025.02 lists them.
fn sections() -> Vec<Section> {
    vec![
        section(Kind::BootVolume, 0xffc8_4000..1 << 32),
        section(Kind::ConfigurationVolume, 0xffc0_0000..0xffc8_4000),
        section(Kind::Temporary, 0x81_1000..0x82_0000),
        section(Kind::Temporary, 0x80_b000..0x80_d000),
        section(Kind::HandOffBlocks, 0x80_9000..0x80_b000),
        section(Kind::Temporary, 0x80_0000..0x80_6000),
    ]
}

/// As dstack's firmware lists them: a page more behind.
fn sections_of_dstack() -> Vec<Section> {
    let mut sections = sections();
    sections[2].memory.start = 0x81_0000;
    sections
}

/// The first event that a firmware measured, in the event log of a real machine (TCG PC Client Platform Firmware Profile,
/// section 10.2: an event of the old format, in which the digests are announced; then PCR, type, count, algorithm).
fn first_event(log: &[u8]) -> Digest48 {
    let announced = u32::from_le_bytes(log[28..32].try_into().unwrap());
    let at = 32 + usize::try_from(announced).unwrap() + 14;
    assert_eq!(log[at - 2..at], 0x0cu16.to_le_bytes(), "not SHA-384");
    Digest48(log[at..at + 48].try_into().unwrap())
}

#[test]
fn real_machines_measured_these_lists() {
    let Some(log) = vector("ccel/dstack/ccel.bin") else {
        return;
    };
    assert_eq!(hand_off_digest(&sections(), 1024), Ok(first_event(&log)));

    let report = vector("ccel/dstack/quote-report.json").expect("beside the other");
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let events: serde_json::Value =
        serde_json::from_str(report["event_log"].as_str().unwrap()).unwrap();
    let first: Digest48 = events[0]["digest"].as_str().unwrap().parse().unwrap();
    assert_eq!(hand_off_digest(&sections_of_dstack(), 65_536), Ok(first));
}

// RTMR0 as tdx-measure and dstack-mr say it for Debian's firmware, 4 vCPUs and 2048 MiB. The digests between are of
// absent variables, of a separator, of what QEMU 10.0.13 gives such a machine for ACPI, and of the boot options.
#[test]
fn rtmr0_with_the_list_is_what_two_other_tools_say() {
    let Some(image) = vector(DEBIAN) else { return };
    let firmware = Firmware::parse(&image).unwrap();
    let hand_off = hand_off_digest(firmware.sections(), 2048).unwrap();
    let volume = firmware.configuration_volume().unwrap();
    let others = OTHER_EVENTS.map(|digest| digest.parse().unwrap());
    let rtmr0 = [hand_off, volume]
        .into_iter()
        .chain(others)
        .fold(Digest48::ZERO, |rtmr0, digest| rtmr0.extended_by(&digest));
    assert_eq!(rtmr0.to_string(), RTMR0);
}

#[test]
fn the_order_of_the_sections_is_not_seen_and_their_bounds_are() {
    let mut turned = sections();
    turned.reverse();
    let digest = hand_off_digest(&sections(), 2048);
    assert_eq!(hand_off_digest(&turned, 2048), digest);
    assert_ne!(hand_off_digest(&sections_of_dstack(), 2048), digest);
    assert_ne!(hand_off_digest(&sections(), 2049), digest);
}

#[test]
fn memory_is_split_where_a_q35_machine_splits_it() {
    let last = |memory_mib: u64| ranges(&sections(), memory_mib << 20).unwrap().pop();
    let low = |end: u64| Some((0x82_0000..end, false));
    let high = |length: u64| Some((1 << 32..(1 << 32) + length, false));
    assert_eq!(last(2048), low(0x8000_0000));
    assert_eq!(last(2815), low(0xaff0_0000));
    assert_eq!(last(2816), high(0x3000_0000));
    assert_eq!(last(4096), high(0x8000_0000));
    let ranges = ranges(&sections(), 4096 << 20).unwrap();
    assert_eq!(ranges[ranges.len() - 2], low(0x8000_0000).unwrap());
}

#[test]
fn sections_that_the_memory_cannot_hold_are_refused() {
    let check = |sections: &[Section], memory_mib, address| {
        let expected = Err(FirmwareError::Memory { address });
        assert_eq!(hand_off_digest(sections, memory_mib), expected);
    };
    check(&sections(), 8, 0x80_0000);
    let mut over = sections();
    over[3].memory.start = 0x80_a000;
    check(&over, 2048, 0x80_a000);
    let mut above = sections();
    above.push(section(Kind::Temporary, 0x9000_0000..0x9000_1000));
    check(&above, 4096, 0x9000_0000);

    let mut none = sections();
    none.remove(4);
    let kind = Kind::HandOffBlocks;
    let expected = Err(FirmwareError::Kind { kind, got: 0 });
    assert_eq!(hand_off_digest(&none, 2048), expected);
}

const OTHER_EVENTS: [&str; 11] = [
    "9dc3a1f80bcec915391dcda5ffbb15e7419f77eab462bbf72b42166fb70d50325e37b36f93537a863769bcf9bedae6fb",
    "6f2e3cbc14f9def86980f5f66fd85e99d63e69a73014ed8a5633ce56eca5b64b692108c56110e22acadcef58c3250f1b",
    "d607c0efb41c0d757d69bca0615c3a9ac0b1db06c557d992e906c6b7dee40e0e031640c7bfd7bcd35844ef9edeadc6f9",
    "08a74f8963b337acb6c93682f934496373679dd26af1089cb4eaf0c30cf260a12e814856385ab8843e56a9acea19e127",
    "18cc6e01f0c6ea99aa23f8a280423e94ad81d96d0aeb5180504fc0f7a40cb3619dd39bd6a95ec1680a86ed6ab0f9828d",
    "394341b7182cd227c5c6b07ef8000cdfd86136c4292b8e576573ad7ed9ae41019f5818b4b971c9effc60e1ad9f1289f0",
    "808202cfefd8d597290e7feae860e9b1859ef072b8cac144df67080643e96831714133e0bfdd85fafd634cddff34f581",
    "62163132ef86193b62d0a0020b340d71bd3486fa2a6958eace22b577a1f8cef8713fd7faaccdfa4ba89dd73c2cf5de5e",
    "8c942249a50354951a2642e8fb045e7202b6590a42e6425d7c38734c4bb7795b9fda636eac0d9b58030e7856449deea8",
    "1dd6f7b457ad880d840d41c961283bab688e94e4b59359ea45686581e90feccea3c624b1226113f824f315eb60ae0a7c",
    "23ada07f5261f12f34a0bd8e46760962d6b4d576a416f1fea1c64bc656b1d28eacf7047ae6e967c58fd2a98bfa74c298",
];
const RTMR0: &str = "252f61b41c0c2560d1fd737b5932fcc0961e7e94a28e702972843afea4bd354ce997c13cba801a16faf18c921cec4474";
