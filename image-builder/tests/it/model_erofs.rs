//! The reader of a model's volume finds files where they lie, and refuses what a volume does not need.

use crate::erofs_image::erofs_image;

use image_builder::formats::Part;
use image_builder::formats::erofs::reader::volume_files;

/// Path, length and place of each file.
fn listed(image: &[u8]) -> Option<Vec<(String, u64, u64)>> {
    let files = volume_files(&Part::whole(&image).ok()?).ok()?;
    let found = |item: image_builder::formats::Item| {
        let start = item.extents.first().map_or(0, |extent| extent.start);
        (item.path, item.bytes, start)
    };
    Some(files.into_iter().map(found).collect())
}

#[test]
fn files_of_an_image_are_found_where_they_lie() {
    let found = |path: &str, bytes, start| (path.to_owned(), bytes, start);
    let expected = vec![
        found("/a", 4000, 8192),
        found("/b", 5, 4096 + 15 * 32),
        found("/sub/c", 4000, 8192),
    ];
    assert_eq!(listed(&erofs_image()), Some(expected));
}

#[test]
fn an_image_that_is_odd_or_cut_is_refused() {
    let whole = erofs_image();
    let inode = |number: usize| 4096 + number * 32;
    for (what, at, bytes) in [
        ("magic", 1024, &[0u8][..]),
        ("blocks of another size", 1024 + 12, &[13]),
        ("compression", 1024 + 80, &[2]),
        ("the root is a file", 1024 + 14, &[10]),
        ("a root outside", 1024 + 14, &[255, 255]),
        ("a compressed file", inode(10), &[1 << 1]),
        ("a file in chunks", inode(10), &[4 << 1]),
        ("a device", inode(10) + 4, &0o020_644_u16.to_le_bytes()),
        ("a link", inode(10) + 4, &0o120_777_u16.to_le_bytes()),
        ("a file beyond the end", inode(10) + 8, &[1, 16]),
        ("a file's block beyond the end", inode(10) + 16, &[3]),
        (
            "a directory that is its own directory",
            inode(20) + 4 + 40,
            &[],
        ),
        (
            "a tail over the end of its block",
            inode(14) + 8,
            &[255, 15],
        ),
    ] {
        let mut image = whole.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        if what == "a directory that is its own directory" {
            // The entry `c` of `sub` leads to `sub`.
            image[inode(20) + 32 + 24] = 20;
        }
        assert_eq!(listed(&image), None, "{what}");
    }
    for length in (0..whole.len()).step_by(61) {
        assert_eq!(listed(&whole[..length.min(12191)]), None, "cut at {length}");
    }
}

#[test]
fn no_flipped_bit_makes_the_reader_stray() {
    let whole = erofs_image();
    let limit = whole.len() as u64;
    for at in (1024..1024 + 128).chain(4096..4096 + 24 * 32) {
        for bit in 0..8 {
            let mut image = whole.clone();
            image[at] ^= 1 << bit;
            for (path, bytes, start) in listed(&image).into_iter().flatten() {
                let end = start.checked_add(bytes);
                assert!(
                    end.is_some_and(|end| end <= limit),
                    "byte {at} bit {bit}: {path} {bytes} {start}"
                );
            }
        }
    }
}
