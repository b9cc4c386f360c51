//! The parts of an image, each against another reader of the same format than the one that wrote it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use image_builder::compile::Kernel;
use image_builder::formats::{cpio, verity};
use image_builder::limits::MODULE_BYTES_MAX;
use sha2::{Digest as _, Sha256};

// ---- cpio ----

/// The fields of a newc header, in the order of `buffer-format.rst`.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    path: String,
    inode: u32,
    mode: u32,
    links: u32,
    device: (u32, u32),
    bytes: Vec<u8>,
}

/// A reader that follows the format's text, and insists on the fields that must be zero.
fn read_newc(archive: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut at = 0;
    loop {
        let header = std::str::from_utf8(&archive[at..at + 110]).expect("ASCII");
        assert_eq!(&header[..6], "070701");
        let field = |index: usize| {
            let start = 6 + index * 8;
            u32::from_str_radix(&header[start..start + 8], 16).expect("hex")
        };
        for (zero, name) in [
            (2, "uid"),
            (3, "gid"),
            (5, "mtime"),
            (7, "major"),
            (8, "minor"),
            (12, "check"),
        ] {
            assert_eq!(field(zero), 0, "{name}");
        }
        let (size, name_size) = (field(6) as usize, field(11) as usize);
        let name = &archive[at + 110..at + 110 + name_size];
        assert_eq!(name.last(), Some(&0));
        let path = String::from_utf8(name[..name_size - 1].to_vec()).expect("UTF-8");
        let data = (at + 110 + name_size).next_multiple_of(4);
        at = (data + size).next_multiple_of(4);
        if path == "TRAILER!!!" {
            assert_eq!((field(0), size), (0, 0));
            assert_eq!(archive.len() % 512, 0);
            assert!(archive.len() - at < 512 && archive[at..].iter().all(|byte| *byte == 0));
            return found;
        }
        found.push(Found {
            path,
            inode: field(0),
            mode: field(1),
            links: field(4),
            device: (field(9), field(10)),
            bytes: archive[data..data + size].to_vec(),
        });
    }
}

