//! Files from strangers: a typed error or a value, never a panic, and each nearby file refused for its own reason.

use crate::common::{made, platform};
use predict::{
    Edk2Release, Firmware, FirmwareBuild, PageOrder, Platform, PredictError, StoreError,
    acpi::files::{AcpiError, AcpiFiles, TABLE_LOADER, allocated_by},
    authenticode::{PeError, authenticode},
    direct, mrtd, rtmr0,
    tdvf::{SectionKind, Tdvf, TdvfError},
};
use registers::Digest48;

/// Calls `check` with every byte flipped in three ways, and with every cut.
fn flips_and_cuts(bytes: &[u8], mut check: impl FnMut(&[u8])) {
    for at in 0..bytes.len() {
        check(&bytes[..at]);
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= mask;
            check(&flipped);
        }
    }
}

#[test]
fn no_flip_or_cut_of_a_firmware_makes_it_panic() {
    let firmware = made::firmware();
    // What a parser reads is the descriptor and the table at the end; the rest is only hashed.
    for at in (0x3000..0x3100).chain(0x3f80..0x4000) {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = firmware.clone();
            flipped[at] ^= mask;
            if let Ok(firmware) = Firmware::new(&flipped, FirmwareBuild::STABLE202502) {
                let _ = rtmr0(&Platform::new(firmware, 2048), &made::acpi());
            }
            let _ = mrtd(&flipped, PageOrder::SinglePass);
        }
    }
    for at in (0..firmware.len()).step_by(7) {
        assert!(Tdvf::parse(&firmware[..at]).is_err());
        let _ = Tdvf::parse(&firmware[at..]);
    }
}

fn check_firmware(edit: impl FnOnce(&mut Vec<u8>), expected: TdvfError) {
    let mut firmware = made::firmware();
    edit(&mut firmware);
    assert_eq!(Tdvf::parse(&firmware).unwrap_err(), expected);
    assert_eq!(mrtd(&firmware, PageOrder::TwoPass), Err(expected));
}

#[test]
fn nearby_firmware_is_refused() {
    let malformed = |what| TdvfError::Malformed { what };
    const SECTION: usize = 0x3010;
    let put = |at: usize, value: u32| {
        move |file: &mut Vec<u8>| file[at..at + 4].copy_from_slice(&value.to_le_bytes())
    };
    let unknown = |index, kind, attributes| TdvfError::SectionUnknown {
        index,
        kind,
        attributes,
    };
    let table = "the table of GUIDs";
    let entry = "the offset of the TDVF descriptor";
    check_firmware(|f| f[0x3fd0] ^= 1, TdvfError::NotTdx { missing: table });
    check_firmware(|f| f[0x3fbf] ^= 1, TdvfError::NotTdx { missing: entry });
    check_firmware(
        put(0x3000, 0),
        malformed("the descriptor does not begin with TDVF"),
    );
    check_firmware(put(0x3008, 2), TdvfError::Version { got: 2 });
    check_firmware(
        put(0x300c, 3),
        malformed("the descriptor's length is not that of its sections"),
    );
    check_firmware(
        put(0x300c, u32::MAX),
        TdvfError::OverLimit {
            what: "sections",
            max: predict::limits::TDVF_SECTIONS_MAX as u64,
        },
    );
    check_firmware(
        put(SECTION, u32::MAX),
        malformed("a section's bytes lie past the file"),
    );
    check_firmware(
        put(SECTION + 8, 1),
        malformed("a section's memory does not lie on pages"),
    );
    check_firmware(
        put(SECTION + 12, u32::MAX),
        malformed("a section's memory lies past all addresses"),
    );
    check_firmware(
        put(SECTION + 16, 0x1000),
        malformed("a section has more bytes than memory"),
    );
    check_firmware(
        put(SECTION + 20, 1),
        TdvfError::OverLimit {
            what: "bytes of memory",
            max: predict::limits::TDVF_MEMORY_BYTES_MAX,
        },
    );
    check_firmware(put(SECTION + 24, 7), unknown(0, 7, 1));
    check_firmware(put(SECTION + 28, 4), unknown(0, 0, 4));
    check_firmware(
        put(SECTION + 2 * 32 + 8, 0x80_b000),
        malformed("two sections share memory"),
    );
    check_firmware(
        put(SECTION + 3 * 32 + 24, 2),
        TdvfError::NotOne {
            kind: SectionKind::TdHob,
            got: 2,
        },
    );
}

