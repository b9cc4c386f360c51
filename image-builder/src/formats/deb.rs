//! The `.deb` format, read (deb(5)): an `ar` archive of `debian-binary`, a control archive and a data archive.
//!
//! The control archive, with its maintainer scripts, is passed over: no script of a package ever runs. The data archive is a
//! compressed tar archive of which each entry is checked before the caller sees it: its path is relative, plain and bounded, its
//! kind is a directory, a file or a link, and a link stays below the root. The bytes are the caller's to have checked against a
//! digest; still nothing here trusts them, since a digest only says that they are the same as yesterday's.

use std::collections::BTreeMap;
use std::io::{self, Read};

use crate::formats::metered::{Limited, TooLong};
use crate::limits::{
    DEB_COMPONENT_BYTES_MAX, DEB_DEPTH_MAX, DEB_ENTRIES_MAX, DEB_EXTENDED_BYTES_MAX,
    DEB_MEMBERS_MAX, DEB_PATH_BYTES_MAX, DEB_UNPACKED_BYTES_MAX,
};

use super::compression::Compression;
use super::pax::Extended;

/// Why a package cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum DebError {
    #[error("it is not a Debian package: {0}")]
    Container(String),
    #[error("its data is `{0}`; this version reads .gz, .xz, .zst, and what is not compressed")]
    Compression(String),
    #[error("its data is broken: {0}")]
    Broken(String),
    #[error("its entry `{path}` {problem}")]
    Entry { path: String, problem: &'static str },
    #[error("it has more than {max} {what}")]
    TooMuch { what: &'static str, max: u64 },
}

/// One entry of a package's data.
pub struct Entry<'a> {
    /// Its checked path, relative to the root of the file system, without `.` and `..`. Merged directories are mapped: `bin/sh`
    /// is `usr/bin/sh` here.
    pub path: String,
    /// Whose it is and what may be done with it, for who makes a file system of it; a tree of tools shows none of this.
    pub meta: Meta,
    /// What it is.
    pub kind: Kind<'a>,
}

/// What a file system keeps of an entry beside its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Permission bits, set-user-ID and the like included.
    pub mode: u32,
    /// The number of its user, if the archive has one.
    pub user: Option<u64>,
    /// The number of its group, if the archive has one.
    pub group: Option<u64>,
    /// Extended attributes by their full names.
    pub attributes: BTreeMap<String, Vec<u8>>,
}

/// What an entry is.
pub enum Kind<'a> {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Its permission bits; no set-user-ID and the like.
        mode: u32,
        /// Its length.
        bytes: u64,
        /// Its content.
        content: &'a mut dyn Read,
    },
    /// A symbolic link, with a target that is relative and never leaves the root, wherever the link is followed from.
    Symlink {
        /// The target.
        target: String,
    },
    /// Another name of a file of the same package.
    HardLink {
        /// The checked path of that file.
        target: String,
    },
}

/// A package under way.
pub struct Deb<R> {
    data: R,
    compression: Compression,
    bytes: u64,
}

const MAGIC: &[u8; 8] = b"!<arch>\n";
/// Directories that Debian merged into `usr`, where packages may still ship files by the old name.
pub const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

impl<R: Read> Deb<R> {
    /// Reads up to where the data begins.
    pub fn open(mut deb: R) -> Result<Self, DebError> {
        let (compression, bytes) = find(&mut deb, DATA)?;
        Ok(Self {
            data: deb,
            compression,
            bytes,
        })
    }

