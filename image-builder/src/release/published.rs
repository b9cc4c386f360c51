//! A published image: a directory, or a URL with the same names below it. Its index is the signed statement.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::directory::Directory;
use super::verify::{Outcome, Report, check};
use crate::error::{Error, Fault, error};
use crate::files;
use crate::formats::metered::Metered;
use crate::image::{MANIFEST, OutputDir};
use crate::limits::ENVELOPE_BYTES_MAX;
use crate::lock::base_url;
use crate::provenance::{ENVELOPE, Envelope, PublicKey, STATEMENT, Statement, Subject};
use crate::store::download::{Agent, Wanted, get};
use crate::store::fetch::ensure_wanted;
use crate::store::{Progress, Store};

/// Where an image is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Below this URL.
    Url(String),
    /// In this directory.
    Directory(PathBuf),
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
    fn envelope(&self) -> Result<Vec<u8>, Error> {
        Ok(match self {
            Self::Url(base) => {
                let url = format!("{base}/{ENVELOPE}");
                get(&Agent::new(), &url, ENVELOPE_BYTES_MAX as u64)?
            }
            Self::Directory(directory) => {
                files::read(&directory.join(ENVELOPE), ENVELOPE_BYTES_MAX as u64)?
            }
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
) -> Result<Report, Error> {
    let place = OutputDir::claim(out)?;
    let text = source.envelope()?;
    let of_envelope = format!("{ENVELOPE}: ");
    let envelope = Envelope::from_json(&text).map_err(Error::of(Fault::Release, &of_envelope))?;
    let payload = envelope.open(key);
    let payload = payload.map_err(Error::of(Fault::Release, &of_envelope))?;
    let statement =
        Statement::from_json(payload).map_err(Error::of(Fault::Release, &of_envelope))?;
    if statement.subject(MANIFEST).is_none() {
        return Err(error!(Release, "{ENVELOPE} lists no {MANIFEST}"));
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
        files::write(&directory.join(name), bytes)?;
    }
    let report = check(&Directory::open(directory)?, Some(key))?;
    if let Some(refused) = report.refusal(allowed) {
        let what = &refused.what;
        return Err(match &refused.outcome {
            Outcome::NotComputed(why) => error!(
                Release,
                "the release was signed, and its {what} was not computed: {why}; --allow-unchecked {what} takes the word of whoever signed"
            ),
            Outcome::Same(why) | Outcome::Differs(why) => error!(
                Release,
                "the release was signed, and is no image: {what}: {why}"
            ),
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
) -> Result<(), Error> {
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
fn copy(from: &Path, subject: &Subject, directory: &Path) -> Result<(), Error> {
    let open = files::open(from)?;
    let to = directory.join(&subject.name);
    let disk = Error::disk("writing", &to);
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
        false => Err(error!(
            Release,
            "{} has {bytes} bytes and SHA-256 {sha256}, not what the signed statement says",
            subject.name
        )),
    }
}
