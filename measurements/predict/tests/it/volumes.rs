//! Whether a firmware measures is looked up in its packed volumes; what cannot be read is never taken for "no".

use crate::common::{made, vector, vectors};
use predict::{Firmware, FirmwareBuild, FirmwareError, VolumeError, limits};

fn new(firmware: &[u8]) -> Result<(), FirmwareError> {
    Firmware::new(firmware, FirmwareBuild::STABLE202502).map(drop)
}

/// A firmware whose code begins with these bytes.
fn with_code(code: &[u8]) -> Vec<u8> {
    let mut firmware = made::firmware();
    // As long as the list of sections is away, and nothing else in it.
    firmware[0x1000..0x3000].fill(0xff);
    firmware[0x1000..0x1000 + code.len()].copy_from_slice(code);
    firmware
}

/// A section: u24 length, type, contents.
fn section(kind: u8, contents: &[u8]) -> Vec<u8> {
    let bytes = (4 + contents.len() as u32).to_le_bytes();
    let mut section = [&bytes[..3], &[kind], contents].concat();
    section.resize(section.len().next_multiple_of(4), 0);
    section
}

fn guided(guid: &str, attributes: u8, data: &[u8]) -> Vec<u8> {
    let head = hex::decode(guid).unwrap();
    section(2, &[&head[..], &[24, 0, attributes, 0], data].concat())
}

fn packed_driver() -> Vec<u8> {
    hex::decode(PACKED).unwrap()
}

fn file(sections: &[u8]) -> Vec<u8> {
    made::volume_file("93fd219e729c154c8c4be77f1db2d792", 0x0b, sections)
}

const LZMA: &str = "98584eee143959429d6edc7bd79403cf";
const CRC32: &str = "b0cd1bfc317daa49936aa4600d9dd083";
const OTHER: &str = "5020533dda5cd04f879e0f7f630d5afb";

#[test]
fn the_driver_is_found_where_it_may_be() {
    let volume = made::volume(&[made::driver_file()]);
    let image = section(0x17, &volume);
    for code in [
        volume.clone(),
        made::volume(&[
            made::volume_file(&"00".repeat(16), 7, b"another"),
            made::driver_file(),
        ]),
        made::volume(&[file(&image)]),
        made::volume(&[file(&[section(0x19, b"padding"), image.clone()].concat())]),
        made::volume(&[file(&section(1, &[&[0, 0, 0, 0, 0][..], &image].concat()))]),
        made::volume(&[file(&guided(CRC32, 2, &image))]),
        made::volume(&[file(&guided(LZMA, 1, &packed_driver()))]),
        made::volume(&[file(
            &[guided(OTHER, 1, b"?"), guided(LZMA, 1, &packed_driver())].concat(),
        )]),
    ] {
        assert_eq!(new(&with_code(&code)), Ok(()));
    }
    // A second volume on the next block.
    let mut two = made::volume(&[]);
    two.resize(4096, 0xff);
    assert_eq!(new(&with_code(&[two, volume].concat())), Ok(()));
}

#[test]
fn a_firmware_without_it_measures_nothing() {
    let without = made::volume(&[made::volume_file(&"11".repeat(16), 7, &[])]);
    // Its name in a file of another type, in what a file contains, and behind the volumes.
    let mut raw = made::driver_file();
    raw[18] = 1;
    let named = made::volume_file(&"11".repeat(16), 7, &section(0x19, &made::driver_file()));
    for code in [
        made::volume(&[]),
        without.clone(),
        made::volume(&[raw]),
        made::volume(&[named]),
        [&without[..], &made::driver_file()].concat(),
        made::volume(&[file(&section(0x17, &without))]),
        made::volume(&[file(&guided(
            LZMA,
            1,
            &hex::decode(PACKED_WITHOUT).unwrap(),
        ))]),
    ] {
        assert_eq!(new(&with_code(&code)), Err(FirmwareError::MeasuresNothing));
    }
}

