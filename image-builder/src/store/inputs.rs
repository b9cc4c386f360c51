//! Inputs of a recipe as directories: what a package or a wheel has inside, a file of the web, what lies beside the recipe.
//!
//! ```text
//! deb    STORE/trees/<digest>       the package alone, as super::packages unpacks it
//! pypi   STORE/inputs/<sha256>      a wheel, unpacked; <sha256> is the wheel's own
//! url    STORE/inputs/<sha256>      a directory with this one file
//! path   STORE/inputs/<sha256>      what lies beside the recipe, copied
//!        STORE/inputs/.new-…        being made; removed by the next run
//! ```
//! Trusts the lock, and the store's owner not to change a directory that is there. Promises that a directory's content has the digest
//! that the lock names, that no path in it leads out and that nothing in it is a link. A failure leaves nothing at a final path.

pub mod local;
mod wheel;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::download::Agent;
use super::mirrors::{ensure_from, is_gone, sentence};
use super::packages::ensure_tree;
use super::{FetchError, Progress, Store};
use crate::error::{Error, Fault, error};
use crate::files;
use crate::lock::package_lock::{InputKind, LockedInput, PackageLock};
use crate::lock::recipe::{Recipe, Source, file_of};

/// Where inputs come from and where they go.
#[derive(Debug, Clone, Copy)]
pub struct InputSources<'a> {
    /// Where everything is kept.
    pub store: &'a Store,
    /// The recipe's directory, which has the files that it names.
    pub directory: &'a Path,
    /// A mirror that keeps the paths of files.pythonhosted.org, asked first.
    pub pypi_files_url: Option<&'a str>,
}

/// An input that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What is inside.
    pub directory: PathBuf,
    /// What it is, for people: a name and a version, a URL or a path.
    pub from: String,
}

/// Makes the input called `name` be in the store, as a directory.
pub fn open(
    places: InputSources<'_>,
    recipe: &Recipe,
    lock: &PackageLock,
    name: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Opened, Error> {
    let absent = || error!(Lock, "the lock has no input {name}");
    let input = recipe.input(name).ok_or_else(absent)?;
    if let Source::Deb { package } = &input.source {
        let package = lock.alone(&package.name).ok_or_else(absent)?;
        return Ok(Opened {
            directory: ensure_tree(places.store, lock, &[package], progress)?,
            from: format!("{} {}", package.name, package.version),
        });
    }
    let locked = lock.input(name).ok_or_else(absent)?;
    let from = match (&input.source, &locked.version) {
        (Source::Pypi { project, .. }, Some(version)) => format!("{project} {version}"),
        _ => locked.seen.clone(),
    };
    let directory = ensure_input(places, locked, progress)?;
    Ok(Opened { directory, from })
}

/// Makes a locked input be in the store and returns its directory. A directory that is there is reused, and nobody is asked.
pub fn ensure_input(
    places: InputSources<'_>,
    input: &LockedInput,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
    let place = places.store.root().join("inputs");
    let place = place.join(input.sha256.to_string());
    // What lies beside the recipe is looked at each time: it is there to be changed.
    if input.kind == InputKind::Path && place.is_dir() {
        copy_path(places, input, None)?;
    }
    if place.is_dir() {
        return Ok(place);
    }
    let _claim = places.store.claim()?;
    // Somebody else may have made it while we waited.
    if !place.is_dir() {
        files::make_directory(&place, |new| {
            match input.kind {
                InputKind::Pypi => unpack_wheel(places, input, new, progress)?,
                InputKind::Url => copy_file(places, input, new, progress)?,
                InputKind::Path => copy_path(places, input, Some(new))?,
            }
            // Thousands of small files: once for all of them.
            let synced = files::open(new)?;
            nix::unistd::syncfs(synced.as_fd()).map_err(Error::disk("syncing", new))
        })?;
    }
    Ok(place)
}

fn fetch(
    places: InputSources<'_>,
    input: &LockedInput,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
    let mirrored = input
        .seen
        .strip_prefix(PYPI_FILES)
        .zip(places.pypi_files_url);
    let mirrored = mirrored.map(|(path, base)| format!("{}{path}", base.trim_end_matches('/')));
    let mut urls: Vec<_> = mirrored.into_iter().chain([input.seen.clone()]).collect();
    urls.dedup();
    let what = (input.bytes, input.sha256);
    ensure_from(places.store, &Agent::new(), &urls, what, progress).map_err(|mut tried| {
        let (name, what) = (&input.name, sentence(&tried));
        let last = tried.last().map_or(Fault::Network, FetchError::fault);
        match tried.len() {
            1 if last == Fault::Disk => tried.remove(0).into(),
            _ if tried.iter().all(is_gone) => error!(
                Gone,
                "the input {name} is gone ({what}): lock another one, or put the file of its digest somewhere and name that place"
            ),
            _ => Error::new(last, format!("the input {name} cannot be had: {what}")),
        }
    })
}

fn unpack_wheel(
    places: InputSources<'_>,
    input: &LockedInput,
    new: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let archive = fetch(places, input, progress)?;
    let what = format!("unpacking {}", input.name);
    progress(Progress::Working {
        what: &what,
        total: input.bytes,
    });
    files::create_directory(new)?;
    wheel::unpack(&input.name, &archive, new)
}

fn copy_file(
    places: InputSources<'_>,
    input: &LockedInput,
    new: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let whole = fetch(places, input, progress)?;
    files::create_directory(new)?;
    // The lock's check refuses a URL that has no file name.
    let place = new.join(file_of(&input.seen).unwrap_or("file"));
    fs::copy(whole, &place).map_err(Error::disk("writing", &place))?;
    Ok(())
}

fn copy_path(
    places: InputSources<'_>,
    input: &LockedInput,
    new: Option<&Path>,
) -> Result<(), Error> {
    let path = places.directory.join(&input.seen);
    let found = local::copy(&input.name, &path, new)?;
    if (found.bytes, found.sha256) == (input.bytes, input.sha256) {
        return Ok(());
    }
    Err(error!(
        Recipe,
        "the input {name} changed since it was locked: {} has {} bytes with SHA-256 {} and the lock {} bytes with SHA-256 {}; \
         `image-builder lock --update {name}` locks what is there now",
        path.display(),
        found.bytes,
        found.sha256,
        input.bytes,
        input.sha256,
        name = input.name
    ))
}

/// Where PyPI's files lie.
const PYPI_FILES: &str = "https://files.pythonhosted.org";
