//! An initrd: a newc archive, the format that Linux unpacks before it starts `/init`.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel. It is written by hand because every
//! field that a packer would take from its host (inode, owner, time) has to be a constant here: the archive is measured.

use std::io::{self, Write};

use super::bytes::{Part, ReadError};
use super::item::{Item, ItemKind, Listing};
use crate::limits::{DEB_PATH_BYTES_MAX, INSIDE_ITEMS_MAX};

/// Type bits of a mode: `inode(7)`.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Writes entries in the order they are given; see the module.
pub struct Writer<W> {
    out: W,
    written: u64,
    inode: u32,
}

impl<W: Write> Writer<W> {
    /// An empty archive.
    pub fn new(out: W) -> Self {
        Self {
            out,
            written: 0,
            inode: 0,
        }
    }

    /// A directory. Its own directory must have been written before it.
    pub fn directory(&mut self, path: &str, mode: u32) -> io::Result<()> {
        self.entry(path, DIRECTORY | mode, 2, (0, 0), &[])
    }

    /// A plain file.
    pub fn file(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        self.entry(path, FILE | mode, 1, (0, 0), bytes)
    }

    /// A character device.
    pub fn device(&mut self, path: &str, mode: u32, number: (u32, u32)) -> io::Result<()> {
        self.entry(path, CHARACTER_DEVICE | mode, 1, number, &[])
    }

    /// The end mark, and zeros up to 512 bytes as `cpio` writes them. QEMU and the firmware then have nothing left to pad.
    pub fn finish(mut self) -> io::Result<W> {
        self.header(0, 0, 1, (0, 0), 0, "TRAILER!!!")?;
        self.pad(512)?;
        Ok(self.out)
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        links: u32,
        number: (u32, u32),
        bytes: &[u8],
    ) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let climbs = name.split('/').any(|part| matches!(part, "" | "." | ".."));
        if climbs || name.contains('\0') || name == "TRAILER!!!" {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{path}` cannot be a path in an initrd"),
            ));
        }
        let length = u32::try_from(bytes.len()).map_err(|_| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{path} is longer than the 4 GiB that a newc archive can say"),
            )
        })?;
        self.inode += 1;
        self.header(self.inode, mode, links, number, length, name)?;
        self.out.write_all(bytes)?;
        self.written += bytes.len() as u64;
        self.pad(4)
    }

    fn header(
        &mut self,
        inode: u32,
        mode: u32,
        links: u32,
        (major, minor): (u32, u32),
        length: u32,
        name: &str,
    ) -> io::Result<()> {
        let name_length = name.len() as u32 + 1;
        let mut header = String::from("070701");
        // inode, mode, uid, gid, links, mtime, size, device of the file system (2), device number (2), name size, checksum.
        for field in [
            inode,
            mode,
            0,
            0,
            links,
            0,
            length,
            0,
            0,
            major,
            minor,
            name_length,
            0,
        ] {
            header.push_str(&format!("{field:08X}"));
        }
        header.push_str(name);
        header.push('\0');
        self.out.write_all(header.as_bytes())?;
        self.written += header.len() as u64;
        self.pad(4)
    }

    fn pad(&mut self, to: u64) -> io::Result<()> {
        let missing = self.written.next_multiple_of(to) - self.written;
        self.written += missing;
        self.out.write_all(&[0; 512][..missing as usize])
    }
}

/// Reads up to the end mark; what follows must be zeros, because the kernel would unpack a second archive there.
pub(crate) fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let mut listing = Listing::default();
    let mut at = 0;
    loop {
        let header: [u8; HEADER_BYTES] = file.array(at, "a header of the archive")?;
        if &header[..6] != b"070701" {
            return Err(broken("a header does not begin with 070701"));
        }
        let field = |index: usize| {
            let digits = &header[6 + 8 * index..14 + 8 * index];
            let plain = digits.iter().all(u8::is_ascii_hexdigit);
            let text = std::str::from_utf8(digits).ok().filter(|_| plain);
            let value = text.and_then(|text| u32::from_str_radix(text, 16).ok());
            value.ok_or(broken("a number is not eight hex digits"))
        };
        let (mode, user, group, bytes) = (field(1)?, field(2)?, field(3)?, field(6)?);
        let name_bytes = field(11)? as usize;
        if !(2..=DEB_PATH_BYTES_MAX).contains(&name_bytes) {
            return Err(broken("a name is empty or too long"));
        }
        let name = file.vec(
            at + HEADER_BYTES as u64,
            name_bytes,
            "a name of the archive",
        )?;
        let Some((0, name)) = name.split_last() else {
            return Err(broken("a name does not end with zero"));
        };
        let name = std::str::from_utf8(name).map_err(|_| broken("a name is not UTF-8"))?;
        let content = (at + HEADER_BYTES as u64 + name_bytes as u64).next_multiple_of(4);
        let end = content + u64::from(bytes);
        if name == "TRAILER!!!" {
            at_the_end(file, end)?;
            listing
                .areas
                .push((at..file.length(), "the end of the archive"));
            return Ok(listing);
        }
        file.part(content, u64::from(bytes), "a file of the archive")?;
        if listing.items.len() >= INSIDE_ITEMS_MAX {
            let max = INSIDE_ITEMS_MAX as u64;
            let (format, what) = (FORMAT, "entries");
            return Err(ReadError::TooMany { format, what, max });
        }
        listing.items.push(Item {
            path: format!("/{}", name.trim_start_matches('/')),
            kind: ItemKind::of(mode),
            mode: mode & 0o7777,
            owner: (user, group),
            bytes: u64::from(bytes),
            header: at..content,
            extents: Vec::from_iter((bytes > 0).then_some(content..end)),
        });
        at = end.next_multiple_of(4);
    }
}

fn at_the_end(file: &Part<'_>, from: u64) -> Result<(), ReadError> {
    let rest = file.length().saturating_sub(from);
    // `cpio` fills the last 512 bytes, and nothing of ours fills more.
    if rest > 4096 {
        return Err(broken("something follows its end"));
    }
    let rest = file.vec(from, rest as usize, "the end of the archive")?;
    match rest.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(broken("something follows its end")),
    }
}

fn broken(problem: &'static str) -> ReadError {
    let format = FORMAT;
    ReadError::Broken { format, problem }
}

const FORMAT: &str = "the archive";
/// Six characters and thirteen numbers of eight digits.
const HEADER_BYTES: usize = 110;
