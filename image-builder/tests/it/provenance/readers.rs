//! Reading back what others wrote. The three roots were made by `mkfs.erofs` 1.8.6 from one tar stream: `-E^inline_data`, which is how
//! ours are made, its default, and `--chunksize=4096`.

use std::fs::{self, File};
use std::io::Read;

use image_builder::formats::{ItemKind, Listing, Part, ReadError, list};
use image_builder::limits::XZ_MEMORY_KIB_MAX;

use super::made_image::image;

const ROOTS: [&[u8]; 3] = [
    include_bytes!("plain.erofs.xz"),
    include_bytes!("inline.erofs.xz"),
    include_bytes!("chunks.erofs.xz"),
];

fn root(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    lzma_rust2::XzReader::new_mem_limit(packed, false, XZ_MEMORY_KIB_MAX)
        .read_to_end(&mut bytes)
        .expect("it was packed with xz");
    bytes
}

fn listed(bytes: &[u8]) -> Result<Listing, ReadError> {
    list(&Part::whole(&bytes).expect("memory has a length"))
}

fn content(bytes: &[u8], listing: &Listing, path: &str) -> Vec<u8> {
    let mut found = Vec::new();
    let whole = Part::whole(&bytes).expect("memory has a length");
    let item = listing.item(path).expect(path);
    item.read(&whole, &mut |piece| found.extend_from_slice(piece))
        .expect("read");
    found
}

#[test]
fn a_root_is_read_as_it_was_written_however_it_is_laid_out() {
    for packed in ROOTS {
        let bytes = root(packed);
        let listing = listed(&bytes).expect("an uncompressed root");
        // The root, two directories, 300 files with names and five others.
        assert_eq!(listing.items.len(), 1 + 2 + 300 + 5);
        let hello = listing.item("/hello").expect("there");
        assert_eq!(
            (hello.kind, hello.mode, hello.owner, hello.bytes),
            (ItemKind::File, 0o4755, (7, 9), 6)
        );
        assert_eq!(content(&bytes, &listing, "/hello"), b"hello\n");
        let long: Vec<u8> = (0..10_000).map(|i| (i * 7 + i / 256) as u8).collect();
        assert_eq!(content(&bytes, &listing, "/sub/long"), long);
        assert_eq!(content(&bytes, &listing, "/sub/block"), vec![b'b'; 4096]);
        assert_eq!(content(&bytes, &listing, "/empty"), b"");
        assert_eq!(content(&bytes, &listing, "/sub/link"), b"../hello");
        assert_eq!(
            listing.item("/sub/link").expect("there").kind,
            ItemKind::Link
        );
        assert_eq!(content(&bytes, &listing, "/sub/deep/name-299"), b"299");
    }
}

#[test]
fn every_byte_of_a_root_belongs_to_something_and_a_files_bytes_to_the_file() {
    for packed in ROOTS {
        let mut bytes = root(packed);
        let end = bytes.len() as u64;
        bytes.extend([0; 8192]);
        let listing = listed(&bytes).expect("read");
        let whole = Part::whole(&bytes).expect("memory has a length");
        let place = |at| listing.place(&whole, at);
        let item = listing.item("/sub/long").expect("there");
        let last = item.extents.last().expect("it has bytes").end - 1;
        let found = place(last);
        assert_eq!(
            (found.inside, found.at),
            (vec!["/sub/long".to_owned()], 9999)
        );
        let found = place(item.header.start + 5);
        assert_eq!(found.part, "its description");
        assert_eq!(place(1030).part, "the file system's superblock");
        assert_eq!(place(end).part, "the superblock of the hash tree");
        assert_eq!(place(end + 4096).to_string(), "byte 0 of the hash tree");
        for at in (0..bytes.len() as u64).step_by(997) {
            assert_ne!(place(at).part, "between its parts", "byte {at}");
        }
    }
}

#[test]
fn a_root_with_any_byte_changed_or_missing_is_read_or_refused() {
    let bytes = root(ROOTS[1]);
    for at in (1024..1152).chain((4096..bytes.len()).step_by(53)) {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            let _ = listed(&changed);
        }
    }
    for end in [0, 6, 1024, 1100, 1152, 4096, 5000, bytes.len() - 1] {
        assert!(listed(&bytes[..end]).is_err(), "{end}");
    }
}

#[test]
fn a_hostile_root_is_refused_by_what_is_wrong_with_it() {
    let bytes = root(ROOTS[1]);
    let check = |at: usize, value: &[u8], expected: &str| {
        let mut changed = bytes.clone();
        changed[at..at + value.len()].copy_from_slice(value);
        let error = listed(&changed).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    };
    // Superblock: magic, bits of a block, features that are read only with a decompressor, blocks.
    check(1024, &[0], "neither an archive");
    check(1036, &[40], "length that no block has");
    check(1104, &[2], "compression");
    check(1060, &[255; 4], "behind the end");
    let listing = listed(&bytes).expect("read");
    let top = listing.item("/").expect("there").header.start as usize;
    // The root's inode: no directory; longer than everything; a layout of compressed files.
    check(top + 4, &[0xff, 0x81], "a directory is none");
    check(top + 8, &[255; 4], "longer than the file system");
    check(top, &[bytes[top] & 0xf1 | 2], "compression");
    // A directory that contains itself: the number of the root in the place of the one of /sub.
    let names = listing.item("/").expect("there").extents[0].start as usize;
    let number = bytes[1038..1040].to_vec();
    let entry = (0..10).map(|entry| names + 12 * entry).find(|at| {
        let start = u16::from_le_bytes([bytes[at + 8], bytes[at + 9]]) as usize;
        bytes[names + start..].starts_with(b"sub")
    });
    check(entry.expect("it is there"), &number, "in two places");
}