#[test]
fn a_firmware_with_variables_of_its_own_has_no_prediction() {
    let with = |at: usize, value: u8| {
        let mut firmware = made::firmware();
        firmware[at] = value;
        rtmr0(&platform(&firmware, 2048), &made::acpi())
    };
    assert!(with(0xfff, 0).is_ok(), "free space is not read");
    for (at, value) in [(100, 0xaa), (101, 0x55), (40, 0), (48, 73), (72, 0)] {
        assert_eq!(with(at, value), Err(StoreError::NotRead.into()), "{at}");
    }
}

#[test]
fn memory_must_hold_the_firmware_and_have_an_end() {
    let with = |memory_mib| rtmr0(&platform(&made::firmware(), memory_mib), &made::acpi());
    for got_mib in [0, 1, 8, predict::limits::MEMORY_MIB_MAX + 1, u64::MAX] {
        assert_eq!(with(got_mib), Err(PredictError::Memory { got_mib }));
    }
    for good in [9, 2815, 2816, predict::limits::MEMORY_MIB_MAX] {
        assert!(with(good).is_ok());
    }
}

#[test]
fn no_flip_or_cut_of_a_kernel_makes_it_panic() {
    flips_and_cuts(&made::kernel(), |bytes| {
        let _ = authenticode(bytes);
    });
}

/// Expected value: python3, hashlib.sha384 over the file without checksum, certificate entry and certificate.
#[test]
fn authenticode_leaves_out_the_checksum_and_the_certificates_and_nothing_else() {
    let kernel = made::kernel();
    let digest = authenticode(&kernel).unwrap();
    assert_eq!(digest.to_string(), KERNEL_AUTHENTICODE);
    let left_out = [0x98..0x9c, 0xe8..0xec, 0x360..0x380];
    for at in 0x200..kernel.len() {
        let mut flipped = kernel.clone();
        flipped[at] ^= 1;
        let same = authenticode(&flipped) == Ok(digest);
        assert_eq!(
            same,
            left_out.iter().any(|range| range.contains(&at)),
            "{at:#x}"
        );
    }
    for at in left_out[..2].iter().cloned().flatten() {
        let mut flipped = kernel.clone();
        flipped[at] ^= 1;
        assert_eq!(authenticode(&flipped), Ok(digest), "{at:#x}");
    }
}

