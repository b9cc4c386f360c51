//! Disks as they are written, by other readers: two crates, and the function that predicts what firmware measures.

use crate::parts as made;

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

use image_builder::formats::verity;
use image_builder::image::disk::{BOOT_PATH, DiskError, FatError, Parts, write};
use image_builder::limits::BOOT_PARTITION_BYTES_MAX;
use predict::{Boot, BootMethod};

const MIB: usize = 1 << 20;

/// A root of so many blocks with its tree.
fn root(blocks: u64) -> (File, verity::Root) {
    let image = tempfile::tempfile().expect("a file");
    for block in 0..blocks {
        let bytes = [block as u8 ^ 0x5a; 4096];
        image.write_all_at(&bytes, block * 4096).expect("written");
    }
    let root = verity::append(&image).expect("hashed");
    (image, root)
}

fn written(parts: &Parts<'_>) -> File {
    let disk = tempfile::tempfile().expect("a file");
    write(parts, &disk).expect("written");
    disk
}

fn bytes(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).expect("sought");
    file.read_to_end(&mut bytes).expect("read");
    bytes
}

/// A disk of these files alone.
fn with_files(files: &[(&str, &[u8])]) -> Vec<u8> {
    bytes(&written(&Parts { files, root: None }))
}

#[test]
fn another_reader_finds_the_partitions_and_in_them_what_was_put_there() {
    let (image, root) = root(300);
    let files: [(&str, &[u8]); 1] = [(BOOT_PATH, &[7; 100_000])];
    let disk = written(&Parts {
        files: &files,
        root: Some((&image, &root)),
    });
    let again = Box::new(disk.try_clone().expect("a second handle"));
    let table = gpt::GptConfig::new().open_from_device(again);
    let table = table.expect("a table and its copy");
    let found = table.partitions();
    let seen: Vec<_> = found.values().map(|p| (p.name.as_str(), p.flags)).collect();
    assert_eq!(
        seen,
        [("boot", 0), ("root", 1 << 60), ("root-verity", 1 << 60)]
    );
    use gpt::partition_types::{EFI, LINUX_ROOT_X64};
    let kind = |number: u32| &found[&number].part_type_guid;
    assert_eq!((kind(1), kind(2)), (&EFI, &LINUX_ROOT_X64));
    // The crate does not know this one; the specification has it as SD_GPT_ROOT_X86_64_VERITY.
    let verity = kind(3).guid.to_string();
    assert_eq!(verity, "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5");
    let identity = |number: u32| found[&number].part_guid.simple().to_string();
    assert_eq!(identity(2) + &identity(3), hex::encode(root.hash));

    let whole = bytes(&disk);
    let place = |number| {
        let sectors = *table.logical_block_size();
        found[&number].bytes_start(sectors).expect("a place") as usize
    };
    let image = bytes(&image);
    assert_eq!(place(3) - place(2), 300 * 4096);
    let (inside, after) = whole[place(2)..].split_at(image.len());
    assert!(inside == image, "the root is there as it is");
    let rest = &after[..after.len() - 33 * 512];
    assert!(rest.iter().all(|byte| *byte == 0));
    assert_eq!((place(2) % MIB, whole.len() % MIB), (0, 0));
}

#[test]
fn another_reader_finds_the_files_whatever_their_length() {
    let long: Vec<u8> = (0..3_000_001u32).map(|at| (at % 249) as u8).collect();
    for bytes in [1, 511, 512, 513, 100_000, long.len()] {
        let files = [
            ("EFI/LINUX/OTHER.X", &long[..1]),
            (BOOT_PATH, &long[..bytes]),
        ];
        let disk = with_files(&files);
        let partition = Cursor::new(disk[MIB..disk.len() - MIB].to_vec());
        let system = fatfs::FileSystem::new(partition, fatfs::FsOptions::new());
        let system = system.expect("a file system");
        assert_eq!(system.fat_type(), fatfs::FatType::Fat32);
        let free = system.stats().expect("counted").free_clusters();
        for (path, contents) in files {
            let mut read = Vec::new();
            let mut file = system.root_dir().open_file(path).expect("it is there");
            file.read_to_end(&mut read).expect("read");
            assert!(read == contents, "{path} of {bytes} bytes");
        }
        // Root, EFI, EFI/BOOT, EFI/LINUX and the other file.
        assert_eq!(free as usize, 65_541 - 5 - bytes.div_ceil(512));
    }
}

/// From here on clusters have eight sectors.
#[test]
fn a_long_file_is_found_too() {
    let long = vec![9; 257 * MIB];
    let disk = with_files(&[(BOOT_PATH, &long)]);
    let partition = Cursor::new(disk[MIB..disk.len() - MIB].to_vec());
    let system = fatfs::FileSystem::new(partition, fatfs::FsOptions::new()).expect("it is one");
    assert_eq!(system.fat_type(), fatfs::FatType::Fat32);
    assert_eq!(system.cluster_size(), 4096);
    let mut file = system.root_dir().open_file(BOOT_PATH).expect("there");
    assert_eq!(
        file.seek(SeekFrom::End(0)).expect("sought"),
        257 * MIB as u64
    );
}

