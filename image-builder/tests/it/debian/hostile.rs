//! Packages that have the digest in the lock and are not what they should be.

use std::fs;
use std::io::{Read, Write};

use flate2::write::GzEncoder;
use image_builder::error::Fault;
use image_builder::formats::deb::{Deb, DebError, Kind};
use image_builder::formats::deb_scripts::install_scripts;
use image_builder::lock::Role;
use image_builder::store::ensure_tree;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use tar::EntryType;

use super::archive::Archive;
use super::made_packages::{Made, ar_of, crc32, deb, deb_of, lock_of, tar_of, xz_stored};
use super::trees::HELLO;

/// Tries to make a tree of this package: it has to fail for this reason, leave nothing, and name the package.
fn refused(bytes: &[u8], expected: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let store = image_builder::store::Store::at(directory.path().join("store"));
    let archive = Archive::start();
    let lock = lock_of(&archive, &[("evil", bytes)]);
    let packages = lock.closure(Role::Run);
    let error = ensure_tree(&store, &lock, &packages, &mut |_| {}).expect_err(expected);
    assert!(error.to_string().contains(expected), "{expected}: {error}");
    assert!(
        { error.to_string() }.starts_with("evil is the package in the lock, but "),
        "{error}"
    );
    assert_eq!(error.fault(), Fault::Lock);
    let trees = fs::read_dir(store.root().join("trees")).expect("made");
    assert_eq!(trees.count(), 0, "nothing stays");
    let beside = fs::read_dir(directory.path()).expect("there");
    assert_eq!(beside.count(), 1, "nothing outside the store");
}

#[test]
fn paths_that_leave_the_tree_are_refused() {
    refused(&deb(&[Made::File("../evil", 0o644, b"x")]), "with `..`");
    refused(
        &deb(&[Made::File("./usr/../../evil", 0o644, b"x")]),
        "with `..`",
    );
    refused(&deb(&[Made::File("/evil", 0o644, b"x")]), "absolute path");
    refused(&deb(&[Made::Directory("./a/..")]), "with `..`");
    refused(
        &deb(&[Made::File("./a\nb", 0o644, b"x")]),
        "control character",
    );
    refused(
        &deb(&[Made::File("./", 0o644, b"x")]),
        "the root and no directory",
    );
    let long = tar_long("L", &format!("./{}", "a".repeat(256)));
    refused(&deb_of("data.tar", &long), "too long");
    let longer = tar_long("L", &"a/".repeat(2000));
    refused(&deb_of("data.tar", &longer), "bytes in a path");
    let link = tar_long("K", &"a/".repeat(2000));
    refused(&deb_of("data.tar", &link), "bytes in a path");
}

/// A GNU long name or link, and a file to go with it.
fn tar_long(kind: &str, text: &str) -> Vec<u8> {
    let mut content = text.as_bytes().to_vec();
    content.push(0);
    let long = tar_of(&[Made::File("././@LongLink", 0o644, &content)]);
    let mut archive = long[..long.len() - 1024].to_vec();
    archive[156] = kind.as_bytes()[0];
    let sum = header_sum(&archive[..512]);
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    archive.extend(tar_of(&[Made::File("./short", 0o644, b"x")]));
    archive
}

fn header_sum(header: &[u8]) -> u32 {
    let outside = |(at, byte): (usize, &u8)| {
        let blank = (148..156).contains(&at);
        if blank { 32 } else { u32::from(*byte) }
    };
    header.iter().enumerate().map(outside).sum()
}

#[test]
fn links_that_leave_the_tree_are_refused() {
    let link = |name, target| deb(&[Made::Link(name, EntryType::Symlink, target)]);
    refused(&link("./evil", "../outside"), "leaves the root");
    refused(
        &link("./usr/share/evil", "../../../outside"),
        "leaves the root",
    );
    refused(&link("./bin/evil", "../../../outside"), "leaves the root");
    // Harmless by its letters, and out of the tree once `deep` leads up: a climb has to come first.
    refused(
        &link("./a/b/evil", "deep/../.."),
        "climbs after it descended",
    );
    refused(&link("./evil", ""), "link to nothing");
    refused(
        &link("./bin", "usr/share"),
        "in place of a merged directory",
    );
    let hard = |target| deb(&[Made::Link("./usr/evil", EntryType::Link, target)]);
    refused(&hard("../../etc/passwd"), "with `..`");
    refused(&hard("/etc/passwd"), "absolute path");
    refused(&hard("./usr/missing"), "link to no file of its package");
    let through = [
        Made::Link("./usr/there", EntryType::Symlink, "../etc"),
        Made::File("./usr/there/evil", 0o644, b"x"),
    ];
    refused(&deb(&through), "below a file or link");
    let onto = [
        Made::Link("./usr/there", EntryType::Symlink, "../etc/passwd"),
        Made::File("./usr/there", 0o644, b"x"),
    ];
    refused(&deb(&onto), "is there already");
    let hard_to_link = [
        Made::Link("./usr/there", EntryType::Symlink, "../etc/passwd"),
        Made::Link("./usr/evil", EntryType::Link, "./usr/there"),
    ];
    refused(&deb(&hard_to_link), "link to no file of its package");
}