    /// Shows every entry of the data to `visit`, in the archive's order. Content that `visit` does not read is passed over.
    pub fn entries<E: From<DebError>>(
        self,
        mut visit: impl FnMut(Entry<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let member = Exactly::new(self.data, self.bytes);
        read_tar(self.compression.open(member), &mut visit)
    }
}

/// The archive with the maintainer scripts.
pub(super) const CONTROL: &str = "control.tar";
const DATA: &str = "data.tar";

/// Reads up to where an archive begins, and tells how it is compressed and how long it is. The order of the members is deb(5)'s and
/// dpkg's: `debian-binary`, control, data, and between them what begins with an underscore, which is passed over.
pub(super) fn find(deb: &mut impl Read, wanted: &str) -> Result<(Compression, u64), DebError> {
    let refuse = |problem: String| DebError::Container(problem);
    let mut magic = [0; MAGIC.len()];
    deb.read_exact(&mut magic).map_err(container)?;
    if &magic != MAGIC {
        return Err(refuse("it does not begin as an archive".into()));
    }
    let (name, bytes) = member_header(deb)?;
    if name != "debian-binary" {
        return Err(refuse("debian-binary is not first".into()));
    }
    check_version(deb, bytes)?;
    let mut order = [CONTROL, DATA].into_iter().peekable();
    for _ in 1..DEB_MEMBERS_MAX {
        let (name, bytes) = member_header(deb)?;
        if !name.starts_with('_') {
            let expected = order.next_if(|stem| name.starts_with(stem));
            let expected = expected.ok_or_else(|| {
                let name: String = name.chars().take(16).collect();
                refuse(format!(
                    "its member `{}` is not one of debian-binary, control.tar, data.tar in this order",
                    name.escape_debug()
                ))
            })?;
            if expected == wanted {
                let compression = Compression::of(&name[expected.len()..]);
                let compression = compression.ok_or(DebError::Compression(name))?;
                return Ok((compression, bytes));
            }
        }
        skip(deb, bytes.saturating_add(bytes % 2))?;
    }
    Err(too_much("members before its data", DEB_MEMBERS_MAX as u64))
}

/// The first line says 2 and a minor number; "new lines may be present, and should be ignored" (deb(5)).
fn check_version(deb: &mut impl Read, bytes: u64) -> Result<(), DebError> {
    let mut start = Vec::new();
    let read = deb
        .take(bytes.min(VERSION_BYTES_MAX))
        .read_to_end(&mut start);
    let read = read.map_err(container)? as u64;
    skip(deb, bytes.saturating_add(bytes % 2) - read)?;
    let line = start
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let minor = line.strip_prefix(b"2.").unwrap_or_default();
    if minor.is_empty() || !minor.iter().all(u8::is_ascii_digit) {
        let line: String = String::from_utf8_lossy(line).chars().take(16).collect();
        return Err(DebError::Container(format!(
            "its format is not 2.0: debian-binary says `{}`",
            line.escape_debug()
        )));
    }
    Ok(())
}

/// Of the first line of `debian-binary`, which has four.
const VERSION_BYTES_MAX: u64 = 64;

/// One header of ar(5): 60 bytes of text. The name may have a slash at its end.
fn member_header(deb: &mut impl Read) -> Result<(String, u64), DebError> {
    let mut header = [0; 60];
    deb.read_exact(&mut header).map_err(container)?;
    let bad = || DebError::Container("a header of its members is malformed".into());
    let text = std::str::from_utf8(&header).map_err(|_| bad())?;
    let field =
        |from: usize, to: usize| text.get(from..to).map(|field| field.trim_end_matches(' '));
    let (name, size) = (
        field(0, 16).ok_or_else(bad)?,
        field(48, 58).ok_or_else(bad)?,
    );
    let digits = !size.is_empty() && size.bytes().all(|b| b.is_ascii_digit());
    if !digits || !text.ends_with("`\n") {
        return Err(bad());
    }
    let bytes = size.parse().map_err(|_| bad())?;
    Ok((name.strip_suffix('/').unwrap_or(name).to_owned(), bytes))
}

fn skip(deb: &mut impl Read, bytes: u64) -> Result<(), DebError> {
    let skipped = io::copy(&mut deb.take(bytes), &mut io::sink()).map_err(container)?;
    if skipped < bytes {
        return Err(DebError::Container("it ends in the middle".into()));
    }
    Ok(())
}

fn read_tar<E: From<DebError>>(
    data: impl Read,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut archive = tar::Archive::new(Limited::new(data, DEB_UNPACKED_BYTES_MAX));
    // Raw: the crate would read a long name of any length into memory before anybody could say no.
    let entries = archive.entries().map_err(broken)?.raw(true);
    let (mut long_name, mut long_link, mut count) = (None, None, 0);
    let mut extended: Option<Extended> = None;
    for entry in entries {
        let mut entry = entry.map_err(broken)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            replace(&mut long_name, long_text(&mut entry)?)?;
            continue;
        }
        if kind.is_gnu_longlink() {
            replace(&mut long_link, long_text(&mut entry)?)?;
            continue;
        }
        if kind.is_pax_local_extensions() {
            if extended.replace(extended_header(&mut entry)?).is_some() {
                return Err(DebError::Broken("two extended headers for one entry".into()).into());
            }
            continue;
        }
        count += 1;
        if count > DEB_ENTRIES_MAX {
            let max = DEB_ENTRIES_MAX as u64;
            return Err(too_much("entries", max).into());
        }
        let Extended {
            path,
            link,
            attributes,
        } = extended.take().unwrap_or_default();
        let own_path = || entry.header().path_bytes().into_owned();
        let name = path.or(long_name.take()).unwrap_or_else(own_path);
        let own_link = || entry.header().link_name_bytes().map(|l| l.into_owned());
        let link = link.or(long_link.take()).or_else(own_link);
        let header = entry.header();
        let meta = Meta {
            mode: header.mode().map_err(broken)? & 0o7777,
            user: header.uid().ok(),
            group: header.gid().ok(),
            attributes,
        };
        visit_entry(&mut entry, meta, &name, link.as_deref(), visit)?;
    }
    if extended.is_some() || long_name.is_some() || long_link.is_some() {
        return Err(DebError::Broken("it ends with a header of no entry".into()).into());
    }
    // The compressed stream has its checksum at its end, behind the archive's padding.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(broken)?;
    Ok(())
}

