//! Two directories, byte for byte.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::Serialize;

use crate::error::Error;
use crate::files;
use crate::limits::CHUNK_BYTES;

/// The first thing that differs in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Difference {
    /// Only one of the directories has it: the first or the second.
    OnlyIn(&'static str),
    /// Permissions.
    Mode([u32; 2]),
    /// A byte, counted from zero. The shorter of two files that are otherwise the same differs where it ends.
    Byte(u64),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OnlyIn(which) => write!(f, "is only in the {which} build"),
            Self::Mode([one, two]) => write!(f, "has mode {one:o} and {two:o}"),
            Self::Byte(at) => write!(f, "differs from byte {at} on"),
        }
    }
}

/// Every name in either directory, with the first difference if there is one. Directories inside are not expected and count as
/// different.
pub fn compare(first: &Path, second: &Path) -> Result<Vec<(String, Option<Difference>)>, Error> {
    let mut names = BTreeSet::new();
    for directory in [first, second] {
        let entries = files::entries(directory)?;
        names.extend(entries.iter().map(fs::DirEntry::file_name));
    }
    let mut found = Vec::new();
    for name in names {
        let (one, two) = (first.join(&name), second.join(&name));
        let difference = match (one.exists(), two.exists()) {
            (true, false) => Some(Difference::OnlyIn("first")),
            (false, _) => Some(Difference::OnlyIn("second")),
            (true, true) => files(&one, &two)?,
        };
        found.push((name.to_string_lossy().into_owned(), difference));
    }
    Ok(found)
}

fn files(one: &Path, two: &Path) -> Result<Option<Difference>, Error> {
    let mode = |path: &Path| {
        let metadata = fs::metadata(path).map_err(Error::disk("reading", path))?;
        Ok::<u32, Error>(metadata.permissions().mode())
    };
    let modes = [mode(one)?, mode(two)?];
    if modes[0] != modes[1] {
        return Ok(Some(Difference::Mode(modes)));
    }
    let byte = first_byte(one, two).map_err(Error::disk("comparing", one))?;
    Ok(byte.map(Difference::Byte))
}

/// The first byte in which two files differ; where the shorter one ends, if that is all.
pub(crate) fn first_byte(one: &Path, two: &Path) -> io::Result<Option<u64>> {
    let open = |path| File::open(path).map(|file| BufReader::with_capacity(CHUNK_BYTES, file));
    let (mut one, mut two) = (open(one)?, open(two)?);
    let (mut a, mut b) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
    let mut at = 0;
    loop {
        let (got, other) = (fill(&mut one, &mut a)?, fill(&mut two, &mut b)?);
        let shared = got.min(other);
        if let Some(place) = (0..shared).find(|place| a[*place] != b[*place]) {
            return Ok(Some(at + place as u64));
        }
        if got != other {
            return Ok(Some(at + shared as u64));
        }
        if got == 0 {
            return Ok(None);
        }
        at += got as u64;
    }
}

/// As much as there is, up to a full buffer.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..])? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(one: &[(&str, &[u8])], two: &[(&str, &[u8])]) -> Vec<(String, Option<Difference>)> {
        let write = |files: &[(&str, &[u8])]| {
            let directory = tempfile::tempdir().expect("a directory");
            for (name, bytes) in files {
                fs::write(directory.path().join(name), bytes).expect("written");
            }
            directory
        };
        compare(write(one).path(), write(two).path()).expect("compared")
    }

    #[test]
    fn the_first_difference_of_every_file_is_found() {
        let long = vec![1; CHUNK_BYTES + 10];
        let mut other = long.clone();
        other[CHUNK_BYTES + 3] = 2;
        let check = |one: &[u8], two: &[u8], expected: Option<Difference>| {
            assert_eq!(
                compared(&[("a", one)], &[("a", two)]),
                [("a".to_owned(), expected)]
            );
        };
        check(&long, &long, None);
        check(b"", b"", None);
        check(
            &long,
            &other,
            Some(Difference::Byte(CHUNK_BYTES as u64 + 3)),
        );
        check(
            &long,
            &long[..CHUNK_BYTES],
            Some(Difference::Byte(CHUNK_BYTES as u64)),
        );
        check(b"", b"a", Some(Difference::Byte(0)));
        let only = compared(&[("a", b"")], &[("b", b"")]);
        let expected = [("a", "first"), ("b", "second")]
            .map(|(name, which)| (name.to_owned(), Some(Difference::OnlyIn(which))));
        assert_eq!(only, expected);
    }
}