#[test]
fn an_initrd_is_read_as_it_was_written_and_nothing_may_follow_it() {
    let made = image(b"agent", None);
    let file = File::open(made.out.join("initrd")).expect("there");
    let whole = Part::whole(&file).expect("a file has a length");
    let listing = list(&whole).expect("an archive");
    let init = listing.item("/init").expect("there");
    assert_eq!((init.kind, init.mode), (ItemKind::File, 0o755));
    let console = listing.item("/dev/console").expect("there");
    assert_eq!((console.kind, console.mode), (ItemKind::Device, 0o600));
    let place = listing.place(&whole, init.extents[0].start + 3);
    assert_eq!(place.to_string(), "/init, byte 3 of its content");
    let place = listing.place(&whole, init.header.start + 8);
    assert_eq!(place.to_string(), "/init, byte 8 of its description");

    let bytes = fs::read(made.out.join("initrd")).expect("there");
    for at in (0..bytes.len()).step_by(3) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x41;
        let _ = listed(&changed);
        // Without the zeros at the end it is as good.
        let whole = listing.areas[0].0.start + 124;
        assert_eq!(listed(&bytes[..at]).is_err(), (at as u64) < whole, "{at}");
    }
    // The kernel would unpack it, too.
    let second = [&bytes[..], &bytes[..]].concat();
    assert!(matches!(listed(&second), Err(ReadError::Broken { .. })));
}

/// A program of one section.
fn program(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 512];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[60] = 64;
    bytes[64..68].copy_from_slice(b"PE\0\0");
    bytes[70] = 1;
    bytes[88..88 + name.len()].copy_from_slice(name.as_bytes());
    let filled = (content.len() as u32).next_multiple_of(512);
    for (at, value) in [(96, content.len() as u32), (104, filled), (108, 512)] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes.extend(content);
    bytes.resize(512 + filled as usize, 0);
    bytes
}

#[test]
fn sections_of_a_program_are_looked_into() {
    let made = image(b"agent", None);
    let initrd = fs::read(made.out.join("initrd")).expect("there");
    let init = listed(&initrd).expect("an archive");
    let init = init.item("/init").expect("there").extents[0].start;
    let unified = program(".initrd", &initrd);
    let listing = listed(&unified).expect("a program");
    let whole = Part::whole(&unified).expect("memory has a length");
    let place = |at| listing.place(&whole, at).to_string();
    assert_eq!(
        place(512 + init + 2),
        ".initrd /init, byte 2 of its content"
    );
    assert_eq!(place(90), ".initrd, byte 2 of its description");
    assert_eq!(place(66), "byte 66 of the headers of the program");
    for at in 0..512 {
        for bit in [1, 0x80] {
            let mut changed = unified.clone();
            changed[at] ^= bit;
            let _ = listed(&changed);
        }
        assert!(listed(&unified[..at]).is_err());
    }
    let kernel = fs::read(made.out.join("kernel")).expect("there");
    assert_eq!(listed(&kernel).expect("a program").items.len(), 2);
}

/// A disk whose first partition has the bytes of `content`.
fn disk(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 34 * 512];
    bytes[512..520].copy_from_slice(b"EFI PART");
    for (at, value) in [(72, 2), (80, 128), (84, 128)] {
        bytes[512 + at..512 + at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    bytes[592..596].copy_from_slice(&128u32.to_le_bytes());
    bytes[596..600].copy_from_slice(&128u32.to_le_bytes());
    let last = 34 + content.len() as u64 / 512 - 1;
    bytes[1024] = 1;
    for (at, value) in [(32, 34), (40, last)] {
        bytes[1024 + at..1024 + at + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    bytes[1080..1082].copy_from_slice(&[b'r', 0]);
    bytes.extend(content);
    bytes
}

#[test]
fn partitions_of_a_disk_are_looked_into() {
    let content = root(ROOTS[0]);
    let inner = listed(&content).expect("a root");
    let hello = inner.item("/hello").expect("there").extents[0].start;
    let bytes = disk(&content);
    let listing = listed(&bytes).expect("a disk");
    let whole = Part::whole(&bytes).expect("memory has a length");
    let place = |at| listing.place(&whole, at).to_string();
    assert_eq!(
        place(34 * 512 + hello + 1),
        "partition 1 (r) /hello, byte 1 of its content"
    );
    assert_eq!(place(1030), "partition 1 (r), byte 6 of its description");
    assert_eq!(place(520), "byte 520 of the partition table");
    for at in 512..1152 {
        for bit in [1, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= bit;
            let _ = listed(&changed);
        }
    }
    for end in [512, 600, 1024, 34 * 512, bytes.len() - 1] {
        assert!(listed(&bytes[..end]).is_err(), "{end}");
    }
}
