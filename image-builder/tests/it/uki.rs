//! Unified kernel images as they are written, by another reader: the one that predicts what they measure.

use crate::parts::stub;
use image_builder::formats::uki::{Parts, UkiError, lay_out};
use image_builder::limits::UKI_BYTES_MAX;
use predict::{Boot, BootMethod};

/// A program, as little of one as its reader allows.
fn kernel() -> Vec<u8> {
    let mut kernel = stub(0);
    kernel[0x58 + 44] = 1;
    kernel
}

fn parts<'a>(stub: &'a [u8], kernel: &'a [u8]) -> Parts<'a> {
    Parts {
        stub,
        os_release: Some("ID=test\n"),
        cmdline: "quiet",
        uname: Some("6.12"),
        initrd: Some(b"an initrd"),
        kernel,
    }
}

fn written(parts: &Parts<'_>) -> Vec<u8> {
    let image = lay_out(parts).unwrap();
    let mut bytes = Vec::new();
    image.write(&mut bytes).unwrap();
    assert_eq!(image.bytes(), bytes.len() as u64);
    bytes
}

#[test]
fn what_is_written_can_be_predicted() {
    let (stub, kernel) = (stub(5), kernel());
    let uki = written(&parts(&stub, &kernel));
    let method = BootMethod::Kernel { append: None };
    let events = Boot::Uki { uki: &uki, method }
        .events(predict::Edk2Release::STABLE202502)
        .unwrap();
    let sections: Vec<&str> = events
        .iter()
        .filter_map(|event| event.from.strip_prefix("section "))
        .filter(|name| !name.ends_with("its name"))
        .collect();
    assert_eq!(
        sections,
        [".linux", ".osrel", ".cmdline", ".initrd", ".uname"]
    );
}

#[test]
fn the_same_parts_give_the_same_image_and_others_another() {
    let (stub, kernel) = (stub(5), kernel());
    let parts = parts(&stub, &kernel);
    assert_eq!(written(&parts), written(&parts));
    let others = [
        Parts {
            os_release: None,
            ..parts
        },
        Parts {
            cmdline: "loud",
            ..parts
        },
        Parts {
            uname: None,
            ..parts
        },
        Parts {
            initrd: None,
            ..parts
        },
        Parts {
            initrd: Some(b"an initrd\0"),
            ..parts
        },
    ];
    for other in others {
        assert_ne!(written(&other), written(&parts), "{other:?}");
    }
}

#[test]
fn nothing_is_written_over_and_nothing_between_is_left() {
    let (stub, kernel) = (stub(5), kernel());
    let uki = written(&parts(&stub, &kernel));
    let headers = 0x400;
    // Of the stub's headers, only the counts and sizes and the checksum change, and the sandbox is used.
    let changed: Vec<usize> = (0..headers - 5 * 40)
        .filter(|at| uki[*at] != stub[*at])
        .collect();
    assert_eq!(changed, [0x46, 0x58 + 9, 0x58 + 57, 0x58 + 64]);
    assert_eq!(uki[headers..stub.len()], stub[headers..]);
    assert_eq!(uki.len(), stub.len() + 4 * 0x200 + kernel.len());
    assert_eq!(uki[uki.len() - kernel.len()..], kernel);
}

#[test]
fn stubs_that_cannot_be_extended_are_refused() {
    let kernel = kernel();
    let check = |edit: &dyn Fn(&mut Vec<u8>), why| {
        let mut stub = stub(5);
        edit(&mut stub);
        let refused = lay_out(&parts(&stub, &kernel)).unwrap_err();
        assert_eq!(refused, UkiError::Stub(why));
    };
    let set = |at: usize, value: u8| move |stub: &mut Vec<u8>| stub[at] = value;
    check(&set(0, 0), "it is no program");
    check(&set(0x40, 0), "it is no program");
    check(&set(0x44, 0x4c), "it is none for 64-bit x86");
    check(&set(0x58 + 37, 3), "its alignment is none");
    check(&set(0x58 + 148, 1), "it is signed");
    check(&set(0x46, 2), "its headers have no room for more sections");
    check(
        &|stub| stub.push(0),
        "its headers or sections end at odd places",
    );
    let after = "it does not end with its last section";
    check(&|stub| stub.extend([0; 0x200]), after);
    for end in [0x3f, 0x43, 0x57, 0x90] {
        let why = match end {
            0x43 => "it is no program",
            0x57 => "it is none for 64-bit x86",
            _ => "its headers are cut off",
        };
        check(&|stub| stub.truncate(end), why);
    }
    let small = stub(4);
    let refused = lay_out(&parts(&small, &kernel)).unwrap_err();
    assert_eq!(
        refused,
        UkiError::Stub("its headers have no room for more sections")
    );
}

#[test]
fn empty_parts_and_too_long_images_are_refused() {
    let (stub, kernel) = (stub(5), kernel());
    let parts = parts(&stub, &kernel);
    let check = |parts: &Parts<'_>, name| {
        assert_eq!(lay_out(parts).unwrap_err(), UkiError::Empty(name));
    };
    check(
        &Parts {
            os_release: Some(""),
            ..parts
        },
        ".osrel",
    );
    check(
        &Parts {
            cmdline: "",
            ..parts
        },
        ".cmdline",
    );
    check(
        &Parts {
            initrd: Some(b""),
            ..parts
        },
        ".initrd",
    );
    check(
        &Parts {
            kernel: b"",
            ..parts
        },
        ".linux",
    );
    // Never touched, so it takes no memory.
    let long = vec![0; UKI_BYTES_MAX as usize];
    let initrd = Some(long.as_slice());
    let refused = lay_out(&Parts { initrd, ..parts }).unwrap_err();
    assert!(matches!(refused, UkiError::TooLong { got } if got > UKI_BYTES_MAX));
}

#[test]
fn no_flip_or_cut_of_a_stub_makes_it_panic() {
    let (whole, kernel) = (stub(5), kernel());
    for at in 0..whole.len() {
        let _ = lay_out(&parts(&whole[..at], &kernel));
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = whole.clone();
            flipped[at] ^= mask;
            let _ = lay_out(&parts(&flipped, &kernel));
        }
    }
}
