//! An initrd: a newc archive, the format that Linux unpacks before it starts `/init`.
//!
//! Format: `Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel. It is written by hand because every
//! field that a packer would take from its host (inode, owner, time) has to be a constant here: the archive is measured.

pub(crate) mod reader;

use std::io::{self, Write};

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