#[test]
fn an_initrd_reads_back_as_it_was_written() {
    let mut writer = cpio::Writer::new(Vec::new());
    writer.directory("/dev", 0o755).expect("a directory");
    writer
        .device("/dev/console", 0o600, (5, 1))
        .expect("a device");
    let mut expected = vec![
        ("dev", 0o040755, 2, (0, 0), vec![]),
        ("dev/console", 0o020600, 1, (5, 1), vec![]),
    ];
    // Every remainder of four, in names and in contents.
    let names = ["f", "ff", "fff", "ffff", "fffff"];
    for (length, name) in names.into_iter().enumerate() {
        let bytes: Vec<u8> = (1..=length as u8).collect();
        writer
            .file(&format!("/{name}"), 0o644, &bytes)
            .expect("a file");
        expected.push((name, 0o100644, 1, (0, 0), bytes));
    }
    let archive = writer.finish().expect("a vector takes all");

    let found = read_newc(&archive);
    let expected: Vec<Found> = expected
        .into_iter()
        .zip(1..)
        .map(|((path, mode, links, device, bytes), inode)| Found {
            path: path.into(),
            inode,
            mode,
            links,
            device,
            bytes,
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn an_initrd_takes_no_path_that_another_reader_could_take_elsewhere() {
    let mut writer = cpio::Writer::new(Vec::new());
    for path in ["", "/", "a//b", "../init", "a/./b", "TRAILER!!!", "a\0b"] {
        assert!(writer.file(path, 0o644, b"").is_err(), "{path:?}");
    }
}

// ---- dm-verity ----

/// Follows one data block to the root hash with nothing but the format's text: level sizes, positions, salt first.
fn check_block(image: &[u8], root: &verity::Root, index: u64) -> bool {
    const BLOCK: usize = 4096;
    let hash = |block: &[u8]| Sha256::digest([&root.salt[..], block].concat()).to_vec();
    let block = |number: u64| &image[number as usize * BLOCK..][..BLOCK];
    let mut sizes = vec![root.data_blocks];
    while *sizes.last().expect("not empty") > 1 {
        sizes.push(sizes.last().expect("not empty").div_ceil(128));
    }
    // `sizes[1]` is the lowest level of hashes; the top one comes first in the image.
    let position = |level: usize| root.data_blocks + 1 + sizes[level + 1..].iter().sum::<u64>();
    let mut digest = hash(block(index));
    let mut index = index;
    for level in 1..sizes.len() {
        let hashes = block(position(level) + index / 128);
        let at = (index % 128) as usize * 32;
        if hashes[at..at + 32] != digest {
            return false;
        }
        digest = hash(hashes);
        index /= 128;
    }
    digest == root.hash
}

fn verity_image(blocks: u64) -> (Vec<u8>, verity::Root) {
    let mut image: Vec<u8> = Vec::new();
    for block in 0..blocks {
        let mut bytes = [block as u8; 4096];
        bytes[..8].copy_from_slice(&block.to_le_bytes());
        image.extend(bytes);
    }
    let salt = Sha256::digest(&image);
    let file = tempfile::tempfile().expect("a file");
    file.write_all_at(&image, 0).expect("written");
    let root = verity::append(&file).expect("whole blocks");
    assert_eq!((root.data_blocks, &root.salt[..]), (blocks, &salt[..]));

    let mut whole = vec![0; file.metadata().expect("a file").len() as usize];
    file.read_exact_at(&mut whole, 0).expect("read");
    assert_eq!(&whole[..image.len()], &image[..]);
    (whole, root)
}

#[test]
fn blocks_of_every_size_of_image_lead_to_the_root_hash() {
    // One block: no tree. 128: one block of hashes. 129: two levels. 16385: three.
    for (blocks, hashes) in [
        (1, 0),
        (2, 1),
        (128, 1),
        (129, 3),
        (16384, 129),
        (16385, 132),
    ] {
        let (image, root) = verity_image(blocks);
        assert_eq!(image.len() as u64, (blocks + 1 + hashes) * 4096, "{blocks}");
        // All of the small ones; of the large ones some in every block of hashes, and the last.
        let step = if blocks > 1000 { 61 } else { 1 };
        for block in (0..blocks).step_by(step).chain([blocks - 1]) {
            assert!(check_block(&image, &root, block), "{block} of {blocks}");
        }
    }
}

#[test]
fn a_flipped_bit_in_data_hash_or_salt_leads_elsewhere() {
    let (image, root) = verity_image(129);
    for at in [
        0,
        128 * 4096 + 17,
        130 * 4096,
        130 * 4096 + 32,
        132 * 4096 + 31,
    ] {
        let mut changed = image.clone();
        changed[at] ^= 1;
        let right = (0..129).all(|block| check_block(&changed, &root, block));
        assert!(!right, "byte {at}");
    }
    let mut other = root;
    other.salt[0] ^= 1;
    assert!(!check_block(&image, &other, 0));
}

#[test]
fn the_superblock_is_what_cryptsetup_reads() {
    let (image, root) = verity_image(2);
    let superblock = &image[2 * 4096..3 * 4096];
    assert_eq!(&superblock[..8], b"verity\0\0");
    assert_eq!(&superblock[8..16], [1, 0, 0, 0, 1, 0, 0, 0]);
    assert_eq!(&superblock[32..39], b"sha256\0");
    assert_eq!(&superblock[64..72], [0, 0x10, 0, 0, 0, 0x10, 0, 0]);
    assert_eq!(&superblock[72..80], 2u64.to_le_bytes());
    assert_eq!(&superblock[80..82], 32u16.to_le_bytes());
    assert_eq!(&superblock[88..120], root.salt);
    assert!(superblock[120..].iter().all(|byte| *byte == 0));
}

#[test]
fn an_image_that_is_empty_or_ends_in_half_a_block_is_refused() {
    for bytes in [0, 1, 4095, 4097] {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(bytes).expect("set");
        assert!(verity::append(&file).is_err(), "{bytes}");
    }
}

// ---- modules ----

/// An ELF file with a `.modinfo` and the table of section names, by the ELF-64 object file format.
fn module(modinfo: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let modinfo = modinfo.as_bytes();
    let (modinfo_at, names_at) = (64, 64 + modinfo.len());
    let table_at = (names_at + names.len()).next_multiple_of(8);
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(1u16.to_le_bytes()); // ET_REL
    file.extend(62u16.to_le_bytes()); // x86-64
    file.extend(1u32.to_le_bytes());
    file.extend([0; 16]); // entry, program headers
    file.extend((table_at as u64).to_le_bytes());
    file.extend(0u32.to_le_bytes());
    for half in [64u16, 0, 0, 64, 3, 2] {
        file.extend(half.to_le_bytes());
    }
    file.extend(modinfo);
    file.extend(names);
    file.resize(table_at, 0);
    file.extend([0; 64]);
    for (name, kind, at, length) in [
        (1u32, 1u32, modinfo_at, modinfo.len()),
        (10, 3, names_at, names.len()),
    ] {
        file.extend(name.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend([0; 16]);
        file.extend((at as u64).to_le_bytes());
        file.extend((length as u64).to_le_bytes());
        file.extend([0; 24]);
    }
    file
}

/// A kernel package's tree with these modules (file name, dependencies).
fn kernel_tree(modules: &[(&str, &str)]) -> tempfile::TempDir {
    let tree = tempfile::tempdir().expect("a directory");
    let directory = tree.path().join("usr/lib/modules/6.1-test");
    fs::create_dir_all(directory.join("kernel/deep/er")).expect("made");
    fs::create_dir_all(tree.path().join("boot")).expect("made");
    fs::write(tree.path().join("boot/vmlinuz-6.1-test"), b"kernel").expect("written");
    fs::write(
        directory.join("modules.builtin"),
        "kernel/lib/crc32c-built.ko\n",
    )
    .expect("written");
    for (number, (name, depends)) in modules.iter().enumerate() {
        let place = ["kernel", "kernel/deep", "kernel/deep/er"][number % 3];
        let bytes = module(&format!(
            "license=GPL\0depends={depends}\0name={name}\0vermagic=6.1-test\0"
        ));
        fs::write(directory.join(place).join(format!("{name}.ko")), bytes).expect("written");
    }
    tree
}

fn order(modules: &[(&str, &str)], wanted: &[&str]) -> Result<Vec<String>, String> {
    let tree = kernel_tree(modules);
    let wanted: Vec<String> = wanted.iter().map(|name| name.to_string()).collect();
    let kernel = Kernel::open(tree.path()).map_err(|error| error.to_string())?;
    let modules = kernel
        .load_order(&wanted)
        .map_err(|error| error.to_string())?;
    Ok(modules.into_iter().map(|module| module.name).collect())
}

#[test]
fn a_module_comes_after_what_it_needs_and_only_once() {
    let modules = [
        ("dm-mod", ""),
        ("dm-bufio", "dm-mod"),
        ("dm-verity", "dm-mod,dm-bufio,crc32c_built"),
        ("vsock", ""),
        ("unused", "dm-mod"),
    ];
    assert_eq!(
        order(&modules, &["vsock", "dm_verity", "dm-bufio"]),
        Ok(["vsock", "dm_mod", "dm_bufio", "dm_verity"]
            .map(String::from)
            .to_vec())
    );
    assert_eq!(order(&modules, &["crc32c-built"]), Ok(vec![]));
}

#[test]
fn a_missing_module_is_named_with_its_kernel() {
    let check = |modules: &[(&str, &str)], wanted: &str, expected: &[&str]| {
        let error = order(modules, &[wanted]).expect_err("refused");
        for part in expected {
            assert!(error.contains(part), "{error}");
        }
    };
    check(&[], "erofs", &["6.1-test", "`erofs`"]);
    check(
        &[("a", "b")],
        "a",
        &["6.1-test", "no module `b`", "`a` needs"],
    );
    check(&[("a", "b"), ("b", "a")], "a", &["6.1-test", "each other"]);
    check(&[("a", "a")], "a", &["each other"]);
    check(&[("a", "../../../boot/vmlinuz")], "a", &["no module"]);
}

#[test]
fn what_is_no_module_is_refused_and_nothing_panics() {
    let tree = kernel_tree(&[("whole", "")]);
    let directory = tree.path().join("usr/lib/modules/6.1-test/kernel");
    let whole = module("depends=\0");
    let names = ["m".to_owned()];
    let refused = |bytes: &[u8]| {
        fs::write(directory.join("m.ko"), bytes).expect("written");
        Kernel::open(tree.path())
            .expect("a tree")
            .load_order(&names)
            .is_err()
    };
    assert!(!refused(&whole));
    assert!(refused(b"") && refused(b"\x7fELF") && refused(&module("name=m\0")));
    // A cut anywhere, a changed byte anywhere: an answer or an error, and no end of the program.
    let cuts = (0..whole.len())
        .filter(|end| refused(&whole[..*end]))
        .count();
    assert!(cuts > whole.len() / 2, "{cuts}");
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0xff;
        refused(&changed);
    }
    fs::remove_file(directory.join("m.ko")).expect("removed");
    // Compressed by name only.
    fs::write(directory.join("m.ko.xz"), &whole).expect("written");
    let kernel = Kernel::open(tree.path()).expect("a tree");
    let error = kernel.load_order(&names).expect_err("no xz").to_string();
    assert!(error.contains("m.ko.xz is no module of kernel"), "{error}");
}

/// `xz --check=crc32 --lzma2=dict=1MiB` of `module("depends=\0")`, as the kernel's build compresses modules.
const MODULE_XZ: [&str; 3] = [
    "fd377a585a0000016922de360200210110000000a8708e86e0011f004e5d003f914584683d89a6da9ca6ac2e2bcbcb5e",
    "6ecc31bd2e10d7e46712a5eb4d116b49ed0e79189d378887dcf25b6f88dca4452107ca16638cf5c710bdcb5b64c1b993",
    "48c5cccbf954e73bc51ae1f08000000089d46749000166a002000000876fd6c73e300d8b020000000001595a",
];

#[test]
fn a_compressed_module_is_taken_out_whole_and_within_its_limit() {
    let tree = kernel_tree(&[]);
    let directory = tree.path().join("usr/lib/modules/6.1-test/kernel");
    let names = ["m".to_owned()];
    let load = || {
        let kernel = Kernel::open(tree.path()).expect("a tree");
        kernel.load_order(&names)
    };
    let packed = hex::decode(MODULE_XZ.concat()).expect("hex");
    fs::write(directory.join("m.ko.xz"), &packed).expect("written");
    let modules = load().expect("a module");
    assert_eq!(modules.len(), 1);
    assert_eq!(modules[0].bytes, module("depends=\0"));
    for end in 0..packed.len() {
        fs::write(directory.join("m.ko.xz"), &packed[..end]).expect("written");
        assert!(load().is_err(), "cut at {end}");
    }
    for at in 0..packed.len() {
        let mut changed = packed.clone();
        changed[at] ^= 0x55;
        fs::write(directory.join("m.ko.xz"), &changed).expect("written");
        assert!(load().is_err(), "changed at {at}");
    }
    fs::remove_file(directory.join("m.ko.xz")).expect("removed");
    // Sparse: it takes no room.
    let long = File::create(directory.join("m.ko")).expect("made");
    long.set_len(MODULE_BYTES_MAX + 1).expect("set");
    let error = load().expect_err("too long").to_string();
    assert!(error.contains("longer than"), "{error}");
}

#[test]
fn a_tree_that_is_not_one_kernel_is_refused() {
    let check = |change: &dyn Fn(&Path), expected: &str| {
        let tree = kernel_tree(&[("a", "")]);
        change(tree.path());
        let error = Kernel::open(tree.path()).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(
        &|tree| fs::create_dir(tree.join("usr/lib/modules/6.2")).expect("made"),
        "exactly one",
    );
    check(
        &|tree| fs::remove_file(tree.join("boot/vmlinuz-6.1-test")).expect("removed"),
        "neither boot/vmlinuz",
    );
    check(
        &|tree| {
            let link = tree.join("boot/vmlinuz-6.1-test");
            fs::remove_file(&link).expect("removed");
            std::os::unix::fs::symlink("/etc/hostname", link).expect("linked");
        },
        "neither boot/vmlinuz",
    );
    check(
        &|tree| {
            let directory = tree.join("usr/lib/modules/6.1-test/kernel");
            fs::create_dir(directory.join("other")).expect("made");
            fs::write(directory.join("other/a.ko"), b"").expect("written");
        },
        "twice",
    );
}
