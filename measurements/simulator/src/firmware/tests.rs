//! Firmware files: real ones, and small ones with something wrong.

use super::*;
pub(crate) use without::vector;

pub(crate) const DEBIAN: &str = "firmware/ovmf-2025.02-8+deb13u1.fd";

/// A firmware of two pages of code and one of variables, with metadata as OVMF's and another entry behind it.
fn small() -> Vec<u8> {
    let mut image: Vec<u8> = (0..3 * PAGE).map(|at| (at % 251) as u8).collect();
    let entry = |offset: u32, raw: u32, address: u64, size: u64, kind: u32, attributes: u32| {
        [
            &offset.to_le_bytes()[..],
            &raw.to_le_bytes(),
            &address.to_le_bytes(),
            &size.to_le_bytes(),
            &kind.to_le_bytes(),
            &attributes.to_le_bytes(),
        ]
        .concat()
    };
    let sections = [
        entry(0x1000, 0x2000, 0xffff_e000, 0x2000, 0, 1),
        entry(0, 0x1000, 0xffff_d000, 0x1000, 1, 0),
        entry(0, 0, 0x81_0000, 0x1_0000, 3, 0),
        entry(0, 0, 0x80_9000, 0x2000, 2, 0),
    ];
    let metadata = [
        b"TDVF".as_slice(),
        &words_of([16 + 32 * 4, 1, 4]),
        &sections.concat(),
    ]
    .concat();
    image[METADATA_AT..METADATA_AT + metadata.len()].copy_from_slice(&metadata);

    let from_end = u32::try_from(image.len() - METADATA_AT).unwrap();
    let table = [
        &from_end.to_le_bytes()[..],
        &22u16.to_le_bytes(),
        &METADATA_OFFSET,
        b"something else",
        &32u16.to_le_bytes(),
        &[9; 16],
        &(22u16 + 32 + 18).to_le_bytes(),
        &TABLE_FOOTER,
    ]
    .concat();
    let end = image.len() - 32;
    image[end - table.len()..end].copy_from_slice(&table);
    image
}

fn words_of<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Parses the small firmware with these bytes at this place.
fn check(at: usize, bytes: &[u8], expected: FirmwareError) {
    let mut image = small();
    image[at..at + bytes.len()].copy_from_slice(bytes);
    assert_eq!(Firmware::parse(&image).err(), Some(expected), "{at:#x}");
}

// Debian's: three independent tools agree. Ubuntu's: it is in a quote that a machine of Intel's signed for Cocoon.
#[test]
fn mrtd_of_real_firmware_is_what_others_say() {
    for (name, expected) in [
        (
            DEBIAN,
            "bdc6fb145880f06f30c8b346b8dce2a99d9351b56892df22f80fcf6574caa9f9c31df8e8576d53b4d0cd1c3f28910e11",
        ),
        ("firmware/ovmf-2025.02-3ubuntu2.fd", "7357a10d"),
    ] {
        let Some(image) = vector(name) else { return };
        let mrtd = Firmware::parse(&image).unwrap().mrtd().to_string();
        assert!(mrtd.starts_with(expected), "{name}: {mrtd}");
    }
}

#[test]
fn mrtd_is_over_every_page_in_the_order_of_the_metadata() {
    let image = small();
    let mut hashed = Vec::new();
    let mut record = |name: &[u8], address: u64, bytes: &[u8]| {
        hashed.extend_from_slice(name);
        hashed.resize(hashed.len() + 16 - name.len(), 0);
        hashed.extend_from_slice(&address.to_le_bytes());
        hashed.resize(hashed.len() + 104, 0);
        hashed.extend_from_slice(bytes);
    };
    for page in [0xffff_e000, 0xffff_f000] {
        record(b"MEM.PAGE.ADD", page, &[]);
        for chunk in 0..16 {
            let address = page + 256 * chunk;
            let at = usize::try_from(address - 0xffff_d000).unwrap();
            record(b"MR.EXTEND", address, &image[at..at + 256]);
        }
    }
    record(b"MEM.PAGE.ADD", 0xffff_d000, &[]);
    for page in (0x81_0000..0x82_0000)
        .step_by(PAGE)
        .chain([0x80_9000, 0x80_a000])
    {
        record(b"MEM.PAGE.ADD", page, &[]);
    }
    let firmware = Firmware::parse(&image).unwrap();
    assert_eq!(firmware.mrtd(), Digest48::of(&hashed));
    assert_eq!(
        firmware.configuration_volume(),
        Ok(Digest48::of(&image[..PAGE]))
    );
}

