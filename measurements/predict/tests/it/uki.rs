//! Unified kernel images: what is predicted of them, and what is refused.

use crate::common::{made, platform};
use predict::{
    Boot, BootMethod, Edk2Release, EventKind, GptError, Inputs, PageOrder, PredictError,
    PredictedEvent, UkiError,
    acpi::{Qemu, Shape, acpi_files},
    authenticode::PeError,
    direct, predict,
};
use registers::{Digest48, Register};

/// Sections of a plain image.
fn plain() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (".sdmagic", made::SDMAGIC.to_vec()),
        (".sbat", b"sbat,1".to_vec()),
        (".osrel", b"ID=test\nVERSION=1\n".to_vec()),
        (".cmdline", b"console=ttyS0 panic=-1".to_vec()),
        (".uname", b"6.12".to_vec()),
        (".initrd", b"an initrd of 21 bytes".to_vec()),
        (".linux", made::modern_kernel()),
    ]
}

fn image(sections: &[(&'static str, Vec<u8>)]) -> Vec<u8> {
    let borrowed: Vec<_> = sections.iter().map(|(n, c)| (*n, c.as_slice())).collect();
    made::uki(&borrowed)
}

/// [`plain`] with one section put in its place, or added.
fn with(name: &'static str, contents: &[u8]) -> Vec<u8> {
    let mut sections = plain();
    match sections.iter_mut().find(|(present, _)| *present == name) {
        Some(section) => section.1 = contents.to_vec(),
        None => sections.insert(0, (name, contents.to_vec())),
    }
    image(&sections)
}

fn without(name: &str) -> Vec<u8> {
    let mut sections = plain();
    sections.retain(|(present, _)| *present != name);
    image(&sections)
}

const BY_KERNEL: BootMethod<'_> = BootMethod::Kernel { append: None };

fn events(uki: &[u8]) -> Result<Vec<PredictedEvent>, PredictError> {
    let method = BY_KERNEL;
    Boot::Uki { uki, method }.events(Edk2Release::STABLE202502)
}

/// Digest of the joined initrd, which is last.
fn initrd_of(uki: &[u8]) -> Option<Digest48> {
    let events = events(uki).unwrap();
    let last = events.last().unwrap();
    last.from.contains("initrd").then_some(last.digest)
}

/// Boots of Debian's stub and kernel with these sections in QEMU, by the log of the machine's software TPM. The kernel and
/// the stub's own `.sbat` were others than here, so of those two sections only the names are compared.
#[test]
fn rtmr2_is_that_of_real_boots() {
    let initrd = [
        b"070701".to_vec(),
        b"not an archive".repeat(100),
        b"x".to_vec(),
    ]
    .concat();
    let cmdline = (".cmdline", b"console=ttyS0 panic=-1".to_vec());
    let osrel = (".osrel", b"ID=test\nVERSION=1\n".to_vec());
    let uname = (".uname", b"6.12.117+deb13-cloud-amd64".to_vec());
    let initrd = (".initrd", initrd);
    let rich = vec![
        osrel.clone(),
        (".cmdline", b" \tconsole=ttyS0\tpanic=-1 \n\0junk".to_vec()),
        initrd.clone(),
        (".ucode", b"ucode not four.".to_vec()),
        (".splash", b"BMnot a picture".to_vec()),
        uname.clone(),
        (".pcrsig", br#"{"sha384":[]}"#.to_vec()),
        (".pcrpkey", b"-----BEGIN PUBLIC KEY-----\n".to_vec()),
    ];
    let whole = vec![osrel.clone(), cmdline.clone(), uname, initrd.clone()];
    check_boot("plain", &whole, None);
    check_boot("rich", &rich, None);
    check_boot("noosrel", &[cmdline.clone(), initrd.clone()], None);
    check_boot("osronly", &[cmdline.clone(), osrel.clone()], None);
    check_boot("bare", &[cmdline], None);
    check_boot("append", &whole, Some(" console=ttyS0  loglevel=4 "));
    check_boot("nocmdappend", &[osrel, initrd], Some("console=ttyS0 x"));
}

fn check_boot(name: &str, sections: &[(&'static str, Vec<u8>)], append: Option<&str>) {
    let own = [
        (".sdmagic", made::SDMAGIC.to_vec()),
        (".sbat", b"another".to_vec()),
        (".linux", made::modern_kernel()),
    ];
    let uki = image(&[sections, &own].concat());
    let method = BootMethod::Kernel { append };
    let events = Boot::Uki { uki: &uki, method }
        .events(Edk2Release::STABLE202502)
        .unwrap();
    let ours = events.iter().filter(|e| e.register == Register::Rtmr2);
    let ours: Vec<_> = ours.collect();
    let logged = BOOTS.lines().filter_map(|line| line.strip_prefix(name));
    let logged = logged.filter_map(|line| line.strip_prefix(' '));
    let logged: Vec<(u32, Digest48)> = logged
        .map(|line| line.split_once(' ').unwrap())
        .map(|(pcr, digest)| (pcr.parse().unwrap(), digest.parse().unwrap()))
        .filter(|(pcr, _)| (8..=15).contains(pcr))
        .collect();
    assert_eq!(ours.len(), logged.len(), "{name}");
    for (ours, (pcr, digest)) in ours.iter().zip(logged) {
        let others = ["section .linux", "section .sbat"].contains(&ours.from.as_str());
        assert_eq!(ours.digest == digest, !others, "{name}: {ours:?}");
        assert_eq!(pcr == 9, ours.kind == EventKind::Tag, "{name}: {ours:?}");
    }
}

#[test]
fn each_road_has_its_events_in_its_order() {
    let (uki, disk, loader) = (image(&plain()), made::partition_table(), made::kernel());
    let from = |method| {
        let events = Boot::Uki { uki: &uki, method }
            .events(Edk2Release::STABLE202502)
            .unwrap();
        let of = events.iter().filter(|e| e.register == Register::Rtmr1);
        of.map(|event| event.from.split([' ', ',']).next().unwrap().to_owned())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let table = disk.as_slice();
    let by_disk = |loader| from(BootMethod::Disk { table, loader });
    assert_eq!(
        from(BY_KERNEL),
        "unified Calling separator kernel Exit Exit"
    );
    assert_eq!(
        by_disk(None),
        "Calling separator partition unified kernel Exit Exit"
    );
    assert_eq!(
        by_disk(Some(&loader)),
        "Calling separator partition boot unified kernel Exit Exit"
    );
}

/// The firmware's boot options are in RTMR0, and name the disks.
#[test]
fn a_boot_from_a_disk_has_no_whole_prediction() {
    let (uki, table, firmware) = (image(&plain()), made::partition_table(), made::firmware());
    let acpi = acpi_files(&Shape::new(Qemu::V10_0_13, 1, 2048)).unwrap();
    let whole = |method| {
        predict(&Inputs {
            platform: platform(&firmware, 2048),
            page_order: PageOrder::SinglePass,
            acpi: &acpi,
            boot: Boot::Uki { uki: &uki, method },
        })
    };
    let table = &table;
    let loader = None;
    let refused = whole(BootMethod::Disk { table, loader });
    assert_eq!(refused, Err(PredictError::BootOptions));
    let predicted = whole(BY_KERNEL).unwrap().events;
    let boot = events(&uki).unwrap();
    assert_eq!(predicted[predicted.len() - boot.len()..], boot);
}

/// Expected: the header, the number of entries in use, those entries; put together here by hand.
#[test]
fn the_partition_table_is_measured_without_its_free_entries() {
    let (uki, disk) = (image(&plain()), made::partition_table());
    let measured = [
        &disk[512..512 + 92],
        &2u64.to_le_bytes(),
        &disk[1024..1024 + 128],
        &disk[1024 + 256..1024 + 384],
    ]
    .concat();
    let method = BootMethod::Disk {
        table: &disk,
        loader: None,
    };
    let events = Boot::Uki { uki: &uki, method }
        .events(Edk2Release::STABLE202502)
        .unwrap();
    assert_eq!(events[2].kind, EventKind::Gpt);
    assert_eq!(events[2].digest, Digest48::of(&measured));
}

#[test]
fn nearby_partition_tables_are_refused() {
    let uki = image(&plain());
    let with = |edit: &dyn Fn(&mut Vec<u8>), expected: GptError| {
        let mut table = made::partition_table();
        edit(&mut table);
        let method = BootMethod::Disk {
            table: &table,
            loader: None,
        };
        let got = Boot::Uki { uki: &uki, method }.events(Edk2Release::STABLE202502);
        assert_eq!(got, Err(PredictError::Disk(expected)));
    };
    let malformed = |what| GptError::Malformed { what };
    with(&|table| table[512] ^= 1, GptError::Absent);
    with(&|table| table.truncate(600), GptError::Absent);
    let (got, needs) = (3 * 512, 4 * 512);
    with(&|table| table.truncate(got), GptError::Cut { got, needs });
    with(
        &|table| table[512 + 60] ^= 1,
        malformed("the header's checksum is wrong"),
    );
    with(
        &|table| table[1024 + 130] ^= 1,
        malformed("the entries' checksum is wrong"),
    );
    let summed = |at: usize, value: u8| {
        move |table: &mut Vec<u8>| {
            table[512 + at] = value;
            made::sum_up(table);
        }
    };
    let places = malformed("it places itself elsewhere");
    with(&summed(24, 2), places);
    with(&summed(72, 1), places);
    let revision = malformed("its header is not of revision 1.0 with 92 bytes");
    with(&summed(10, 2), revision);
    with(&summed(12, 96), revision);
    let entries =
        malformed("it has no entries, too many, or entries of another size than 128 bytes");
    with(&summed(80, 0), entries);
    with(&summed(81, 0xff), entries);
    with(&summed(85, 1), entries);
}

#[test]
fn each_section_changes_what_it_belongs_to() {
    let image = image(&plain());
    let differs = |name, contents: &[u8]| {
        let (a, b) = (
            events(&image).unwrap(),
            events(&with(name, contents)).unwrap(),
        );
        let pairs = a.iter().zip(&b).filter(|(a, b)| a.digest != b.digest);
        let names: Vec<&str> = pairs.map(|(a, _)| a.from.as_str()).collect();
        names.join("; ")
    };
    let uki = "unified kernel image, Authenticode";
    let joined = "Linux initrd, joined by the stub";
    let options = "LOADED_IMAGE::LoadOptions, section .cmdline";
    assert_eq!(differs(".uname", b"6.13"), format!("{uki}; section .uname"));
    assert_eq!(
        differs(".cmdline", b"other"),
        format!("{uki}; section .cmdline; {options}")
    );
    assert_eq!(
        differs(".initrd", b"other"),
        format!("{uki}; section .initrd; {joined}")
    );
    assert_eq!(
        differs(".osrel", b"other"),
        format!("{uki}; section .osrel; {joined}")
    );
    let mut kernel = made::modern_kernel();
    kernel[0x210] ^= 1;
    assert_eq!(
        differs(".linux", &kernel),
        format!("{uki}; kernel in the image, Authenticode; section .linux")
    );
    // What the stub does not know is in the image's digest and nowhere else.
    assert_eq!(differs(".sdmagic", made::SDMAGIC), "");
}

#[test]
fn one_initrd_alone_is_not_filled_up() {
    let bytes = b"an initrd of 21 bytes";
    assert_eq!(initrd_of(&without(".osrel")), Some(Digest48::of(bytes)));
    let mut neither = plain();
    neither.retain(|(name, _)| ![".osrel", ".initrd"].contains(name));
    assert_eq!(initrd_of(&image(&neither)), None);
}

#[test]
fn other_stubs_are_refused_by_name() {
    let refused = |uki: &[u8], got: &str| {
        let got = got.into();
        assert_eq!(events(uki), Err(UkiError::Stub { got }.into()));
    };
    for name in [
        "systemd-stub 257.12-1",
        "systemd-stub 258",
        "systemd-boot 257.13-1~deb13u1",
    ] {
        let magic = format!("#### LoaderInfo: {name} ####");
        refused(&with(".sdmagic", magic.as_bytes()), name);
    }
    refused(&without(".sdmagic"), "none of systemd");
    refused(&with(".sdmagic", b"LoaderInfo"), "none of systemd");
    let long = format!(
        "#### LoaderInfo: {} ####",
        "x".repeat(predict::limits::STUB_NAME_BYTES_MAX + 1)
    );
    refused(&with(".sdmagic", long.as_bytes()), "none of systemd");
}

#[test]
fn sections_that_no_log_has_shown_are_refused() {
    let trees = "is for machines with device trees, and no log has shown its effect";
    let profiles = "makes one of several profiles, of which the host chooses";
    for (name, what) in [
        (".dtb", trees),
        (".dtbauto", trees),
        (".hwids", trees),
        (".profile", profiles),
    ] {
        let expected = UkiError::Section { name, what };
        assert_eq!(events(&with(name, b"x")), Err(expected.into()));
    }
    let twice = [plain(), vec![(".osrel", b"two".to_vec())]].concat();
    let expected = UkiError::Section {
        name: ".osrel",
        what: "is there twice",
    };
    assert_eq!(events(&image(&twice)), Err(expected.into()));
}

#[test]
fn an_image_needs_a_kernel_that_the_firmware_loads_and_a_command_line() {
    let section = |name, what| Err(UkiError::Section { name, what }.into());
    assert_eq!(events(&without(".linux")), section(".linux", "is missing"));
    assert_eq!(
        events(&with(".linux", &made::kernel())),
        section(
            ".linux",
            "has a kernel before Linux 5.8, which the stub starts unmeasured"
        )
    );
    let what = "no MZ at its start";
    let expected = UkiError::Kernel(PeError::NotEfi { what });
    assert_eq!(events(&with(".linux", b"no")), Err(expected.into()));
    assert_eq!(
        events(&without(".cmdline")),
        section(".cmdline", "is missing, and no command line is passed")
    );
    assert_eq!(
        events(&with(".cmdline", "é".as_bytes())),
        section(".cmdline", "is not ASCII")
    );
    let max = predict::limits::CMDLINE_BYTES_MAX;
    for (text, got) in [(" \n\t".to_owned(), 0), ("x".repeat(max + 1), max + 1)] {
        let refused = Err(PredictError::Cmdline { got, max });
        assert_eq!(events(&with(".cmdline", text.as_bytes())), refused);
    }
}

#[test]
fn the_stubs_command_line_ends_at_a_zero_and_loses_white_space() {
    let same = |text: &[u8]| {
        let events = events(&with(".cmdline", text)).unwrap();
        let options = events.iter().find(|e| e.from.starts_with("LOADED_IMAGE"));
        options.unwrap().digest == direct::rtmr2("a  b", None).unwrap()[0].digest
    };
    for text in ["a  b", " \ta\n b \0c", "a\u{1}\u{7f}b\r\n"] {
        assert!(same(text.as_bytes()), "{text:?}");
    }
    for text in ["a b", "a  b c", "a\0  b"] {
        assert!(!same(text.as_bytes()), "{text:?}");
    }
}

#[test]
fn a_passed_command_line_that_is_taken_for_something_else_is_refused() {
    let uki = image(&plain());
    let pass = |append: &str| {
        let append = Some(append);
        let method = BootMethod::Kernel { append };
        Boot::Uki { uki: &uki, method }.events(Edk2Release::STABLE202502)
    };
    for (append, what) in [("@1 a", "it chooses a profile"), ("  ", "it is blank")] {
        let got = append.into();
        assert_eq!(pass(append), Err(UkiError::Append { got, what }.into()));
    }
    assert!(matches!(pass(""), Err(PredictError::Cmdline { .. })));
    assert!(matches!(pass("a\tb"), Err(PredictError::Cmdline { .. })));
    assert!(pass("a @1").is_ok());
}

#[test]
fn sections_in_impossible_places_are_refused() {
    let check = |index: usize, field: usize, value: u32, expected: UkiError| {
        let mut uki = image(&plain());
        let at = 0x58 + 152 + 40 * index + field;
        uki[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(events(&uki), Err(expected.into()), "{index} {field}");
    };
    let layout = |what| UkiError::Layout { what };
    let share = layout("two of them, or the headers, share bytes");
    let outside = layout("one lies outside the image");
    let osrel = |what| UkiError::Section {
        name: ".osrel",
        what,
    };
    // Fields: bytes in memory, address, bytes in the file, start.
    check(2, 8, 0, osrel("is empty"));
    check(2, 8, 0x201, osrel("is longer in memory than in the file"));
    check(2, 8, u32::MAX, outside.clone());
    check(2, 12, 0x2000, share.clone());
    check(2, 12, 0, share.clone());
    check(2, 12, u32::MAX, outside.clone());
    check(2, 16, 0x400, share.clone());
    check(2, 16, u32::MAX, outside.clone());
    check(2, 20, 0, share.clone());
    check(2, 20, 0x600, share);
    check(2, 20, u32::MAX, outside);
    let mut marked = image(&plain());
    marked[0x202..0x206].copy_from_slice(b"HdrS");
    let expected = layout("it has the mark of a Linux kernel");
    assert_eq!(events(&marked), Err(expected.into()));
}

#[test]
fn no_flip_or_cut_of_an_image_makes_it_panic() {
    let (uki, table) = (image(&plain()), made::partition_table());
    let predict = |uki: &[u8], table: &[u8]| {
        let _ = events(uki);
        let method = BootMethod::Disk {
            table,
            loader: Some(uki),
        };
        let _ = Boot::Uki { uki, method }.events(Edk2Release::STABLE202502);
    };
    // Headers, contents that are read, and the headers of the kernel inside.
    let kernel = uki.len() - 0x400;
    for at in (0..0x300).chain(0x600..0x640).chain(kernel..kernel + 0x180) {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = uki.clone();
            flipped[at] ^= mask;
            predict(&flipped, &table);
        }
    }
    for at in (0..uki.len()).step_by(13) {
        predict(&uki[..at], &table);
    }
    for at in (512..512 + 92).step_by(3) {
        let mut flipped = table.clone();
        flipped[at] ^= 0xff;
        made::sum_up(&mut flipped);
        predict(&uki, &flipped);
        predict(&uki, &flipped[..at]);
    }
}

/// PCR and digest of each event of those boots, from the first program of the boot on.
const BOOTS: &str = include_str!("../vectors/uki-257.13.txt");
