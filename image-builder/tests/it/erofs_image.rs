//! Small EROFS images, byte by byte from the kernel's header.

use std::io::Read;

use image_builder::formats::entry::{Entry, What};

/// An image of two blocks and a file's data: a root whose entries are behind its inode, a file in a block of its own, one behind its
/// inode, and one in a directory.
pub fn erofs_image() -> Vec<u8> {
    let mut image = vec![0; 3 * 4096];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    put(1024, &0xe0f5_e1e2_u32.to_le_bytes());
    put(1024 + 12, &[12]);
    put(1024 + 14, &2u16.to_le_bytes());
    put(1024 + 40, &1u32.to_le_bytes());
    // Inode 0: a file of 4000 bytes in block 2, compact. Inode 1: a file of 5 bytes behind it. Inode 2: the root, extended.
    let compact = |format: u16, mode: u16, size: u32, block: u32| {
        let mut inode = [0; 32];
        inode[0..2].copy_from_slice(&format.to_le_bytes());
        inode[4..6].copy_from_slice(&mode.to_le_bytes());
        inode[8..12].copy_from_slice(&size.to_le_bytes());
        inode[16..20].copy_from_slice(&block.to_le_bytes());
        inode
    };
    let directory = |entries: &[(&str, u64)]| {
        let mut names = entries.len() * 12;
        let mut bytes = Vec::new();
        for (name, number) in entries {
            bytes.extend(number.to_le_bytes());
            bytes.extend((names as u16).to_le_bytes());
            bytes.extend([0, 0]);
            names += name.len();
        }
        bytes.extend(entries.iter().flat_map(|(name, _)| name.bytes()));
        bytes
    };
    let root = directory(&[(".", 2), ("..", 2), ("a", 10), ("b", 14), ("sub", 20)]);
    let sub = directory(&[(".", 20), ("..", 2), ("c", 10)]);
    let inodes = 4096;
    let mut extended = [0; 64];
    extended[0..2].copy_from_slice(&(1u16 | 2 << 1).to_le_bytes());
    extended[4..6].copy_from_slice(&0o040_755_u16.to_le_bytes());
    extended[8..16].copy_from_slice(&(root.len() as u64).to_le_bytes());
    put(inodes + 2 * 32, &extended);
    put(inodes + 2 * 32 + 64, &root);
    put(inodes + 10 * 32, &compact(0, 0o100_644, 4000, 2));
    put(inodes + 14 * 32, &compact(2 << 1, 0o100_644, 5, 0));
    put(inodes + 14 * 32 + 32, b"hello");
    put(
        inodes + 20 * 32,
        &compact(2 << 1, 0o040_755, sub.len() as u32, 0),
    );
    put(inodes + 20 * 32 + 32, &sub);
    put(2 * 4096, &[7; 4000]);
    image
}

/// The file system of these entries as `mkfs.erofs -E^inline_data` would lay it out, but for the order: an inode of 64 bytes for each, then
/// the bytes of each from a block of its own on. A directory has one block at most.
pub fn erofs_of(entries: &[Entry]) -> Vec<u8> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    let data = 4096 + (64 * entries.len()).next_multiple_of(4096);
    let mut image = vec![0; data];
    let number = |path: &str| {
        let at = entries.iter().position(|entry| entry.path == path);
        2 * at.expect("a directory is listed") as u64
    };
    for (index, entry) in entries.iter().enumerate() {
        let (kind, bytes) = match &entry.what {
            What::Directory => (0o040_000, names(&entry.path, &entries, &number)),
            What::File { source, .. } => {
                let mut bytes = Vec::new();
                source.open().unwrap().read_to_end(&mut bytes).unwrap();
                (0o100_000, bytes)
            }
            What::Link { target, .. } => (0o120_000, target.clone().into_bytes()),
            What::SameAs { .. } => panic!("no test needs it"),
        };
        let block = (image.len() / 4096) as u32;
        let inode = &mut image[4096 + 64 * index..][..64];
        inode[0] = 1;
        inode[4..6].copy_from_slice(&((kind | entry.mode) as u16).to_le_bytes());
        inode[8..16].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        inode[16..20].copy_from_slice(&block.to_le_bytes());
        inode[24..28].copy_from_slice(&entry.owner.user.to_le_bytes());
        inode[28..32].copy_from_slice(&entry.owner.group.to_le_bytes());
        image.extend(bytes);
        image.resize(image.len().next_multiple_of(4096), 0);
    }
    let blocks = (image.len() / 4096) as u32;
    image[1024..1028].copy_from_slice(&0xe0f5_e1e2_u32.to_le_bytes());
    image[1024 + 12] = 12;
    image[1024 + 36..1024 + 40].copy_from_slice(&blocks.to_le_bytes());
    image[1024 + 40] = 1;
    image
}

/// The one block of the directory at `path`.
fn names(path: &str, entries: &[&Entry], number: &dyn Fn(&str) -> u64) -> Vec<u8> {
    let parent = |path: &str| match path.rsplit_once('/') {
        Some(("", _)) | None => "/".to_owned(),
        Some((parent, _)) => parent.to_owned(),
    };
    let mut found = vec![(".", path.to_owned()), ("..", parent(path))];
    for entry in entries
        .iter()
        .filter(|entry| entry.path != "/" && parent(&entry.path) == path)
    {
        let name = entry.path.rsplit('/').next().unwrap();
        found.push((name, entry.path.clone()));
    }
    found.sort();
    let (mut block, mut at) = (Vec::new(), 12 * found.len());
    for (name, path) in &found {
        let of_path = entries.iter().find(|entry| entry.path == *path).unwrap();
        let kind = match of_path.what {
            What::Directory => 2,
            What::Link { .. } => 7,
            _ => 1,
        };
        block.extend(number(path).to_le_bytes());
        block.extend((at as u16).to_le_bytes());
        block.extend([kind, 0]);
        at += name.len();
    }
    block.extend(found.iter().flat_map(|(name, _)| name.bytes()));
    assert!(block.len() <= 4096);
    block
}
