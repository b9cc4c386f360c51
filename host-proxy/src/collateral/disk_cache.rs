//! The cache: one file for each answer, whole or absent.
//!
//! A file is one line of JSON about the answer, then the answer. It is written beside its place, synced and renamed into it,
//! so that being killed leaves either the old answer or the new one. Several programs may share a directory.

use super::ocsp::OcspQuestion;
use super::want::Want;
use crate::limits::{CACHE_ENTRIES_MAX, CACHE_ENTRY_BYTES_MAX, UNFINISHED_AGE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// A directory of answers.
pub(super) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
}

/// Why the cache cannot be used. The disk, or whoever named the directory, is at fault.
#[derive(Debug, thiserror::Error)]
#[error("the cache cannot be used: {doing} {path}: {source}")]
pub struct CacheError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What is known about an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Always 1.
    pub(super) version: u32,
    /// Who gave it.
    pub(super) source: String,
    pub(super) fetched_unix_s: u64,
    /// When to ask again, though it still holds.
    pub(super) refresh_unix_s: u64,
    /// It is served until then.
    pub(super) expires_unix_s: u64,
    /// Of Intel's collateral: the evaluation number, below which nothing is taken any more.
    pub(super) evaluation_number: Option<u32>,
    /// The request behind an OCSP answer, hexadecimal.
    pub(super) question: Option<String>,
    /// Of the answer. A disk may lie, too.
    pub(super) sha256: String,
}

/// An answer and what is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

impl Cache {
    /// Opens the directory, makes it if it is missing, and clears what a killed program left behind.
    pub(super) fn open(directory: &Path, bytes_max: u64) -> Result<Cache, CacheError> {
        fs::create_dir_all(directory).map_err(CacheError::of("making", directory))?;
        let cache = Cache {
            directory: directory.to_owned(),
            bytes_max,
        };
        cache.trim(None)?;
        Ok(cache)
    }

    /// The answer to a question, expired or not. What is broken is removed and was never there.
    pub(super) fn read(&self, want: &Want) -> Option<Entry> {
        let path = self.directory.join(want.file_name());
        match read_entry(&path) {
            Ok(entry) => Some(entry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "removing a broken file of the cache");
                // If it cannot be removed, it is as broken at the next look.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps an answer in place of an older one.
    pub(super) fn write(&self, want: &Want, head: Head, body: &[u8]) -> Result<(), CacheError> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = self.directory.join(want.file_name());
        let unfinished = self.directory.join(format!(
            "{UNFINISHED}{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        ));
        let written = File::options()
            .write(true)
            .create_new(true)
            .open(&unfinished)
            .and_then(|mut file| {
                serde_json::to_writer(&file, &head)?;
                file.write_all(b"\n")?;
                file.write_all(body)?;
                file.sync_all()
            });
        let placed = written.and_then(|()| {
            fs::rename(&unfinished, &path)?;
            File::open(&self.directory)?.sync_all()
        });
        if let Err(error) = placed {
            let _ = fs::remove_file(&unfinished);
            return Err(CacheError::of("writing", &path)(error));
        }
        self.trim(Some(&path))
    }

    /// What is there and when to ask for it again.
    pub(super) fn list(&self) -> Result<Vec<(Want, Head)>, CacheError> {
        let mut list = Vec::new();
        for file in self.files()? {
            let Ok(head) =
                File::open(&file.path).and_then(|file| read_head(&mut BufReader::new(file)))
            else {
                continue;
            };
            let name = file.path.file_name().and_then(|name| name.to_str());
            let want = name.and_then(|name| Want::from_file_name(name, question(&head)));
            list.extend(want.map(|want| (want, head)));
        }
        Ok(list)
    }

    /// Removes what a killed program left, and the oldest answers while there is too much.
    fn trim(&self, keep: Option<&Path>) -> Result<(), CacheError> {
        let now = SystemTime::now();
        let mut files = self.files()?;
        files.retain(|file| {
            let name = file.path.file_name().unwrap_or_default();
            if !name.to_string_lossy().starts_with(UNFINISHED) {
                return true;
            }
            // A younger one may be another program's, which is about to rename it.
            if now.duration_since(file.modified).unwrap_or_default() > UNFINISHED_AGE {
                let _ = fs::remove_file(&file.path);
            }
            false
        });
        files.sort_by_key(|file| file.modified);
        let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
        let mut count = files.len();
        for file in &files {
            if bytes <= self.bytes_max && count <= CACHE_ENTRIES_MAX {
                break;
            }
            if keep == Some(&*file.path) {
                continue;
            }
            // Another program may have removed it meanwhile; what counts is that it is gone.
            let _ = fs::remove_file(&file.path);
            bytes -= file.bytes;
            count -= 1;
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<Listed>, CacheError> {
        let mut files = Vec::new();
        let entries =
            fs::read_dir(&self.directory).map_err(CacheError::of("listing", &self.directory))?;
        for entry in entries {
            let entry = entry.map_err(CacheError::of("listing", &self.directory))?;
            // Gone again: another program trims, too.
            let Ok(data) = entry.metadata() else { continue };
            if data.is_file() {
                files.push(Listed {
                    path: entry.path(),
                    bytes: data.len(),
                    modified: data.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
        }
        Ok(files)
    }
}

struct Listed {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl Head {
    /// The digest that a body must have.
    pub(super) fn digest(body: &[u8]) -> String {
        hex::encode(Sha256::digest(body))
    }
}

/// The request behind an OCSP answer.
fn question(head: &Head) -> Option<OcspQuestion> {
    let der = hex::decode(head.question.as_ref()?).ok()?;
    OcspQuestion::parse(&der).ok()
}

fn read_entry(path: &Path) -> io::Result<Entry> {
    let mut file = BufReader::new(File::open(path)?);
    let head = read_head(&mut file)?;
    let mut body = Vec::new();
    file.take(CACHE_ENTRY_BYTES_MAX + 1)
        .read_to_end(&mut body)?;
    let broken = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    if body.len() as u64 > CACHE_ENTRY_BYTES_MAX {
        return Err(broken("longer than any answer"));
    }
    if Head::digest(&body) != head.sha256 {
        return Err(broken("its digest does not fit"));
    }
    Ok(Entry { head, body })
}

fn read_head(file: &mut impl BufRead) -> io::Result<Head> {
    let mut line = Vec::new();
    file.take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    let head: Head = serde_json::from_slice(&line)?;
    if head.version != 1 {
        let words = format!("version {} is not known", head.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(head)
}

impl CacheError {
    fn of(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CacheError {
        let path = path.to_owned();
        move |source| CacheError {
            doing,
            path,
            source,
        }
    }
}

/// How the names of files under way begin.
const UNFINISHED: &str = ".unfinished-";
/// The line in front of an answer; an OCSP request makes it longest.
const HEAD_BYTES_MAX: u64 = 32 * 1024;

#[cfg(test)]
mod tests;
