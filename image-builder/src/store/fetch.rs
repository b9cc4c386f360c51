//! Files into the store by digest, and models out of them.
//!
//! Per model: unpacked and right? done. Archive whole in the store? else download it. Unpack, check, move into place.

use std::path::{Path, PathBuf};

use super::download::{Agent, Wanted, download};
use super::zip_members::unpack;
use super::{FetchError, Store, is_whole};
use crate::error::{Error, error};
use crate::files;
use crate::formats::gguf::small_files;
use crate::lock::debian::Date;
use crate::lock::recipe::Fingerprint;
use crate::lock::{Model, ModelLock};
use ::model::whole::is_gguf;
use registers::Digest32;

/// What is happening, for a progress bar or a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress<'a> {
    /// The model was there and right.
    Present {
        /// The model.
        id: &'a str,
    },
    /// A download begins, or goes on from `got`.
    Starting {
        /// Where from.
        url: &'a str,
        /// Bytes that are there already.
        got: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A suite's list of indexes was signed by a pinned key.
    Signed {
        /// The suite.
        suite: &'a str,
        /// The key.
        by: Fingerprint,
        /// The list's date.
        dated: Date,
        /// Until when its archive stands by it, if it says.
        valid_until: Option<Date>,
    },
    /// Some more bytes arrived.
    Received {
        /// Bytes so far.
        got: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The connection broke and the download is resumed.
    Resuming {
        /// What broke it.
        reason: &'a str,
    },
    /// A mirror failed, and the next one is asked.
    Refused {
        /// What it did.
        reason: &'a str,
    },
    /// The partial download was useless and is begun again.
    Restarting {
        /// Why.
        reason: &'a str,
    },
    /// The archive is whole; its files are being taken out.
    Unpacking {
        /// The model.
        id: &'a str,
    },
    /// Packages are being unpacked; [`Progress::Received`] counts their bytes.
    Working {
        /// What is being done, for people.
        what: &'a str,
        /// Bytes in all.
        total: u64,
    },
    /// The model was put in place.
    Placed {
        /// The model.
        id: &'a str,
    },
}

/// Makes every model of `lock` be in `store`, whole and checked, and returns the directory that holds one directory per model.
pub fn ensure_models(
    store: &Store,
    lock: &ModelLock,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, FetchError> {
    let _claim = store.claim()?;
    let agent = Agent::new();
    for model in lock.models() {
        if store.has_model(model)? {
            progress(Progress::Present { id: &model.id });
            continue;
        }
        let (url, bytes, sha256) = (
            lock.url(&model.archive),
            model.archive.bytes,
            model.archive.sha256,
        );
        let url = &url;
        ensure_wanted(store, &agent, Wanted { url, bytes, sha256 }, progress)?;
        progress(Progress::Unpacking { id: &model.id });
        place(store, model)?;
        progress(Progress::Placed { id: &model.id });
    }
    Ok(store.models_dir().to_owned())
}

/// The same for a caller that has claimed the store.
pub(crate) fn ensure_wanted(
    store: &Store,
    agent: &Agent,
    wanted: Wanted<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, FetchError> {
    let whole = store.whole(wanted.sha256);
    if is_whole(&whole, wanted.bytes, wanted.sha256)? {
        return Ok(whole);
    }
    let partial = store.partial(wanted.sha256);
    download(agent, wanted, &partial, progress)?;
    files::rename(&partial, &whole)?;
    files::sync(&store.root().join("sha256"))?;
    Ok(whole)
}

/// Unpacks into a directory beside the final one and swaps the two, so that a reader sees the old model or the new one.
fn place(store: &Store, model: &Model) -> Result<(), Error> {
    let (new, old, place) = (
        store.new_model(&model.id),
        store.old_model(&model.id),
        store.model_dir(&model.id),
    );
    for leftover in [&new, &old] {
        files::remove(leftover)?;
    }
    let unpacked = unpack(&store.whole(model.archive.sha256), model, &new);
    if let Err(error) = unpacked.and_then(|()| make(model, &new)) {
        files::remove(&new)?;
        return Err(error);
    }
    if place.symlink_metadata().is_ok() {
        files::rename(&place, &old)?;
    }
    files::rename(&new, &place)?;
    files::sync(store.models_dir())?;
    files::remove(&old)
}

/// Makes what the lock says is made of the model's GGUF. The digests hold this program to what the lock's author had.
fn make(model: &Model, directory: &Path) -> Result<(), Error> {
    let gguf = model.files.iter().find(|file| is_gguf(&file.name));
    let (Some(gguf), false) = (gguf, model.made.is_empty()) else {
        return Ok(());
    };
    let wrong = |problem: String| contents(model, &gguf.member, &problem);
    let made =
        small_files(&directory.join(&gguf.name)).map_err(|error| wrong(error.to_string()))?;
    for locked in &model.made {
        let (_, content) = { made.iter() }
            .find(|(name, _)| *name == locked.name)
            .ok_or_else(|| wrong(format!("makes no {}", locked.name)))?;
        let got = (content.len() as u64, Digest32::of(content));
        if got != (locked.bytes, locked.sha256) {
            return Err(wrong(format!(
                "makes a {} of {} bytes with SHA-256 {} where the lock has {} and {}",
                locked.name, got.0, got.1, locked.bytes, locked.sha256
            )));
        }
        let path = directory.join(&locked.name);
        files::write(&path, content)?;
        files::sync(&path)?;
    }
    files::sync(directory)
}

/// The lock's archive whose member is not what the lock says.
pub(super) fn contents(model: &Model, member: &str, problem: &str) -> Error {
    let archive = &model.archive.file;
    error!(
        Lock,
        "the archive {archive} is the one in the lock, but its member {member} {problem}: the lock contradicts itself"
    )
}
