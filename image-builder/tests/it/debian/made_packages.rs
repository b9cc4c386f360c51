//! Made packages, indexes and locks.

use image_builder::lock::PackageLock;
use registers::Digest32;
use tar::{EntryType, Header};

use super::archive::Archive;

/// One entry of a made package, taken as it is, however bad.
pub enum Made<'a> {
    /// Name.
    Directory(&'a str),
    /// Name, mode, content.
    File(&'a str, u32, &'a [u8]),
    /// Name, length that the header claims, content.
    Lying(&'a str, u64, &'a [u8]),
    /// Name, kind, target.
    Link(&'a str, EntryType, &'a str),
}

/// A package with these entries as `data.tar`.
pub fn deb(entries: &[Made<'_>]) -> Vec<u8> {
    deb_of("data.tar", &tar_of(entries))
}

/// A package whose data has this name and these bytes.
pub fn deb_of(name: &str, data: &[u8]) -> Vec<u8> {
    let members: [(&str, &[u8]); 3] = [
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", b"never looked at"),
        (name, data),
    ];
    ar_of(&members)
}

/// An ar archive.
pub fn ar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        let size = bytes.len();
        archive.extend(format!("{name:<16}0           0     0     100644  {size:<10}`\n").bytes());
        archive.extend(*bytes);
        archive.extend(vec![b'\n'; size % 2]);
    }
    archive
}

/// A tar archive.
pub fn tar_of(entries: &[Made<'_>]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        let (name, kind, mode, target, bytes, content): (_, _, _, _, _, &[u8]) = match entry {
            Made::Directory(name) => (name, EntryType::Directory, 0o700, "", 0, b""),
            Made::File(name, mode, content) => {
                let bytes = content.len() as u64;
                (name, EntryType::Regular, *mode, "", bytes, content)
            }
            Made::Lying(name, bytes, content) => {
                (name, EntryType::Regular, 0o644, "", *bytes, content)
            }
            Made::Link(name, kind, target) => (name, *kind, 0o777, *target, 0, b""),
        };
        let mut header = Header::new_gnu();
        // Past the crate's own checks, which would refuse to make what we want to see refused.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes);
        header.set_mtime(1_700_000_000);
        header.set_cksum();
        archive.extend(header.as_bytes());
        archive.extend(content);
        archive.extend(vec![0; content.len().next_multiple_of(512) - content.len()]);
    }
    archive.extend([0; 1024]);
    archive
}

/// A lock of packages with these bytes, all of them in the closure `run`.
pub fn lock_of(archive: &Archive, packages: &[(&str, &[u8])]) -> PackageLock {
    let text = lock_text(archive, packages);
    PackageLock::parse(text.as_bytes()).expect("a good lock")
}

/// The text of that lock.
pub fn lock_text(archive: &Archive, packages: &[(&str, &[u8])]) -> String {
    let mut listed = Vec::new();
    let mut names = Vec::new();
    for (name, bytes) in packages {
        let path = pool_path(name);
        archive.put(&path, bytes);
        let (size, sha256) = (bytes.len(), Digest32::of(bytes));
        listed.push(format!(
            "{{\"name\": \"{name}\", \"version\": \"1.0-1\", \"architecture\": \"amd64\", \"suite\": \"trixie\", \"path\": \"{path}\", \"bytes\": {size}, \"sha256\": \"{sha256}\"}}"
        ));
        names.push(format!("\"{name}\""));
    }
    format!(
        "{{\"version\": 2, \"recipe\": \"sim\", \"debian\": {{\"mirror\": \"{}\", \"suites\": [{{\"name\": \"trixie\", \
         \"release_sha256\": \"{}\", \"release_date\": \"Sat, 12 Sep 2026 07:55:41 UTC\"}}]}}, \"packages\": [{}], \"kernel\": {{\"package\": {first}}}, \"firmware\": {{\"package\": \
         {first}}}, \"tools\": {{\"build\": [], \"run\": [{}]}}}}",
        archive.url(),
        Digest32::of(b""),
        listed.join(", "),
        names.join(", "),
        first = names[0],
    )
}

/// Where the package lies on the mirror.
pub fn pool_path(name: &str) -> String {
    format!("pool/main/{}/{name}_1.0-1_amd64.deb", &name[..1])
}

/// `bytes` in an xz container that stores them (The .xz File Format 1.1.0, LZMA2 chunks of kind 1 and 2).
pub fn xz_stored(bytes: &[u8]) -> Vec<u8> {
    let mut stream = b"\xfd7zXZ\0".to_vec();
    let flags = [0, 0];
    stream.extend(flags);
    stream.extend(crc32(&flags));
    // One filter, LZMA2 with a dictionary of 8 MiB.
    let header = [2, 0, 0x21, 1, 0x16, 0, 0, 0];
    let mut block = [&header[..], &crc32(&header)].concat();
    for (number, chunk) in bytes.chunks(1 << 16).enumerate() {
        block.push(if number == 0 { 1 } else { 2 });
        block.extend((chunk.len() as u16).wrapping_sub(1).to_be_bytes());
        block.extend(chunk);
    }
    block.push(0);
    let unpadded = block.len();
    block.resize(unpadded.next_multiple_of(4), 0);
    stream.extend(block);
    let mut index = vec![0, 1];
    index.extend(variable_length(unpadded));
    index.extend(variable_length(bytes.len()));
    index.resize(index.len().next_multiple_of(4), 0);
    index.extend(crc32(&index));
    let footer = [&((index.len() / 4 - 1) as u32).to_le_bytes()[..], &flags].concat();
    stream.extend(index);
    stream.extend(crc32(&footer));
    stream.extend(footer);
    stream.extend(b"YZ");
    stream
}

fn variable_length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// The checksum of the container.
pub fn crc32(bytes: &[u8]) -> [u8; 4] {
    let mut sum = !0u32;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & 0u32.wrapping_sub(sum & 1));
        }
    }
    (!sum).to_le_bytes()
}
