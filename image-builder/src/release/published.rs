//! A published image: a directory, or a URL with the same names below it. Its index is the signed statement.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::directory::{Directory, DirectoryError, read};
use super::verify::{Outcome, Report, check};
use crate::formats::metered::Metered;
use crate::image::{BuildError, MANIFEST, OutputDir};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::lock::base_url;
use crate::provenance::{
    ENVELOPE, Envelope, EnvelopeError, PublicKey, STATEMENT, Statement, StatementError, Subject,
};
use crate::store::download::{Agent, Wanted, get};
use crate::store::fetch::ensure_wanted;
use crate::store::{Fault, FetchError, Progress, Store};

/// Where an image is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Below this URL.
    Url(String),
    /// In this directory.
    Directory(PathBuf),
}

/// Why an image was not fetched. The output directory is as it was.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum ReleaseError {
    #[error("{ENVELOPE}: {0}")]
    Envelope(#[from] EnvelopeError),
    #[error("{ENVELOPE}: {0}")]
    Statement(#[from] StatementError),
    #[error("{ENVELOPE} lists no {MANIFEST}")]
    NoManifest,
    #[error("{name} has {bytes} bytes and SHA-256 {sha256}, not what the signed statement says")]
    OtherFile {
        name: String,
        bytes: u64,
        sha256: registers::Digest32,
    },
    #[error("the release was signed, and is no image: {what}: {why}")]
    NoImage { what: String, why: String },
    #[error(
        "the release was signed, and its {what} was not computed: {why}; --allow-unchecked {what} takes the word of whoever signed"
    )]
    NotComputed { what: String, why: String },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    OutputDir(#[from] BuildError),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
}

impl ReleaseError {
    /// One lower-case word, for `--json`.
    pub fn fault(&self) -> &'static str {
        match self {
            Self::Envelope(_)
            | Self::Statement(_)
            | Self::NoManifest
            | Self::OtherFile { .. }
            | Self::NotComputed { .. }
            | Self::NoImage { .. } => "release",
            Self::Fetch(error) if error.fault() == Fault::Lock => "release",
            Self::Fetch(error) => error.fault().word(),
            Self::OutputDir(error) => error.fault(),
            Self::Directory(_) => "disk",
        }
    }
}

impl Source {
    /// A URL, or else a path.
    pub fn parse(text: &str) -> Self {
        match base_url(text) {
            Some(url) => Self::Url(url.to_owned()),
            None => Self::Directory(text.into()),
        }
    }

    /// What is checked before anything else is asked for.
    fn envelope(&self) -> Result<Vec<u8>, ReleaseError> {
        Ok(match self {
            Self::Url(base) => {
                let url = format!("{base}/{ENVELOPE}");
                get(&Agent::new(), &url, ENVELOPE_BYTES_MAX as u64)?
            }
            Self::Directory(directory) => read(&directory.join(ENVELOPE), ENVELOPE_BYTES_MAX)?,
        })
    }
}

/// Makes the image that `key` signed be in `out`: the statement's signature first, then every file by its length and digest while
/// it arrives, then the image as a whole. What it states must hold, except for what the caller `allowed` to go unchecked.
pub fn fetch(
    source: &Source,
    key: &PublicKey,
    out: &Path,
    store: &Store,
    allowed: &[&str],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Report, ReleaseError> {
    let place = OutputDir::claim(out)?;
    let text = source.envelope()?;
    let envelope = Envelope::from_json(&text)?;
    let payload = envelope.open(key)?;
    let statement = Statement::from_json(payload)?;
    if statement.subject(MANIFEST).is_none() {
        return Err(ReleaseError::NoManifest);
    }
    let directory = place.directory();
    match source {
        Source::Url(base) => download_all(base, &statement, store, directory, progress)?,
        Source::Directory(from) => {
            for subject in statement.subjects() {
                copy(&from.join(&subject.name), &subject, directory)?;
            }
        }
    }
    for (name, bytes) in [(ENVELOPE, &text[..]), (STATEMENT, payload)] {
        let path = directory.join(name);
        fs::write(&path, bytes).map_err(BuildError::disk("writing", &path))?;
    }
    let report = check(&Directory::open(directory)?, Some(key))?;
    if let Some(refused) = report.refusal(allowed) {
        let what = refused.what.clone();
        return Err(match &refused.outcome {
            Outcome::NotComputed(why) => ReleaseError::NotComputed {
                what,
                why: why.clone(),
            },
            Outcome::Same(why) | Outcome::Differs(why) => ReleaseError::NoImage {
                what,
                why: why.clone(),
            },
        });
    }
    crate::image::settle(directory)?;
    place.put()?;
    Ok(report)
}

/// Into the store first, where a broken download is resumed by the next run, and from there to the image.
fn download_all(
    base: &str,
    statement: &Statement,
    store: &Store,
    directory: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), ReleaseError> {
    let _claim = store.claim()?;
    let agent = Agent::new();
    // The manifest, which says what the rest is, before the rest.
    let mut subjects: Vec<Subject> = statement.subjects().collect();
    subjects.sort_by_key(|subject| (subject.name != MANIFEST, subject.bytes));
    let mut whole = Vec::new();
    for subject in &subjects {
        let url = format!("{base}/{}", subject.name);
        let (bytes, sha256) = (subject.bytes, subject.sha256);
        let wanted = Wanted {
            url: &url,
            bytes,
            sha256,
        };
        let path = ensure_wanted(store, &agent, wanted, progress)?;
        if subject.name == MANIFEST {
            // Not one byte more for a manifest that is none.
            Directory::open(&path)?;
        }
        whole.push(path);
    }
    for (path, subject) in whole.iter().zip(&subjects) {
        copy(path, subject, directory)?;
    }
    for path in &whole {
        // What is in the image is not kept twice. When it cannot be removed, it is in the way of nobody.
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// A file into the image's directory, held against the statement on the way.
fn copy(from: &Path, subject: &Subject, directory: &Path) -> Result<(), ReleaseError> {
    let open = File::open(from).map_err(BuildError::disk("opening", from))?;
    let to = directory.join(&subject.name);
    let disk = BuildError::disk("writing", &to);
    let mut out = File::create_new(&to).map_err(&disk)?;
    let mut metered = Metered::new(open, subject.bytes);
    let copied = io::copy(&mut metered, &mut out).and_then(|_| out.flush());
    let longer = copied
        .as_ref()
        .is_err_and(crate::formats::metered::TooLong::is);
    if !longer {
        copied.map_err(disk)?;
    }
    let (bytes, sha256) = metered.finish();
    match !longer && (bytes, sha256) == (subject.bytes, subject.sha256) {
        true => Ok(()),
        false => Err(ReleaseError::OtherFile {
            name: subject.name.clone(),
            bytes,
            sha256,
        }),
    }
}