#[test]
fn equal_parts_are_equal_disks_and_others_have_other_identities() {
    let (image, root) = root(2);
    let (a, b): ((&str, &[u8]), _) = ((BOOT_PATH, b"a"), ("B", &b"b"[..]));
    let disk = |files: &[(&str, &[u8])], root| bytes(&written(&Parts { files, root }));
    let some = Some((&image, &root));
    let one = disk(&[a, b], some);
    assert!(one == disk(&[b, a], some));
    // The disk's identity, that of its boot partition, and the volume's number.
    let identities = |disk: &[u8]| {
        let [disk_at, boot_at, volume_at] = [512 + 56, 1024 + 16, MIB + 67];
        [
            &disk[disk_at..][..16],
            &disk[boot_at..][..16],
            &disk[volume_at..][..4],
        ]
        .concat()
    };
    let files: [&[(&str, &[u8])]; 3] = [&[a], &[(BOOT_PATH, b"c"), b], &[("A", b"a"), b]];
    for files in files {
        assert_ne!(identities(&one), identities(&disk(files, some)));
    }
    assert_ne!(identities(&one), identities(&disk(&[a, b], None)));
}

/// What firmware measures of a disk is its table, and that is predicted of what is written.
#[test]
fn the_table_is_one_that_can_be_predicted() {
    let kernel = made::modern_kernel();
    let sections: [(&str, &[u8]); 3] = [
        (".sdmagic", made::SDMAGIC),
        (".cmdline", b"quiet"),
        (".linux", &kernel),
    ];
    let uki = made::uki(&sections);
    let disk = with_files(&[(BOOT_PATH, &uki)]);
    let predicted = |table: &[u8]| {
        let method = BootMethod::Disk {
            table,
            loader: None,
        };
        Boot::Uki { uki: &uki, method }.events(predict::Edk2Release::STABLE202502)
    };
    let events = predicted(&disk[..MIB]).expect("predicted");
    let mut other = disk[..MIB].to_vec();
    other[512 + 56] ^= 1;
    assert!(predicted(&other).is_err());
    let other = with_files(&[("OTHER", &uki)]);
    assert_ne!(predicted(&other[..MIB]), Ok(events));
}

#[test]
fn what_nobody_wrote_takes_no_space() {
    let disk = written(&Parts {
        files: &[(BOOT_PATH, &[1; 1000])],
        root: None,
    });
    let known = disk.metadata().expect("known");
    assert!(known.len() > 30 * MIB as u64);
    // Some file systems have no holes; then there is nothing to see.
    let space = known.blocks() * 512;
    assert!(space < MIB as u64 || space >= known.len(), "{space} bytes");
}

#[test]
fn files_and_roots_that_a_disk_cannot_have_are_refused() {
    let path = |files: &[(&str, &[u8])]| {
        let disk = tempfile::tempfile().expect("a file");
        match write(&Parts { files, root: None }, &disk) {
            Err(DiskError::Fat(FatError::Path { path, why })) => (path, why),
            other => panic!("{other:?}"),
        }
    };
    let name = "a name is not of eight and three capital letters";
    for bad in [
        "",
        "/A",
        "A/",
        "a",
        "A B",
        "ABCDEFGHI",
        "A.ABCD",
        "A.",
        ".A",
        "..",
        "A.B.C",
        "Ä",
    ] {
        assert_eq!(path(&[(bad, b"x")]), (bad.into(), name));
    }
    assert_eq!(path(&[("A", b"")]).1, "it is empty");
    assert_eq!(path(&[("A", b"x"), ("A", b"x")]).1, "something is there");
    assert_eq!(path(&[("A/B", b"x"), ("A", b"x")]).1, "something is there");
    let below = "a file is in the place of its directory";
    assert_eq!(path(&[("A", b"x"), ("A/B", b"x")]).1, below);
    let names: Vec<String> = (0..17).map(|number| format!("N{number}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &b"x"[..])).collect();
    assert_eq!(path(&many).1, "a directory has too many files");
    with_files(&many[..16]);

    let long = vec![0; 64 * MIB];
    let names: Vec<String> = (0..18).map(|number| format!("N{number}")).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|n| (n.as_str(), &long[..])).collect();
    let disk = tempfile::tempfile().expect("a file");
    let refused = write(
        &Parts {
            files: &files,
            root: None,
        },
        &disk,
    );
    let got = 18 * 64 * MIB as u64;
    assert!(got > BOOT_PARTITION_BYTES_MAX);
    assert!(matches!(refused, Err(DiskError::Fat(FatError::TooLong { got: g })) if g == got));

    let (image, root) = root(4);
    for (bytes, data_blocks) in [
        (4 * 4096, 4),
        (6 * 4096 + 512, 4),
        (6 * 4096, 6),
        (6 * 4096, 0),
    ] {
        image.set_len(bytes).expect("set");
        let root = verity::Root {
            data_blocks,
            ..root
        };
        let refused = write(
            &Parts {
                files: &[],
                root: Some((&image, &root)),
            },
            &disk,
        );
        assert!(
            matches!(refused, Err(DiskError::Root { .. })),
            "{bytes} {data_blocks}"
        );
    }
}