#[test]
fn what_is_no_file_is_refused() {
    for kind in [
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
        EntryType::XGlobalHeader,
        EntryType::new(b'?'),
    ] {
        let device = deb(&[Made::Link("./dev/evil", kind, "")]);
        refused(&device, "is no directory, file or link");
    }
    let header = Made::Link("./dev/evil", EntryType::XHeader, "");
    refused(&deb(&[header]), "ends with a header of no entry");
}

#[test]
fn more_than_a_tree_may_have_is_refused_before_it_is_written() {
    let huge = deb(&[Made::Lying("./usr/huge", 1 << 40, b"x")]);
    refused(&huge, "bytes, with the packages before it");
    let early = deb(&[Made::Lying("./usr/early", 5000, b"x")]);
    refused(&early, "ends early");
    let deep = tar_long("L", &"a/".repeat(100));
    refused(&deb_of("data.tar", &deep), "of too many parts");
}

/// The same bytes for ever.
struct Endless(Vec<u8>, usize);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let part = &self.0[self.1..];
        let got = part.len().min(buffer.len());
        buffer[..got].copy_from_slice(&part[..got]);
        self.1 = (self.1 + got) % self.0.len();
        Ok(got)
    }
}

#[test]
fn a_package_without_an_end_is_refused() {
    let check = |content: &mut dyn Read, expected: &str| {
        let mut start = deb_of("data.tar", b"");
        let size = start.len() - 12;
        start[size..size + 10].copy_from_slice(b"9999999999");
        let endless = Deb::open((&start[..]).chain(content)).expect("a header");
        let error = endless.entries::<DebError>(|_| Ok(())).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    };
    // What a few kilobytes of xz can unpack to.
    let header = &tar_of(&[Made::Lying("./usr/huge", 1 << 40, b"")])[..512];
    check(
        &mut header.chain(std::io::repeat(0)),
        "bytes of data unpacked",
    );
    let header = tar_of(&[Made::File("./usr/again", 0o644, b"")])[..512].to_vec();
    check(&mut Endless(header, 0), "more than 200000 entries");
}

#[test]
fn other_compressions_are_refused_by_name() {
    for name in ["data.tar.lzma", "data.tar.bz2", "data.tarx"] {
        refused(&deb_of(name, b"x"), &format!("`{name}`"));
    }
    for name in ["data.tar.zst", "data.tar.gz"] {
        refused(&deb_of(name, b"x"), "its data is broken");
    }
}

#[test]
fn a_container_that_is_no_package_is_refused() {
    refused(b"x", "not a Debian package");
    refused(b"!<arch>\n", "not a Debian package");
    refused(&ar_of(&[("data.tar", b"x")]), "debian-binary is not first");
    for (version, said) in [
        (&b"3.0\n"[..], "says `3.0`"),
        (b"2\n", "says `2`"),
        (b"2.\n", "says `2.`"),
        (b"2.0\r\n", "says `2.0\\r`"),
        (b"2.0 \n", "says `2.0 `"),
        (b"\n2.0\n", "says ``"),
        (b"", "says ``"),
    ] {
        refused(&ar_of(&[("debian-binary", version)]), "format is not 2.0");
        refused(&ar_of(&[("debian-binary", version)]), said);
    }
    refused(
        &ar_of(&[("debian-binary", b"2.0\n")]),
        "not a Debian package",
    );
    let many: Vec<(&str, &[u8])> = std::iter::once(("debian-binary", &b"2.0\n"[..]))
        .chain(std::iter::repeat_n(("_more", &b"x"[..]), 40))
        .collect();
    refused(&ar_of(&many), "members before its data");
    // Two ends that stay as they are, and what dpkg gives up at between them.
    let with = |between: &[(&str, &[u8])]| {
        let tar = tar_of(&[Made::File("./usr/file", 0o644, b"x")]);
        let start = [("debian-binary", &b"2.0\n"[..])];
        ar_of(&[&start, between, &[("data.tar", tar.as_slice())]].concat())
    };
    let control = ("control.tar.xz", &b"x"[..]);
    for good in [
        &[control][..],
        &[("_gpgorigin", b"odd"), control, ("_more/", b"")],
        &[("control.tar", b"")],
        &[("control.tar.zst/", b"xyz")],
    ] {
        assert_eq!(entries(&with(good)).map(|all| all.len()), Ok(1));
    }
    for (bad, name) in [
        (&[][..], "data.tar"),
        (&[control, control], "control.tar.xz"),
        (&[control, ("extra", b"x")], "extra"),
        (&[("debian-binary", b"2.0\n"), control], "debian-binary"),
        (&[("data.tar", b"x"), control], "data.tar"),
    ] {
        refused(&with(bad), &format!("its member `{name}` is not one of"));
    }
    let good = deb(&[Made::File("./usr/file", 0o644, b"x")]);
    let text = String::from_utf8_lossy(&good).into_owned();
    let size = text
        .find("15        `")
        .expect("the size of control.tar.xz");
    let mut bad = good;
    bad[size] = b'-';
    refused(&bad, "header of its members is malformed");
}

