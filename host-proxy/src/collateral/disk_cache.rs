//! One file for each answer, whole or absent.
//!
//! A file is one line of JSON about the answer, then the answer. It is written under a temporary name, synced and renamed,
//! so that a kill leaves either the old answer or the new one. Several programs may share a directory.

use super::key::CollateralKey;
use crate::error::{Context, Error, Fault};
use crate::limits::{CACHE_ENTRIES_MAX, CACHE_ENTRY_BYTES_MAX, UNFINISHED_AGE};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

pub(super) struct DiskCache {
    directory: PathBuf,
    bytes_max: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryHeader {
    /// Always 1.
    pub(super) version: u32,
    pub(super) source: String,
    pub(super) fetched_unix_s: u64,
    /// When to ask again, though it still holds.
    pub(super) refresh_unix_s: u64,
    /// Never served after this.
    pub(super) expires_unix_s: u64,
    /// Of Intel's collateral. An answer with a lower number is refused from then on.
    pub(super) evaluation_number: Option<u32>,
    /// Of an OCSP answer: the request in hexadecimal, since the file is named by its digest.
    #[serde(rename = "question")]
    pub(super) ocsp_request: Option<String>,
    /// Of the answer: a disk may lie, too.
    pub(super) sha256: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) header: EntryHeader,
    pub(super) body: Vec<u8>,
}

impl DiskCache {
    /// Opens the directory, creates it if it is missing, and removes what a killed program left behind.
    pub(super) fn open(directory: &Path, bytes_max: u64) -> Result<DiskCache, Error> {
        fs::create_dir_all(directory).context(Fault::Host, failed("creating", directory))?;
        let cache = DiskCache {
            directory: directory.to_owned(),
            bytes_max,
        };
        cache.trim(None)?;
        Ok(cache)
    }

    /// The answer for a key, expired or not. A broken file is removed and counts as absent.
    pub(super) fn read(&self, key: &CollateralKey) -> Option<Entry> {
        let path = self.directory.join(key.file_name());
        match read_entry(&path) {
            Ok(entry) => Some(entry),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "removing a broken file of the cache");
                // If it cannot be removed, the next reader finds it as broken.
                let _ = fs::remove_file(&path);
                None
            }
        }
    }

    /// Keeps an answer in place of an older one.
    pub(super) fn write(
        &self,
        key: &CollateralKey,
        header: EntryHeader,
        body: &[u8],
    ) -> Result<(), Error> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let path = self.directory.join(key.file_name());
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
                serde_json::to_writer(&file, &header)?;
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
            return Err(error).context(Fault::Host, failed("writing", &path));
        }
        self.trim(Some(&path))
    }

    /// Every key with the header of its answer.
    pub(super) fn list(&self) -> Result<Vec<(CollateralKey, EntryHeader)>, Error> {
        let mut list = Vec::new();
        for file in self.files()? {
            let Ok(header) =
                File::open(&file.path).and_then(|file| read_head(&mut BufReader::new(file)))
            else {
                continue;
            };
            let name = file.path.file_name().and_then(|name| name.to_str());
            let key = name.and_then(|name| CollateralKey::from_file_name(name, ocsp_key(&header)));
            list.extend(key.map(|key| (key, header)));
        }
        Ok(list)
    }

    /// Removes what a killed program left, and the oldest answers while there are too many or too large ones.
    fn trim(&self, keep: Option<&Path>) -> Result<(), Error> {
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

    fn files(&self) -> Result<Vec<CacheFile>, Error> {
        let mut files = Vec::new();
        let listing = || failed("listing", &self.directory)();
        for entry in fs::read_dir(&self.directory).context(Fault::Host, listing)? {
            let entry = entry.context(Fault::Host, listing)?;
            // Gone again: another program trims, too.
            let Ok(data) = entry.metadata() else { continue };
            if data.is_file() {
                files.push(CacheFile {
                    path: entry.path(),
                    bytes: data.len(),
                    modified: data.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
        }
        Ok(files)
    }
}

struct CacheFile {
    path: PathBuf,
    bytes: u64,
    modified: SystemTime,
}

impl EntryHeader {
    pub(super) fn digest(body: &[u8]) -> String {
        hex::encode(Sha256::digest(body))
    }
}

fn ocsp_key(header: &EntryHeader) -> Option<CollateralKey> {
    let der = hex::decode(header.ocsp_request.as_ref()?).ok()?;
    CollateralKey::ocsp(&der).ok()
}

fn read_entry(path: &Path) -> io::Result<Entry> {
    let mut file = BufReader::new(File::open(path)?);
    let header = read_head(&mut file)?;
    let mut body = Vec::new();
    file.take(CACHE_ENTRY_BYTES_MAX + 1)
        .read_to_end(&mut body)?;
    let broken = |why: &'static str| io::Error::new(io::ErrorKind::InvalidData, why);
    if body.len() as u64 > CACHE_ENTRY_BYTES_MAX {
        return Err(broken("longer than any answer"));
    }
    if EntryHeader::digest(&body) != header.sha256 {
        return Err(broken("its digest does not fit"));
    }
    Ok(Entry { header, body })
}

fn read_head(file: &mut impl BufRead) -> io::Result<EntryHeader> {
    let mut line = Vec::new();
    file.take(HEAD_BYTES_MAX).read_until(b'\n', &mut line)?;
    let header: EntryHeader = serde_json::from_slice(&line)?;
    if header.version != 1 {
        let words = format!("version {} is not known", header.version);
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(header)
}

fn failed(doing: &'static str, path: &Path) -> impl Fn() -> String {
    let path = path.display().to_string();
    move || format!("{doing} {path} in the collateral cache")
}

/// Prefix of a file that is not complete yet.
const UNFINISHED: &str = ".unfinished-";
/// The line before an answer; longest with an OCSP request.
const HEAD_BYTES_MAX: u64 = 32 * 1024;

#[cfg(test)]
mod tests;