#[test]
fn what_cannot_be_read_is_not_known() {
    let check = |code: &[u8], expected: VolumeError| {
        assert_eq!(new(&with_code(code)), Err(FirmwareError::Volume(expected)));
    };
    let in_file = |sections: &[u8]| made::volume(&[file(sections)]);
    let malformed = |what| VolumeError::Malformed { what };
    check(&[], VolumeError::None);
    check(
        &made::volume(&[made::driver_file()])[1..],
        VolumeError::None,
    );
    let mut long = made::volume(&[made::volume_file(&"11".repeat(16), 7, &[])]);
    long[56 + 20] = 0xff;
    check(&long, malformed("a file"));
    long[56 + 20] = 23;
    check(&long, malformed("a file"));
    check(&in_file(&[3, 0, 0, 0x19]), malformed("a section"));
    check(&in_file(&[9, 0, 0, 0x19]), malformed("a section"));
    check(
        &in_file(&[0xff, 0xff, 0xff, 0x19, 7, 0, 0, 0]),
        malformed("a section"),
    );
    check(&in_file(&[8, 0, 0, 2, 0, 0, 0, 0]), malformed("a section"));
    check(&in_file(&guided(OTHER, 1, b"?")), VolumeError::Packed);
    check(
        &in_file(&section(1, &[0, 0, 0, 0, 1, 7])),
        VolumeError::Packed,
    );
    let packed = packed_driver();
    for cut in 13..packed.len() - 8 {
        let said = new(&with_code(&in_file(&guided(LZMA, 1, &packed[..cut])))).unwrap_err();
        assert!(
            matches!(said, FirmwareError::Volume(VolumeError::Unpack { .. })),
            "{cut}: {said}"
        );
    }
    let over = |what, max| VolumeError::OverLimit { what, max };
    let unpacked = over("unpacked bytes", limits::VOLUMES_UNPACKED_BYTES_MAX);
    for bytes in [limits::VOLUMES_UNPACKED_BYTES_MAX as u64 + 1, u64::MAX] {
        let mut long = packed.clone();
        long[5..13].copy_from_slice(&bytes.to_le_bytes());
        check(&in_file(&guided(LZMA, 1, &long)), unpacked.clone());
    }
    let mut dictionary = packed.clone();
    dictionary[1..5].fill(0xff);
    let said = new(&with_code(&in_file(&guided(LZMA, 1, &dictionary)))).unwrap_err();
    assert!(said.to_string().contains("does not unpack"), "{said}");
    let without = hex::decode(PACKED_WITHOUT).unwrap();
    let many = guided(LZMA, 1, &without).repeat(limits::VOLUMES_PACKED_MAX + 1);
    check(
        &in_file(&many),
        over("packed sections", limits::VOLUMES_PACKED_MAX),
    );
    let mut nested = section(0x19, b"");
    for _ in 0..limits::VOLUMES_DEPTH_MAX + 2 {
        nested = guided(CRC32, 0, &nested);
    }
    check(&in_file(&nested), over("levels", limits::VOLUMES_DEPTH_MAX));
}

#[test]
fn no_flip_or_cut_of_a_packed_volume_makes_it_panic() {
    let packed = made::volume(&[file(&guided(LZMA, 1, &packed_driver()))]);
    for at in 0..packed.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = packed.clone();
            flipped[at] ^= mask;
            let _ = new(&with_code(&flipped));
        }
        let _ = new(&with_code(&packed[..at]));
    }
}

/// Files of distributions: Debian 13's and Ubuntu's measure, Debian 12's does not.
#[test]
fn firmware_of_distributions_is_told_apart() {
    for name in ["ovmf-2025.02-8+deb13u1.fd", "ovmf-2025.02-3ubuntu2.fd"] {
        let Some(mut bytes) = vector(&format!("firmware/{name}")) else {
            return;
        };
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(FirmwareBuild::known(&bytes), None);
        assert_eq!(new(&bytes), Ok(()), "{name}");
    }
    let path = vectors().join("../cases/02-edk2-without-cc-measurement/OVMF.fd");
    match std::fs::read(path) {
        Ok(bytes) => assert_eq!(new(&bytes), Err(FirmwareError::MeasuresNothing)),
        Err(_) => without::skip(
            "a firmware that measures nothing",
            "there is no directory shared/cases beside the clone",
        ),
    }
}

/// Of a section with a volume whose one file is the driver: `lzma.compress(section, lzma.FORMAT_ALONE)` of Python, with its length.
const PACKED: &str = "5d001000006c000000000000000036002c2e00dbfdca8c091b3a7be4c874f6ca94750ce5216c374b4f9f969d1befdf30357b2a17214bd37df44585f6c81f60bfff929e0000";
/// Of a section with a volume whose one file is another: `lzma.compress(section, lzma.FORMAT_ALONE)` of Python, with its length.
const PACKED_WITHOUT: &str = "5d001000006c000000000000000036002c2e00dbfdca8c091b3a7be4c874f6ca7a49a8cd250a56e06c94b0093822cbfffed0f800";