#[test]
fn broken_or_greedy_compression_is_refused() {
    let tar = tar_of(&[Made::File("./usr/file", 0o644, &[7; 5000])]);
    let packed = xz_stored(&tar);
    // The same, whole, is fine: the cases below fail for their reason and no other.
    let whole = deb_of("data.tar.xz", &packed);
    assert_eq!(entries(&whole).map(|all| all.len()), Ok(1));
    refused(
        &deb_of("data.tar.xz", &packed[..packed.len() - 40]),
        "broken",
    );
    refused(&deb_of("data.tar.xz", b"not xz"), "broken");
    // A dictionary of 4 GiB less one byte: refused from its header, before it is allocated.
    let mut greedy = packed.clone();
    greedy[16] = 40;
    let sum = [2u8, 0, 0x21, 1, 40, 0, 0, 0];
    greedy[20..24].copy_from_slice(&crc32(&sum));
    refused(&deb_of("data.tar.xz", &greedy), "needed memory too big");
}

#[test]
fn the_first_line_of_debian_binary_says_the_format_and_more_lines_say_nothing() {
    let tar = tar_of(&[Made::File("./usr/file", 0o644, b"x")]);
    let long = [&b"2.0\n"[..], &[b'x'; 5001]].concat();
    for version in [
        &b"2.0\n"[..],
        b"2.0",
        b"2.1\n",
        b"2.17\n",
        b"2.0\nanother line\n",
        b"2.0\n\n",
        &long,
    ] {
        let control = ("control.tar", &b""[..]);
        let deb = ar_of(&[("debian-binary", version), control, ("data.tar", &tar)]);
        assert_eq!(entries(&deb).map(|all| all.len()), Ok(1), "{version:?}");
        assert!(install_scripts(&deb[..]).is_ok(), "{version:?}");
    }
}

/// What compresses a piece, by the suffix of its members.
type Pack = fn(&[u8]) -> Vec<u8>;
const COMPRESSIONS: [(&str, Pack); 3] = [
    (".xz", xz_stored),
    (".zst", |bytes| {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }),
    (".gz", |bytes| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    }),
];

