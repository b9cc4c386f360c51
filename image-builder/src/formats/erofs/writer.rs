//! The file system of the root: EROFS, made by the locked `mkfs.erofs` from a tar stream that is written here.
//!
//! A stream, because a directory would have to carry owners, modes and times that depend on who builds, and would need the space
//! of the models a second time. Nothing is compressed: weights do not shrink, and a decompressor is code that reads a disk.
//! The file system's UUID is a function of its contents; there is no build time in it.

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::error::{Error, Fault};
use crate::formats::entry::{Entry, Source, What};
use crate::formats::metered::Metered;
use crate::limits::TOOL_STDERR_BYTES_MAX;
use registers::Digest32;

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum RootError {
    #[error("writing {path} into the root: {error}")]
    Disk { path: String, error: io::Error },
    #[error("{path} changed while it was written into the root: it had {expected}, now {got}")]
    Changed {
        path: String,
        expected: Digest32,
        got: Digest32,
    },
    #[error("mkfs.erofs {problem}")]
    Tool { problem: String },
}

impl From<RootError> for Error {
    fn from(error: RootError) -> Self {
        Self::new(Fault::Tool, error.to_string())
    }
}

/// Arguments for `mkfs.erofs` so that it reads the stream of [`make`] on its standard input and writes `image`.
///
/// `--sort=none` with `^inline_data` makes it write as it reads; otherwise it spools the whole stream. It replaces `image`
/// by unlinking it, so the directory has to be writable.
pub fn arguments(entries: &[Entry], image: &str) -> Vec<String> {
    let fixed = [
        "--tar=f",
        "--quiet",
        "--sort=none",
        "-E^inline_data",
        "-b4096",
        "-T1",
    ];
    let mut arguments: Vec<String> = fixed.map(String::from).into();
    if entries.iter().all(|entry| entry.attributes.is_empty()) {
        arguments.push("-x-1".into());
    }
    arguments.push(format!("-U{}", uuid(entries)));
    arguments.push(image.to_owned());
    arguments
}

/// Runs `mkfs`, a command with the [`arguments`] for these entries, and feeds it.
pub fn make(entries: &[Entry], mkfs: Command) -> Result<(), RootError> {
    make_counted(entries, mkfs, &mut |_| {})
}

/// As [`make`], and says how many bytes of the stream were written so far.
pub fn make_counted(
    entries: &[Entry],
    mut mkfs: Command,
    written: &mut dyn FnMut(u64),
) -> Result<(), RootError> {
    let tool = |problem: String| RootError::Tool { problem };
    let mut child = mkfs
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| tool(format!("could not be started: {error}")))?;
    let said = listen(&mut child);
    let stdin = child.stdin.take().expect("it was asked for above");
    let stdin = Counted(stdin, 0, written);
    let written = write_tar(entries, io::BufWriter::with_capacity(1 << 20, stdin));
    // The pipe is closed by now, so the tool ends, whether or not it got everything.
    let status = child
        .wait()
        .map_err(|error| tool(format!("could not be waited for: {error}")))?;
    let said = said.join().unwrap_or_default();
    match written {
        // It went away in the middle: its own words tell more than our broken pipe.
        Err(RootError::Disk { error, .. })
            if error.kind() == io::ErrorKind::BrokenPipe && !status.success() =>
        {
            Err(tool(format!("ended with {status}: {said}")))
        }
        Err(error) => Err(error),
        Ok(()) if !status.success() => Err(tool(format!("ended with {status}: {said}"))),
        Ok(()) => Ok(()),
    }
}

/// A writer, how many bytes went through it, and whom to tell.
struct Counted<'a, W>(W, u64, &'a mut dyn FnMut(u64));

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1 += written as u64;
        (self.2)(self.1);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes the stream: `entries` by path, of time 1. Each file has to have the digest of the list.