#[test]
fn mrtd_holds_the_code_and_not_the_variables() {
    let image = small();
    let parsed = Firmware::parse(&image).unwrap();
    for at in (0..image.len()).step_by(101) {
        let mut flipped = image.clone();
        flipped[at] ^= 1;
        let Ok(other) = Firmware::parse(&flipped) else {
            continue;
        };
        assert_eq!(other.mrtd() == parsed.mrtd(), at < PAGE, "byte {at:#x}");
        let volume = other.configuration_volume() == parsed.configuration_volume();
        assert_eq!(volume, at >= PAGE, "byte {at:#x}");
    }
}

#[test]
fn sections_that_qemu_would_not_load_are_refused() {
    let at = |index: usize, field: usize| METADATA_AT + 16 + 32 * index + field;
    let wrong = |index, why| FirmwareError::Section { index, why };
    let pages = "not whole pages";
    let bytes = "not the bytes of the file that its kind has";
    check(at(0, 24), &[7], wrong(0, "a kind that QEMU does not load"));
    check(at(1, 24), &[4], wrong(1, "a kind that QEMU does not load"));
    check(at(2, 28), &[2], wrong(2, "attributes other than MR.EXTEND"));
    check(at(2, 28), &[1], wrong(2, "measured without bytes"));
    check(at(0, 8), &[1], wrong(0, pages));
    check(at(0, 16), &[1], wrong(0, pages));
    check(at(3, 16), &[0; 8], wrong(3, pages));
    check(at(3, 4), &[1], wrong(3, bytes));
    check(at(0, 5), &[0x10], wrong(0, bytes));
    check(at(0, 1), &[0x20], wrong(0, "outside the file"));
    check(at(0, 0), &[0xff; 4], wrong(0, "outside the file"));
    check(at(2, 20), &[1], wrong(2, "too much memory"));
    let end = [&[0, 0xf0][..], &[0xff; 6]].concat();
    check(at(2, 8), &end, wrong(2, "past the end of memory"));
    // Each below the limit, together above it.
    let half = 0x0a00_0000u64.to_le_bytes();
    let mut image = small();
    for index in [2, 3] {
        image[at(index, 16)..at(index, 24)].copy_from_slice(&half);
    }
    assert_eq!(
        Firmware::parse(&image).err(),
        Some(FirmwareError::Metadata("the memory of all sections"))
    );
}

#[test]
fn metadata_is_found_or_refused() {
    let length = FirmwareError::Metadata("its length is not its sections'");
    let count = FirmwareError::Metadata("the number of sections");
    let version = FirmwareError::Metadata("it is not TDVF version 1");
    check(METADATA_AT, b"X", version);
    check(METADATA_AT + 8, &[2], version);
    check(METADATA_AT + 4, &[0], length);
    check(METADATA_AT + 12, &[5], length);
    check(METADATA_AT + 12, &[0], count);
    check(METADATA_AT + 12, &[33], count);
    let end = small().len() - 32;
    for at in [end - 1, end - 17, end - 36, end - 66] {
        check(at, &[0x55], FirmwareError::NoMetadata);
    }
    // A table that ends before the entry, or inside it.
    for total in [0, 17, 18, 18 + 32, 18 + 32 + 21] {
        check(end - 18, &[total], FirmwareError::NoMetadata);
    }
    check(end - 72, &[0xff; 4], FirmwareError::NoMetadata);
    check(
        end - 72,
        &[8, 0, 0, 0],
        FirmwareError::Metadata("it is cut"),
    );
}

#[test]
fn no_file_makes_it_panic() {
    let image = small();
    for end in 0..image.len() {
        assert!(Firmware::parse(&image[..end]).is_err(), "{end}");
    }
    for at in (METADATA_AT..METADATA_AT + 144).chain(image.len() - 110..image.len()) {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = image.clone();
            changed[at] = value;
            if let Ok(firmware) = Firmware::parse(&changed) {
                // Whatever it says now, it is said without a panic.
                let _ = (firmware.mrtd(), firmware.configuration_volume());
            }
        }
    }
    let long = vec![0; FIRMWARE_BYTES_MAX + 1];
    let expected = FirmwareError::TooLong { got: long.len() };
    assert_eq!(Firmware::parse(&long).err(), Some(expected));
}

#[test]
fn one_section_holds_the_variables() {
    let mut image = small();
    let kind = METADATA_AT + 16 + 32 + 24;
    let expected = |got| {
        Err(FirmwareError::Kind {
            kind: Kind::ConfigurationVolume,
            got,
        })
    };
    image[kind] = 0;
    let of = |image: &[u8]| Firmware::parse(image).unwrap().configuration_volume();
    assert_eq!(of(&image), expected(0));
    image[kind] = 1;
    image[kind - 32] = 1;
    assert_eq!(of(&image), expected(2));
}

/// In the second page of the code.
const METADATA_AT: usize = 2 * PAGE + 0x100;