#[test]
fn what_lies_behind_a_compressed_stream_is_judged_alike_in_every_format() {
    let tar = tar_of(&[
        Made::File("./usr/file", 0o644, &[7; 5000]),
        Made::File("./usr/other", 0o644, b"x"),
    ]);
    let control = tar_of(&[Made::File("./postinst", 0o755, b"#!/bin/sh\n")]);
    const BEHIND: &str = "it goes on behind its end with other bytes than a further stream";
    for (suffix, pack) in COMPRESSIONS {
        // Of the data and of the control archive.
        let read = |change: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            let whole = deb_of(&format!("data.tar{suffix}"), &change(pack(&tar)));
            let all = entries(&whole).map(|all| all.len());
            let members = [("debian-binary", &b"2.0\n"[..])];
            let name = format!("control.tar{suffix}");
            let packed = change(pack(&control));
            let scripts = ar_of(&[&members, &[(name.as_str(), packed.as_slice())][..]].concat());
            let scripts = install_scripts(&scripts[..]).map(|scripts| scripts.len());
            match (all, scripts) {
                (Ok(2), Ok(1)) => Ok(()),
                (Err(one), Err(other)) => {
                    assert_eq!(one, other, "{suffix}");
                    Err(one.to_string())
                }
                other => panic!("{suffix}: {other:?}"),
            }
        };
        let behind = |more: &[u8]| read(&|packed| [&packed, more].concat());
        assert_eq!(read(&|packed| packed), Ok(()), "{suffix}");
        assert_eq!(behind(&pack(b"")), Ok(()), "{suffix}");
        assert_eq!(
            behind(&[pack(b""), pack(&[0; 512]), pack(b"")].concat()),
            Ok(()),
            "{suffix}"
        );
        for garbage in [
            &b"x"[..],
            b"\n",
            b"\x1f",
            b"\xfd7zXZ",
            b"\x28\xb5\x2f",
            b"BZh91AY&SY",
            &[1; 100_000],
        ] {
            let said = behind(garbage).expect_err("garbage");
            assert!(said.contains(BEHIND), "{suffix} {said}");
        }
        // A second stream is read like a first one.
        let cut = pack(&[0; 9000]);
        behind(&cut[..cut.len() - 3]).expect_err("a cut stream");
        let twice = [pack(b""), b"x".to_vec()].concat();
        assert!(
            behind(&twice).expect_err("garbage").contains(BEHIND),
            "{suffix}"
        );
        // Padding, which only xz has.
        for zeros in 1..=9 {
            let padded = behind(&vec![0; zeros]);
            match (suffix, zeros % 4) {
                (".xz", 0) => assert_eq!(padded, Ok(())),
                (".xz", _) => assert!(padded.expect_err("padding").contains("multiple of four")),
                _ => assert!(
                    padded.expect_err("padding").contains(BEHIND),
                    "{suffix} {zeros}"
                ),
            }
        }
        let between = |zeros| behind(&[vec![0; zeros], pack(b"")].concat());
        assert_eq!(
            (between(8).is_ok(), between(2).is_ok()),
            (suffix == ".xz", false),
            "{suffix}"
        );
        // A frame that zstd skips, before and behind; one that ends early.
        let skipped = [&b"\x5f\x2a\x4d\x18"[..], &5u32.to_le_bytes(), b"hello"].concat();
        assert_eq!(behind(&skipped).is_ok(), suffix == ".zst", "{suffix}");
        let before = read(&|packed| [skipped.clone(), skipped.clone(), packed].concat());
        assert_eq!(before.is_ok(), suffix == ".zst", "{suffix}");
        assert!(behind(&skipped[..10]).is_err());
        // Cut between two streams, as parallel compressors write them.
        let parts = [&tar[..1024], &tar[1024..2000], &tar[2000..]]
            .map(pack)
            .concat();
        let whole = entries(&deb_of(&format!("data.tar{suffix}"), &parts));
        assert_eq!(whole, entries(&deb_of("data.tar", &tar)), "{suffix}");
    }
}

/// What a package has: paths, kinds and content.
fn entries(bytes: &[u8]) -> Result<Vec<(String, String)>, DebError> {
    let mut all = Vec::new();
    Deb::open(bytes)?.entries::<DebError>(|entry| {
        let kind = match entry.kind {
            Kind::Directory => "directory".to_owned(),
            Kind::Symlink { target } => format!("-> {target}"),
            Kind::HardLink { target } => format!("= {target}"),
            Kind::File {
                mode,
                bytes,
                content,
            } => {
                let mut text = Vec::new();
                // Some flips make a header claim a length that nobody should read for.
                let read = content.take(1 << 20).read_to_end(&mut text);
                read.map_err(|error| DebError::Broken(error.to_string()))?;
                format!("{mode:o} {bytes} {text:?}")
            }
        };
        all.push((entry.path, kind));
        Ok(())
    })?;
    Ok(all)
}

#[test]
fn a_package_with_any_byte_changed_is_an_error_or_the_same() {
    let whole = entries(HELLO).expect("a good package");
    assert_eq!(whole.len(), 13);
    let mut errors = 0;
    for at in 0..HELLO.len() {
        for bit in [0x01, 0x04, 0x80] {
            let mut bytes = HELLO.to_vec();
            bytes[at] ^= bit;
            match entries(&bytes) {
                Err(_) => errors += 1,
                // The control archive and the dates of members are not looked at; all else has a checksum.
                Ok(got) => assert_eq!(got, whole, "bit {bit:#x} of byte {at}"),
            }
        }
    }
    assert!(errors > HELLO.len(), "{errors}");
    for end in 0..HELLO.len() - 1 {
        let cut = entries(&HELLO[..end]);
        assert!(cut.is_err(), "cut at {end}: {cut:?}");
    }
}

#[test]
fn a_plain_package_with_any_byte_changed_never_panics() {
    // Without compression there is no checksum over content: flips reach the tar reader and our checks.
    let plain = deb(&[
        Made::Directory("./usr"),
        Made::File("./usr/file", 0o644, b"content"),
        Made::Link("./usr/link", EntryType::Symlink, "file"),
        Made::Link("./usr/hard", EntryType::Link, "./usr/file"),
    ]);
    for at in 0..plain.len() {
        for bit in [0x01, 0x10, 0x40, 0x80] {
            let mut bytes = plain.clone();
            bytes[at] ^= bit;
            let _ = entries(&bytes);
        }
    }
}
