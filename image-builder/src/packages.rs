//! Packages of a lock into the store, and trees out of them.
//!
//! ```text
//! STORE/sha256/<sha256>    a package as it came, whole and checked
//! STORE/trees/<digest>     a set of packages unpacked; the digest is over theirs
//! STORE/trees/.new-…       being unpacked; removed by the next run
//! ```
//! Trusts the lock, and the store's owner not to change a tree: a tree that is there is used as it is. A package is checked
//! against the lock whenever it is unpacked. A failure leaves nothing at a tree's final path.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread;

use sha2::{Digest as _, Sha256};

use crate::debian::Deb;
use crate::debian::deb::{DebError, Kind};
use crate::download::{Agent, Wanted};
use crate::error::{Fault, FetchError, MirrorFault};
use crate::fetch::{Progress, ensure_wanted, remove};
use crate::limits::UNPACKERS;
use crate::lock::Digest;
use crate::package_lock::{Package, PackageLock, PackageLockError};
use crate::store::{Store, is_whole, sync_folder};
use crate::tree::{Tree, TreeError};

/// Why packages or a tree of them are not in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// The lock is wrong.
    #[error(transparent)]
    Lock(#[from] PackageLockError),
    /// The mirror does not have a package any more.
    #[error(
        "the mirror no longer has {package} {version} (HTTP status {status} for {url}): Debian drops a version when a newer one \
         replaces it; `image-builder lock` locks what is there now"
    )]
    Gone {
        /// Its name.
        package: String,
        /// The version in the lock.
        version: String,
        /// What was asked for.
        url: String,
        /// What it answered.
        status: u16,
    },
    /// A package could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A package is the one in the lock, and cannot be unpacked.
    #[error("{package} is the package in the lock, but {error}")]
    Package {
        /// Its name.
        package: String,
        /// What is wrong.
        error: DebError,
    },
}

impl PackageError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Lock(_) | Self::Package { .. } => Fault::Lock,
            Self::Gone { .. } => Fault::Gone,
            Self::Fetch(error) => error.fault(),
        }
    }
}

/// Makes `packages` be in `store`, whole and checked. Asks nobody when all are there.
pub fn ensure_packages(
    store: &Store,
    lock: &PackageLock,
    packages: &[&Package],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), PackageError> {
    let _claim = store.claim()?;
    fetch_missing(store, lock, packages, progress)
}

