//! The store: a directory that holds what was fetched, by digest, and the models unpacked from it.
//!
//! ```text
//! STORE/lock                    held while somebody fetches
//! STORE/partial/<sha256>        a download under way, resumable
//! STORE/sha256/<sha256>         whole and checked
//! STORE/models/<id>/<file>      unpacked and checked
//! STORE/models/.new-<id>        being unpacked; removed by the next run
//! ```
//! Trusts the file system's `rename`. Promises that nothing reaches `sha256/` or `models/<id>` except whole and checked.

pub(crate) mod download;
pub(crate) mod fetch;
mod fetch_error;
pub mod inputs;
pub(crate) mod mirrors;
pub(crate) mod packages;
pub(crate) mod tree;
mod zip_members;

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::files;
use crate::formats::metered::{Metered, TooLong};
use crate::limits::CHUNK_BYTES;
use crate::lock::Model;
use registers::Digest32;

pub use fetch::{Progress, ensure_models};
pub use fetch_error::{FetchError, MirrorFault};
pub use packages::{ensure_package, ensure_packages, ensure_tree, tree_key, visit_files};

/// A directory of fetched things; see the module.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    models: PathBuf,
}

impl Store {
    /// The store in `root`; nothing is created before it is needed.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self {
            models: root.join("models"),
            root,
        }
    }

    /// The store that the environment names: `CHRYSALIS_STORE`, else `chrysalis` in the user's cache directory. `CHRYSALIS_MODELS`
    /// puts the unpacked models elsewhere. `None` when there is neither a setting nor a home.
    pub fn from_environment() -> Option<Self> {
        Self::from_variables(|name| env::var_os(name).filter(|value| !value.is_empty()))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let cache = || {
            let home = || variable("HOME").map(|home| PathBuf::from(home).join(".cache"));
            variable("XDG_CACHE_HOME")
                .map(PathBuf::from)
                .or_else(home)
                .map(|cache| cache.join("chrysalis"))
        };
        let store = Self::at(
            variable("CHRYSALIS_STORE")
                .map(PathBuf::from)
                .or_else(cache)?,
        );
        Some(match variable("CHRYSALIS_MODELS") {
            Some(models) => Self {
                models: models.into(),
                ..store
            },
            None => store,
        })
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where unpacked models lie, one directory each.
    pub fn models_dir(&self) -> &Path {
        &self.models
    }

    /// Where the model called `id` lies once it is there.
    pub fn model_dir(&self, id: &str) -> PathBuf {
        self.models.join(id)
    }

    pub(crate) fn whole(&self, digest: Digest32) -> PathBuf {
        self.root.join("sha256").join(digest.to_string())
    }

    pub(crate) fn partial(&self, digest: Digest32) -> PathBuf {
        self.root.join("partial").join(digest.to_string())
    }

    pub(crate) fn new_model(&self, id: &str) -> PathBuf {
        self.models.join(format!(".new-{id}"))
    }

    pub(crate) fn old_model(&self, id: &str) -> PathBuf {
        self.models.join(format!(".old-{id}"))
    }

    /// Makes the directories and waits until no other process fetches into them. The lock ends with the returned file.
    pub(crate) fn claim(&self) -> Result<File, Error> {
        for directory in [
            &self.root,
            &self.root.join("partial"),
            &self.root.join("sha256"),
            &self.models,
        ] {
            files::create_directory(directory)?;
        }
        files::lock(&self.root.join("lock"), || {})
    }

    /// As [`Store::claim`], for unpacking a root's packages, which may be done while something else is fetched.
    pub(crate) fn claim_userlands(&self) -> Result<File, Error> {
        let directory = self.root.join("userlands");
        files::create_directory(&directory)?;
        files::lock(&directory.join("lock"), || {})
    }

    /// Whether every file of `model` is there and right, read in full.
    pub(crate) fn has_model(&self, model: &Model) -> Result<bool, Error> {
        let directory = self.model_dir(&model.id);
        for (name, bytes, sha256) in model.all_files() {
            if !is_whole(&directory.join(name), bytes, sha256)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Whether `path` is a file of exactly this size and digest. Only a failing disk is an error.
pub(crate) fn is_whole(path: &Path, bytes: u64, sha256: Digest32) -> Result<bool, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(false);
        }
        Err(error) => return Err(Error::disk("opening", path)(error)),
    };
    let metadata = file.metadata().map_err(Error::disk("reading", path))?;
    if !metadata.is_file() || metadata.len() != bytes {
        return Ok(false);
    }
    let mut metered = Metered::new(io::BufReader::with_capacity(CHUNK_BYTES, file), bytes);
    match io::copy(&mut metered, &mut io::sink()) {
        Ok(_) => Ok(metered.finish() == (bytes, sha256)),
        Err(error) if TooLong::is(&error) => Ok(false),
        Err(error) => Err(Error::disk("reading", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], expected: Option<(&str, &str)>) {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        let store = Store::from_variables(find);
        let got = store
            .as_ref()
            .map(|store| (store.root(), store.models_dir()));
        assert_eq!(
            got,
            expected.map(|(root, models)| (Path::new(root), Path::new(models)))
        );
    }

    #[test]
    fn the_store_is_where_the_environment_says() {
        check(&[], None);
        check(
            &[("HOME", "/h")],
            Some(("/h/.cache/chrysalis", "/h/.cache/chrysalis/models")),
        );
        check(
            &[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")],
            Some(("/x/chrysalis", "/x/chrysalis/models")),
        );
        check(
            &[("HOME", "/h"), ("CHRYSALIS_STORE", "/s")],
            Some(("/s", "/s/models")),
        );
        check(
            &[("CHRYSALIS_STORE", "/s"), ("CHRYSALIS_MODELS", "/m")],
            Some(("/s", "/m")),
        );
    }
}