#[test]
fn nearby_kernels_are_refused() {
    let check = |at: usize, bytes: &[u8], expected: PeError| {
        let mut kernel = made::kernel();
        kernel[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(authenticode(&kernel), Err(expected.clone()));
        assert_eq!(
            direct::rtmr1(&kernel, Edk2Release::STABLE202502),
            Err(PredictError::Kernel(expected))
        );
    };
    let not_efi = |what| PeError::NotEfi { what };
    let malformed = |what| PeError::Malformed { what };
    check(0, b"ZM", not_efi("no MZ at its start"));
    check(0x40, b"NE", not_efi("no PE header"));
    check(0x3c, &[0xff; 4], not_efi("no PE header"));
    check(0x44, &[0x4c, 0x01], not_efi("another machine"));
    check(0x58, &[0x0b, 0x01], not_efi("no PE32+ header"));
    let max = predict::limits::PE_SECTIONS_MAX;
    check(0x46, &[97, 0], PeError::Sections { got: 97, max });
    check(0x46, &[96, 0], malformed("the list of sections is cut off"));
    check(
        0x58 + 60,
        &[0x10, 0, 0, 0],
        malformed("a header field lies outside the headers"),
    );
    check(
        0x58 + 152 + 20,
        &[0x01, 0x03],
        malformed("a section lies past the file"),
    );
    check(
        0x58 + 148,
        &[0x81, 0, 0, 0],
        malformed("the certificates are longer than what follows the sections"),
    );
}

#[test]
fn no_flip_or_cut_of_a_table_loader_makes_it_panic() {
    let loader = made::table_loader(&["etc/acpi/rsdp", "etc/acpi/tables"]);
    flips_and_cuts(&loader[..640], |bytes| {
        let _ = allocated_by(bytes);
        let mut acpi = made::acpi();
        acpi.insert(TABLE_LOADER.into(), bytes.to_vec());
        let _ = rtmr0(&platform(&made::firmware(), 2048), &acpi);
    });
}

#[test]
fn nearby_acpi_files_are_refused() {
    let check = |edit: &dyn Fn(&mut AcpiFiles), expected: AcpiError| {
        let mut acpi = made::acpi();
        edit(&mut acpi);
        let refusal = rtmr0(&platform(&made::firmware(), 2048), &acpi);
        assert_eq!(refusal, Err(PredictError::Acpi(expected)));
    };
    let missing = |name: &str| AcpiError::Missing { name: name.into() };
    let wrong = |index, what| AcpiError::Loader { index, what };
    let loader = |at: usize, value: u8| {
        move |acpi: &mut AcpiFiles| acpi.get_mut(TABLE_LOADER).unwrap()[at] = value
    };
    check(&|acpi| acpi.clear(), missing(TABLE_LOADER));
    for name in ["etc/acpi/rsdp", "etc/acpi/tables"] {
        check(&|acpi| drop(acpi.remove(name)), missing(name));
    }
    let extra = "etc/tpm/log";
    check(
        &|acpi| drop(acpi.insert(extra.into(), vec![0])),
        AcpiError::Unnamed { name: extra.into() },
    );
    let max = predict::limits::ACPI_BLOB_BYTES_MAX;
    let long = "etc/acpi/tables";
    check(
        &|acpi| drop(acpi.insert(long.into(), vec![0; max + 1])),
        AcpiError::TooLong {
            name: long.into(),
            got: max + 1,
            max,
        },
    );
    check(&loader(4, b'x'), missing("xtc/acpi/rsdp"));
    check(&loader(4, 0), wrong(0, "its file name is not plain text"));
    check(
        &loader(128 + 59, b'x'),
        wrong(1, "its file name is not plain text"),
    );
    check(
        &loader(0, 5),
        wrong(0, "it is none that this program knows"),
    );
    check(
        &|acpi| {
            let twice = made::table_loader(&["etc/acpi/rsdp", "etc/acpi/rsdp"]);
            acpi.insert(TABLE_LOADER.into(), twice);
        },
        wrong(1, "it allocates a file a second time"),
    );
    check(
        &|acpi| acpi.get_mut(TABLE_LOADER).unwrap().truncate(4000),
        wrong(31, "it is cut off"),
    );
}

#[test]
fn command_lines_that_are_not_measured_as_they_are_have_no_prediction() {
    let refused = |cmdline: &str| {
        let (got, max) = (cmdline.len(), predict::limits::CMDLINE_BYTES_MAX);
        let expected = Err(PredictError::Cmdline { got, max });
        assert_eq!(direct::rtmr2(cmdline, Some(b"initrd")), expected);
        assert_eq!(direct::rtmr2(cmdline, None), expected);
    };
    for bad in ["", "a\nb", "a\tb", "a\0", "é", "\u{7f}"] {
        refused(bad);
    }
    refused(&"x".repeat(predict::limits::CMDLINE_BYTES_MAX + 1));
    assert!(direct::rtmr2(&"x".repeat(predict::limits::CMDLINE_BYTES_MAX), None).is_ok());
    assert_eq!(
        direct::rtmr2("x", Some(b"")),
        Err(PredictError::Initrd { got: 0 })
    );
}

#[test]
fn the_command_line_is_measured_as_utf16_with_the_firmwares_addition() {
    let expected = Digest48::of(b"q\0 \0i\0n\0i\0t\0r\0d\0=\0i\0n\0i\0t\0r\0d\0\0\0");
    let events = direct::rtmr2("q", Some(b"initrd")).unwrap();
    assert_eq!(events[0].digest, expected);
    assert_eq!(events[1].digest, Digest48::of(b"initrd"));
    let events = direct::rtmr2("q", None).unwrap();
    assert_eq!(
        (events.len(), events[0].digest),
        (1, Digest48::of(b"q\0\0\0"))
    );
}

const KERNEL_AUTHENTICODE: &str = "ad8a89d8483a6ed838b78dd9e5e8948f965e21166c12b7a23f75362e66a30e1767c398d37daab4d04456400a33147e18";