/// Makes one package be in `store` and returns where it lies.
pub fn ensure_package(
    store: &Store,
    lock: &PackageLock,
    package: &Package,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, PackageError> {
    ensure_packages(store, lock, &[package], progress)?;
    Ok(store.whole(package.sha256))
}

/// Makes `packages` be in `store` and unpacked into one tree, and returns the tree. A tree that is there is reused, and then
/// nothing is fetched.
pub fn ensure_tree(
    store: &Store,
    lock: &PackageLock,
    packages: &[&Package],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, PackageError> {
    let trees = store.root().join("trees");
    let key = tree_key(packages).to_string();
    let place = trees.join(&key);
    if place.is_dir() {
        return Ok(place);
    }
    let _claim = store.claim()?;
    fs::create_dir_all(&trees).map_err(FetchError::disk("creating", &trees))?;
    // Somebody else may have made it while we waited.
    if place.is_dir() {
        return Ok(place);
    }
    fetch_missing(store, lock, packages, progress)?;
    let new = trees.join(format!(".new-{key}"));
    remove(&new)?;
    if let Err(error) = unpack_all(store, packages, &new, progress) {
        remove(&new)?;
        return Err(error);
    }
    fs::rename(&new, &place).map_err(FetchError::disk("moving into place", &place))?;
    sync_folder(&trees)?;
    Ok(place)
}

/// The name of the tree of `packages`: SHA-256 over their digests, sorted, so that neither order nor mirror matters. The text at
/// the beginning changes when the way we unpack does.
pub fn tree_key(packages: &[&Package]) -> Digest {
    let mut digests: Vec<_> = packages.iter().map(|package| package.sha256).collect();
    digests.sort();
    digests.dedup();
    let mut hasher = Sha256::new_with_prefix(b"chrysalis tree 1\n");
    for digest in digests {
        hasher.update(digest.0);
    }
    Digest(hasher.finalize().into())
}

/// Shows the files of one fetched package, with their paths and content, to `visit`; nothing is written.
pub fn visit_files(
    deb: &Path,
    package: &str,
    mut visit: impl FnMut(&str, &mut dyn std::io::Read) -> std::io::Result<()>,
) -> Result<(), PackageError> {
    let file = File::open(deb).map_err(FetchError::disk("opening", deb))?;
    let shown = Deb::open(BufReader::new(file)).and_then(|deb| {
        deb.entries(|entry| match entry.kind {
            Kind::File { content, .. } => {
                visit(&entry.path, content).map_err(|error| DebError::Broken(error.to_string()))
            }
            _ => Ok(()),
        })
    });
    shown.map_err(|error| PackageError::Package {
        package: package.to_owned(),
        error,
    })
}

/// One bar for all: what is there counts as received.
fn fetch_missing(
    store: &Store,
    lock: &PackageLock,
    packages: &[&Package],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), PackageError> {
    let total = packages.iter().map(|package| package.bytes).sum();
    let (mut missing, mut done) = (Vec::new(), 0);
    for package in packages {
        if is_whole(&store.whole(package.sha256), package.bytes, package.sha256)? {
            done += package.bytes;
        } else {
            missing.push(*package);
        }
    }
    let Some(first) = missing.first() else {
        return Ok(());
    };
    let url = lock.url(first);
    let got = done;
    progress(Progress::Starting {
        url: &url,
        got,
        total,
    });
    let agent = Agent::new();
    for package in missing {
        let url = lock.url(package);
        let wanted = Wanted {
            url: &url,
            bytes: package.bytes,
            sha256: package.sha256,
        };
        let mut inner = |event: Progress<'_>| match event {
            Progress::Received { got, .. } => progress(Progress::Received {
                got: done + got,
                total,
            }),
            Progress::Starting { .. } => {}
            other => progress(other),
        };
        ensure_wanted(store, &agent, wanted, &mut inner)
            .map_err(|error| gone_or(package, error))?;
        done += package.bytes;
    }
    Ok(())
}

fn gone_or(package: &Package, error: FetchError) -> PackageError {
    match error {
        FetchError::Mirror {
            url,
            fault: MirrorFault::Status(status @ (404 | 410)),
        } => PackageError::Gone {
            package: package.name.clone(),
            version: package.version.clone(),
            url,
            status,
        },
        other => other.into(),
    }
}

/// Several packages at a time: decoding is what takes the time.
fn unpack_all(
    store: &Store,
    packages: &[&Package],
    root: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), PackageError> {
    let tree = Tree::create(root).map_err(|error| tree_error("the tree", error))?;
    let total = packages.iter().map(|package| package.bytes).sum();
    let what = format!("unpacking {} packages", packages.len());
    progress(Progress::Working { what: &what, total });
    let next = AtomicUsize::new(0);
    let (sender, receiver) = channel();
    let first_error = thread::scope(|scope| {
        for _ in 0..UNPACKERS {
            let (sender, tree, next) = (sender.clone(), &tree, &next);
            scope.spawn(move || unpack_some(store, packages, tree, next, &sender));
        }
        drop(sender);
        let (mut got, mut failed) = (0, None);
        for (number, result) in receiver {
            match result {
                Ok(bytes) => got += bytes,
                // Of several the first in the list, whichever thread was faster.
                Err(error) => {
                    next.store(packages.len(), Ordering::Relaxed);
                    let earlier = failed.as_ref().is_none_or(|(first, _)| number < *first);
                    failed = if earlier {
                        Some((number, error))
                    } else {
                        failed
                    };
                }
            }
            progress(Progress::Received { got, total });
        }
        failed
    });
    match first_error {
        Some((_, error)) => Err(error),
        None => Ok(tree.finish()?),
    }
}

fn unpack_some(
    store: &Store,
    packages: &[&Package],
    tree: &Tree,
    next: &AtomicUsize,
    sender: &Sender<(usize, Result<u64, PackageError>)>,
) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(package) = packages.get(number) else {
            return;
        };
        let result = unpack(&store.whole(package.sha256), package, number, tree);
        if sender.send((number, result)).is_err() {
            return;
        }
    }
}

fn unpack(deb: &Path, package: &Package, number: usize, tree: &Tree) -> Result<u64, PackageError> {
    let file = File::open(deb).map_err(FetchError::disk("opening", deb))?;
    Deb::open(BufReader::with_capacity(1 << 16, file))
        .map_err(TreeError::from)
        .and_then(|deb| deb.entries(|entry| tree.add(number, entry)))
        .map_err(|error| tree_error(&package.name, error))?;
    Ok(package.bytes)
}

fn tree_error(package: &str, error: TreeError) -> PackageError {
    match error {
        TreeError::Disk(error) => error.into(),
        TreeError::Deb(error) => PackageError::Package {
            package: package.to_owned(),
            error,
        },
    }
}