fn visit_entry<E: From<DebError>>(
    entry: &mut tar::Entry<'_, impl Read>,
    meta: Meta,
    name: &[u8],
    link: Option<&[u8]>,
    visit: &mut dyn FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let refuse = |problem| DebError::Entry {
        path: String::from_utf8_lossy(name).chars().take(200).collect(),
        problem,
    };
    let path = checked_path(name).map_err(refuse)?;
    let kind = entry.header().entry_type();
    let link = || link.ok_or_else(|| refuse("is a link to nothing"));
    let kind = if kind.is_dir() {
        Kind::Directory
    } else if path.is_empty() {
        return Err(refuse("is the root and no directory").into());
    } else if kind.is_file() || kind.is_contiguous() {
        Kind::File {
            mode: meta.mode & 0o777,
            bytes: entry.size(),
            content: entry,
        }
    } else if kind.is_symlink() {
        if is_merged(name) {
            // A package that ships `lib64 -> usr/lib64` says what holds for every tree.
            let target = link()?;
            let same = target.strip_prefix(b"/").unwrap_or(target) == path.as_bytes();
            let other = || refuse("is a link in place of a merged directory");
            return same.then_some(()).ok_or_else(|| other().into());
        }
        let target = checked_target(&path, link()?).map_err(refuse)?;
        Kind::Symlink { target }
    } else if kind.is_hard_link() {
        let target = checked_path(link()?).map_err(refuse)?;
        Kind::HardLink { target }
    } else {
        return Err(refuse("is no directory, file or link").into());
    };
    visit(Entry { path, meta, kind })
}

fn extended_header(entry: &mut impl Read) -> Result<Extended, DebError> {
    let mut records = Vec::new();
    let limit = DEB_EXTENDED_BYTES_MAX;
    let mut limited = entry.take(limit + 1);
    limited.read_to_end(&mut records).map_err(broken)?;
    if records.len() as u64 > limit {
        return Err(too_much("bytes in an extended header", limit));
    }
    let broken = |what| DebError::Broken(format!("an extended header {what}"));
    Extended::parse(&records).map_err(broken)
}

