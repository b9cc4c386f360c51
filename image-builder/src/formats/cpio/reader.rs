//! An initrd: newc (`Documentation/driver-api/early-userspace/buffer-format.rst` of the kernel).

use crate::formats::bytes::{Part, ReadError};
use crate::formats::listing::{Item, ItemKind, Listing};
use crate::limits::{DEB_PATH_BYTES_MAX, INSIDE_ITEMS_MAX};

/// Reads up to the end mark; what follows must be zeros, because the kernel would unpack a second archive there.
pub fn list(file: &Part<'_>) -> Result<Listing, ReadError> {
    let mut listing = Listing::default();
    let mut at = 0;
    loop {
        let header: [u8; HEADER] = file.array(at, "a header of the archive")?;
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
        let name = file.vec(at + HEADER as u64, name_bytes, "a name of the archive")?;
        let Some((0, name)) = name.split_last() else {
            return Err(broken("a name does not end with zero"));
        };
        let name = std::str::from_utf8(name).map_err(|_| broken("a name is not UTF-8"))?;
        let content = (at + HEADER as u64 + name_bytes as u64).next_multiple_of(4);
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
            kind: kind(mode),
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

/// The type bits of a mode: `inode(7)`.
pub fn kind(mode: u32) -> ItemKind {
    match mode & 0o170_000 {
        0o100_000 => ItemKind::File,
        0o040_000 => ItemKind::Directory,
        0o120_000 => ItemKind::Link,
        _ => ItemKind::Device,
    }
}

fn broken(problem: &'static str) -> ReadError {
    let format = FORMAT;
    ReadError::Broken { format, problem }
}

const FORMAT: &str = "the archive";
/// Six characters and thirteen numbers of eight digits.
const HEADER: usize = 110;
