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

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::download::Agent;
use super::fetch::remove;
use super::mirrors::{ensure_from, is_gone, sentence};
use super::packages::{PackageError, ensure_tree};
use super::{Fault, FetchError, Progress, Store, sync_directory};
use crate::lock::package_lock::{InputKind, LockedInput, PackageLock};
use crate::lock::recipe::{Recipe, Source, file_of};
use local::DirectoryError;

/// Why an input is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum InputError {
    #[error(transparent)]
    Disk(#[from] FetchError),
    #[error(
        "the input {name} is gone ({}): lock another one, or put the file of its digest somewhere and name that place",
        sentence(.tried)
    )]
    Gone {
        name: String,
        tried: Vec<FetchError>,
    },
    #[error("the input {name} cannot be had: {}", sentence(.tried))]
    Nowhere {
        name: String,
        tried: Vec<FetchError>,
    },
    #[error(transparent)]
    Package(#[from] PackageError),
    #[error("the lock has no input {name}")]
    Absent { name: String },
    #[error("the input {name} is the one in the lock, but {problem}")]
    Broken { name: String, problem: String },
    #[error(
        "the input {name} changed since it was locked: {path} has {got} and the lock {expected}; `image-builder lock --update \
         {name}` locks what is there now"
    )]
    Changed {
        name: String,
        path: String,
        got: String,
        expected: String,
    },
    #[error("the input {name} {error}")]
    Directory { name: String, error: DirectoryError },
}

impl InputError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Disk(error) => error.fault(),
            Self::Gone { .. } => Fault::Gone,
            Self::Nowhere { tried, .. } => tried.last().map_or(Fault::Network, FetchError::fault),
            Self::Package(error) => error.fault(),
            Self::Absent { .. } | Self::Broken { .. } => Fault::Lock,
            Self::Changed { .. } | Self::Directory { .. } => Fault::Recipe,
        }
    }
}

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
) -> Result<Opened, InputError> {
    let absent = || InputError::Absent { name: name.into() };
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
) -> Result<PathBuf, InputError> {
    let inputs = places.store.root().join("inputs");
    let place = inputs.join(input.sha256.to_string());
    // What lies beside the recipe is looked at each time: it is there to be changed.
    if input.kind != InputKind::Path && place.is_dir() {
        return Ok(place);
    }
    let _claim = places.store.claim()?;
    fs::create_dir_all(&inputs).map_err(FetchError::disk("creating", &inputs))?;
    let new = inputs.join(format!(".new-{}", input.sha256));
    remove(&new)?;
    let made = match input.kind {
        InputKind::Pypi => unpack_wheel(places, input, &new, progress),
        InputKind::Url => copy_file(places, input, &new, progress),
        InputKind::Path => copy_path(places, input, &new),
    };
    if let Err(error) = made {
        remove(&new)?;
        return Err(error);
    }
    if place.is_dir() {
        remove(&new)?;
        return Ok(place);
    }
    // Thousands of small files: once for all of them.
    let synced = File::open(&new).and_then(|directory| Ok(nix::unistd::syncfs(directory.as_fd())?));
    synced.map_err(FetchError::disk("syncing", &new))?;
    fs::rename(&new, &place).map_err(FetchError::disk("moving into place", &place))?;
    sync_directory(&inputs)?;
    Ok(place)
}

fn fetch(
    places: InputSources<'_>,
    input: &LockedInput,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, InputError> {
    let mirrored = input
        .seen
        .strip_prefix(PYPI_FILES)
        .zip(places.pypi_files_url);
    let mirrored = mirrored.map(|(path, base)| format!("{}{path}", base.trim_end_matches('/')));
    let mut urls: Vec<_> = mirrored.into_iter().chain([input.seen.clone()]).collect();
    urls.dedup();
    let what = (input.bytes, input.sha256);
    ensure_from(places.store, &Agent::new(), &urls, what, progress).map_err(|mut tried| {
        let name = input.name.clone();
        match tried.len() {
            1 if tried[0].fault() == Fault::Disk => InputError::Disk(tried.remove(0)),
            _ if tried.iter().all(is_gone) => InputError::Gone { name, tried },
            _ => InputError::Nowhere { name, tried },
        }
    })
}

fn unpack_wheel(
    places: InputSources<'_>,
    input: &LockedInput,
    new: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), InputError> {
    let archive = fetch(places, input, progress)?;
    let what = format!("unpacking {}", input.name);
    progress(Progress::Working {
        what: &what,
        total: input.bytes,
    });
    fs::create_dir(new).map_err(FetchError::disk("creating", new))?;
    wheel::unpack(&archive, new).map_err(|problem| match problem {
        wheel::Problem::Disk(error) => error.into(),
        wheel::Problem::Broken(problem) => InputError::Broken {
            name: input.name.clone(),
            problem,
        },
    })
}

fn copy_file(
    places: InputSources<'_>,
    input: &LockedInput,
    new: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), InputError> {
    let whole = fetch(places, input, progress)?;
    fs::create_dir(new).map_err(FetchError::disk("creating", new))?;
    // The lock's check refuses a URL that has no file name.
    let place = new.join(file_of(&input.seen).unwrap_or("file"));
    fs::copy(whole, &place).map_err(FetchError::disk("writing", &place))?;
    Ok(())
}

fn copy_path(places: InputSources<'_>, input: &LockedInput, new: &Path) -> Result<(), InputError> {
    let path = places.directory.join(&input.seen);
    let found = local::copy(&path, Some(new)).map_err(|error| match error {
        DirectoryError::Disk(error) => InputError::Disk(error),
        error => InputError::Directory {
            name: input.name.clone(),
            error,
        },
    })?;
    if (found.bytes, found.sha256) == (input.bytes, input.sha256) {
        return Ok(());
    }
    let show = |bytes, sha256| format!("{bytes} bytes with SHA-256 {sha256}");
    Err(InputError::Changed {
        name: input.name.clone(),
        path: path.display().to_string(),
        got: show(found.bytes, found.sha256),
        expected: show(input.bytes, input.sha256),
    })
}

/// Where PyPI's files lie.
const PYPI_FILES: &str = "https://files.pythonhosted.org";