/// The content of a GNU long-name entry, which ends with a zero byte.
fn long_text(entry: &mut impl Read) -> Result<Vec<u8>, DebError> {
    let mut text = Vec::new();
    let limit = DEB_PATH_BYTES_MAX as u64 + 2;
    entry.take(limit).read_to_end(&mut text).map_err(broken)?;
    if text.last() == Some(&0) {
        text.pop();
    }
    if text.len() > DEB_PATH_BYTES_MAX {
        return Err(too_much("bytes in a path", DEB_PATH_BYTES_MAX as u64));
    }
    Ok(text)
}

fn replace(slot: &mut Option<Vec<u8>>, text: Vec<u8>) -> Result<(), DebError> {
    match slot.replace(text) {
        None => Ok(()),
        Some(_) => Err(DebError::Broken("two long names for one entry".into())),
    }
}

/// `./usr/share/` as `usr/share`, `./lib/x` as `usr/lib/x`, `./` as nothing.
fn checked_path(name: &[u8]) -> Result<String, &'static str> {
    let name = checked_text(name)?;
    if name.starts_with('/') {
        return Err("has an absolute path");
    }
    let mut path = String::new();
    for part in name.split('/').filter(|part| !matches!(*part, "" | ".")) {
        check_component(part)?;
        if path.is_empty() && MERGED.contains(&part) {
            path.push_str("usr");
        }
        if !path.is_empty() {
            path.push('/');
        }
        path.push_str(part);
    }
    if path.split('/').count() > DEB_DEPTH_MAX {
        return Err("has a path of too many parts");
    }
    Ok(path)
}

fn is_merged(name: &[u8]) -> bool {
    let name = name.strip_prefix(b"./").unwrap_or(name);
    MERGED.iter().any(|merged| merged.as_bytes() == name)
}

/// The target of a symbolic link at `path`, relative.
///
/// Only `..` at the beginning climb, and no further than to the root. As every directory above the link is a directory and no link
/// itself (the tree sees to that), those climb where they seem to; the rest descends, through directories and links of which the
/// same holds. So following never leaves the root, from inside or from the host. An absolute target becomes the relative one
/// that means the same inside.
fn checked_target(path: &str, target: &[u8]) -> Result<String, &'static str> {
    let target = checked_text(target)?;
    let depth = path.split('/').count() - 1;
    let mut parts: Vec<&str> = Vec::new();
    if target.starts_with('/') {
        parts.resize(depth, "..");
    }
    for part in target.split('/').filter(|part| !matches!(*part, "" | ".")) {
        if part != ".." {
            check_component(part)?;
        } else if parts.last().is_some_and(|last| *last != "..") {
            return Err("is a link that climbs after it descended");
        }
        parts.push(part);
    }
    let climbs = parts.iter().filter(|part| **part == "..").count();
    match parts.len() {
        _ if climbs > depth => Err("is a link that leaves the root"),
        0 => Ok(".".into()),
        _ => Ok(parts.join("/")),
    }
}

fn checked_text(text: &[u8]) -> Result<&str, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "has a path that is not UTF-8")?;
    if text.is_empty() || text.len() > DEB_PATH_BYTES_MAX {
        return Err("has a path that is empty or too long");
    }
    if text.contains(char::is_control) {
        return Err("has a control character in its path");
    }
    Ok(text)
}

fn check_component(part: &str) -> Result<(), &'static str> {
    if part == ".." {
        return Err("has a path with `..`");
    }
    if part.len() > DEB_COMPONENT_BYTES_MAX {
        return Err("has a path with a part that is too long");
    }
    Ok(())
}

/// A reader that ends after so many bytes, and does not take an earlier end for the right one.
pub(super) struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Exactly<R> {
    pub(super) fn new(inner: R, bytes: u64) -> Self {
        Self { inner, left: bytes }
    }
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = self.inner.read(&mut buffer[..wanted])?;
        if got == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

fn container(error: io::Error) -> DebError {
    DebError::Container(error.to_string())
}

fn broken(error: io::Error) -> DebError {
    if TooLong::is(&error) {
        return too_much("bytes of data unpacked", DEB_UNPACKED_BYTES_MAX);
    }
    DebError::Broken(error.to_string())
}

fn too_much(what: &'static str, max: u64) -> DebError {
    DebError::TooMuch { what, max }
}
