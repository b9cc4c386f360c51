//! A small EROFS image, byte by byte from the kernel's header.

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