pub fn write_tar(entries: &[Entry], out: impl Write) -> Result<(), RootError> {
    let mut archive = tar::Builder::new(out);
    for entry in sorted(entries) {
        put(&mut archive, entry)?;
    }
    let flushed = archive.into_inner().and_then(|mut out| out.flush());
    flushed.map_err(|error| RootError::Disk {
        path: "/".into(),
        error,
    })
}

fn put<W: Write>(archive: &mut tar::Builder<W>, entry: &Entry) -> Result<(), RootError> {
    let disk = |error| RootError::Disk {
        path: entry.path.clone(),
        error,
    };
    put_attributes(archive, entry).map_err(disk)?;
    let mut header = tar::Header::new_gnu();
    header.set_mode(entry.mode);
    header.set_uid(entry.owner.user.into());
    header.set_gid(entry.owner.group.into());
    // Not 0: some tools take that for "no time".
    header.set_mtime(1);
    header.set_size(0);
    let path = entry.path.trim_matches('/');
    match &entry.what {
        What::Directory => {
            header.set_entry_type(tar::EntryType::Directory);
            let path = if path.is_empty() { "." } else { path };
            archive.append_data(&mut header, format!("{path}/"), io::empty())
        }
        What::File {
            bytes,
            sha256,
            source,
            ..
        } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_size(*bytes);
            let got = append(archive, &mut header, path, source, *bytes).map_err(disk)?;
            if got != (*bytes, *sha256) {
                return Err(RootError::Changed {
                    path: entry.path.clone(),
                    expected: *sha256,
                    got: got.1,
                });
            }
            Ok(())
        }
        What::Link { target, .. } => {
            header.set_entry_type(tar::EntryType::Symlink);
            archive.append_link(&mut header, path, target)
        }
        What::SameAs { path: first, .. } => {
            header.set_entry_type(tar::EntryType::Link);
            archive.append_link(&mut header, path, first.trim_matches('/'))
        }
    }
    .map_err(disk)
}

/// The header before a file's own that carries what the old format has no room for (pax, POSIX.1-2001), under the key that
/// star and GNU tar gave to extended attributes.
fn put_attributes<W: Write>(archive: &mut tar::Builder<W>, entry: &Entry) -> io::Result<()> {
    if entry.attributes.is_empty() {
        return Ok(());
    }
    let mut records = Vec::new();
    for (name, value) in &entry.attributes {
        records.push((format!("SCHILY.xattr.{name}"), &value[..]));
    }
    let records = records.iter().map(|(key, value)| (key.as_str(), *value));
    archive.append_pax_extensions(records)
}

fn append<W: Write>(
    archive: &mut tar::Builder<W>,
    header: &mut tar::Header,
    path: &str,
    source: &Source,
    bytes: u64,
) -> io::Result<(u64, Digest32)> {
    let mut metered = Metered::new(source.open()?, bytes);
    archive.append_data(header, path, &mut metered)?;
    Ok(metered.finish())
}

/// By path, so that a directory comes before what lies in it and the order of a listing never shows.
fn sorted(entries: &[Entry]) -> Vec<&Entry> {
    let mut entries: Vec<&Entry> = entries.iter().collect();
    entries.sort_by(|one, other| one.path.cmp(&other.path));
    entries
}

/// A UUID (RFC 9562, version 8) out of all that the file system holds.
fn uuid(entries: &[Entry]) -> String {
    let mut hasher = Sha256::new();
    for entry in sorted(entries) {
        hasher.update(entry.line());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits = hex::encode(bytes);
    let parts = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    parts.join("-")
}

/// Collects what the tool says, in a thread of its own so that a full pipe never holds it up.
fn listen(child: &mut Child) -> thread::JoinHandle<String> {
    let mut stderr = child.stderr.take().expect("it was asked for above");
    thread::spawn(move || {
        let mut said = Vec::new();
        // What cannot be read is not said; the exit status decides.
        let _ = (&mut stderr)
            .take(TOOL_STDERR_BYTES_MAX)
            .read_to_end(&mut said);
        let _ = io::copy(&mut stderr, &mut io::sink());
        String::from_utf8_lossy(&said).trim().to_owned()
    })
}
