//! Inputs of a recipe as folders: what a package or a wheel has inside, or a single file.
//!
//! ```text
//! deb    STORE/trees/<digest>       the package alone, as crate::packages unpacks it
//! pypi   STORE/inputs/<sha256>      a wheel, unpacked; <sha256> is the wheel's own
//! url    STORE/inputs/<sha256>      a folder with this one file
//! ```
//! Trusts the lock's digests. Promises that a folder which is there is whole, and that nothing in it leads out of it.

mod wheel;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::download::{Agent, Wanted};
use crate::error::{Fault, FetchError};
use crate::fetch::{Progress, ensure_wanted, remove};
use crate::package_lock::{InputKind, LockedInput, PackageLock};
use crate::packages::{PackageError, ensure_tree};
use crate::recipe::{Recipe, Source, file_of};
use crate::store::{Store, sync_folder};

/// An input that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What is inside.
    pub folder: PathBuf,
    /// What it is, for people: a name and a version, or a URL.
    pub from: String,
}

/// Why an input is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// A package could not be fetched or unpacked.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Something else could not be fetched, or the store failed.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The recipe and the lock were not checked against each other.
    #[error("the lock has no input {name}")]
    Absent {
        /// Which.
        name: String,
    },
    /// Files beside the recipe cannot become part of a root.
    #[error(
        "the input {name} is a path beside the recipe: in this version it can be locked, and not be put into a root"
    )]
    Path {
        /// Which.
        name: String,
    },
    /// The archive has the digest that the lock names, and is none, or has what a folder cannot have.
    #[error("the input {name} is the one in the lock, but {problem}")]
    Broken {
        /// Which.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

impl InputError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Package(error) => error.fault(),
            Self::Fetch(error) => error.fault(),
            Self::Absent { .. } | Self::Broken { .. } => Fault::Lock,
            Self::Path { .. } => Fault::Recipe,
        }
    }
}

/// Makes the input called `name` be in the store, as a folder.
pub fn open(
    store: &Store,
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
            folder: ensure_tree(store, lock, &[package], progress)?,
            from: format!("{} {}", package.name, package.version),
        });
    }
    let locked = lock.input(name).ok_or_else(absent)?;
    let from = match (&input.source, &locked.version) {
        (Source::Pypi { project, .. }, Some(version)) => format!("{project} {version}"),
        _ => locked.seen.clone(),
    };
    let folder = unpacked(store, locked, progress)?;
    Ok(Opened { folder, from })
}

fn unpacked(
    store: &Store,
    locked: &LockedInput,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, InputError> {
    let name = &locked.name;
    if locked.kind == InputKind::Path {
        return Err(InputError::Path { name: name.clone() });
    }
    let inputs = store.root().join("inputs");
    let key = locked.sha256.to_string();
    let place = inputs.join(&key);
    if place.is_dir() {
        return Ok(place);
    }
    let _claim = store.claim()?;
    // Somebody else may have made it while we waited.
    if place.is_dir() {
        return Ok(place);
    }
    let wanted = Wanted {
        url: &locked.seen,
        bytes: locked.bytes,
        sha256: locked.sha256,
    };
    let file = ensure_wanted(store, &Agent::new(), wanted, progress)?;
    fs::create_dir_all(&inputs).map_err(FetchError::disk("creating", &inputs))?;
    let new = inputs.join(format!(".new-{key}"));
    remove(&new)?;
    if let Err(error) = fill(&file, locked, &new) {
        remove(&new)?;
        return Err(error);
    }
    // Thousands of small files: once for all of them.
    let synced = File::open(&new).and_then(|folder| Ok(nix::unistd::syncfs(folder.as_fd())?));
    synced.map_err(FetchError::disk("syncing", &new))?;
    fs::rename(&new, &place).map_err(FetchError::disk("moving into place", &place))?;
    sync_folder(&inputs)?;
    Ok(place)
}

fn fill(file: &Path, locked: &LockedInput, new: &Path) -> Result<(), InputError> {
    fs::create_dir(new).map_err(FetchError::disk("creating", new))?;
    if locked.kind == InputKind::Pypi {
        return wheel::unpack(file, new).map_err(|problem| match problem {
            wheel::Problem::Disk(error) => error.into(),
            wheel::Problem::Broken(problem) => {
                let name = locked.name.clone();
                InputError::Broken { name, problem }
            }
        });
    }
    let name = file_of(&locked.seen).unwrap_or("file");
    let copy = new.join(name);
    fs::copy(file, &copy).map_err(FetchError::disk("copying to", &copy))?;
    Ok(())
}
