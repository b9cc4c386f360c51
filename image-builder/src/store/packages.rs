//! Packages of a lock into the store, and trees out of them.
//!
//! ```text
//! STORE/sha256/<sha256>    a package as it came, whole and checked
//! STORE/trees/<digest>     a set of packages unpacked; the digest is over theirs
//! STORE/trees/.new-…       being unpacked; removed by the next run
//! ```
//! Trusts the lock, and the store's owner not to change a tree: a tree that is there is used as it is. A package is checked
//! against the lock whenever it is unpacked. A failure leaves nothing at a tree's final path.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use sha2::{Digest as _, Sha256};

use super::download::Agent;
use super::fetch::remove;
use super::mirrors::{ensure_from, is_gone, sentence};
use super::tree::{Tree, TreeError};
use super::{Fault, FetchError, Progress, Store, is_whole, sync_directory};
use crate::formats::deb::{Deb, DebError, Kind};
use crate::limits::UNPACKERS;
use crate::lock::package_lock::{Package, PackageLock, PackageLockError};
use registers::Digest32;

/// Why packages or a tree of them are not in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum PackageError {
    #[error(transparent)]
    Lock(#[from] PackageLockError),
    #[error(
        "no mirror has {package} {version} any more ({}): Debian drops a version when a newer one replaces it; `image-builder \
         lock --update {package}` locks what is there now, and a mirror that keeps old versions can be named with --mirror",
        sentence(.tried)
    )]
    Gone {
        package: String,
        version: String,
        tried: Vec<FetchError>,
    },
    #[error("{package} {version} cannot be had from any of {} places: {}", .tried.len(), sentence(.tried))]
    Nowhere {
        package: String,
        version: String,
        tried: Vec<FetchError>,
    },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{package} is the package in the lock, but {error}")]
    Package { package: String, error: DebError },
}

impl PackageError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Lock(_) | Self::Package { .. } => Fault::Lock,
            Self::Gone { .. } => Fault::Gone,
            Self::Fetch(error) => error.fault(),
            // It may be there still: a network that fails is the kinder answer.
            Self::Nowhere { tried, .. } => {
                let faults: Vec<_> = tried.iter().map(FetchError::fault).collect();
                match faults.contains(&Fault::Network) {
                    true => Fault::Network,
                    false => Fault::Mirror,
                }
            }
        }
    }

    /// What it means that a package was had from none of its places.
    fn of(lock: &PackageLock, package: &Package, mut tried: Vec<FetchError>) -> Self {
        let disk = tried.iter().any(|error| error.fault() == Fault::Disk);
        let (package, version) = (package.name.clone(), package.version.clone());
        // The archive by time comes last and may not be reachable; a mirror that lacks a version has dropped it.
        let mirrors = tried.iter().take(lock.mirrors().len());
        if !disk && mirrors.clone().count() > 0 && mirrors.clone().all(is_gone) {
            return Self::Gone {
                package,
                version,
                tried,
            };
        }
        match tried.len() {
            1 => Self::Fetch(tried.remove(0)),
            _ => Self::Nowhere {
                package,
                version,
                tried,
            },
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
    sync_directory(&trees)?;
    Ok(place)
}

/// The name of the tree of `packages`: SHA-256 over their digests, sorted, so that neither order nor mirror matters. The text at
/// the beginning changes when the way we unpack does.
pub fn tree_key(packages: &[&Package]) -> Digest32 {
    let mut digests: Vec<_> = packages.iter().map(|package| package.sha256).collect();
    digests.sort();
    digests.dedup();
    let mut hasher = Sha256::new_with_prefix(b"chrysalis tree 1\n");
    for digest in digests {
        hasher.update(digest.0);
    }
    Digest32(hasher.finalize().into())
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
    let urls = lock.urls(first);
    let got = done;
    progress(Progress::Starting {
        url: urls.first().map_or("nowhere", String::as_str),
        got,
        total,
    });
    let agent = Agent::new();
    for package in missing {
        let mut inner = |event: Progress<'_>| match event {
            Progress::Received { got, .. } => progress(Progress::Received {
                got: done + got,
                total,
            }),
            Progress::Starting { .. } => {}
            other => progress(other),
        };
        let what = (package.bytes, package.sha256);
        ensure_from(store, &agent, &lock.urls(package), what, &mut inner)
            .map_err(|tried| PackageError::of(lock, package, tried))?;
        done += package.bytes;
    }
    Ok(())
}

fn unpack_all(
    store: &Store,
    packages: &[&Package],
    root: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), PackageError> {
    let tree = Tree::create(root).map_err(|error| tree_error("the tree", error))?;
    let one =
        |number, package: &Package| unpack(&store.whole(package.sha256), package, number, &tree);
    let what = format!("unpacking {} packages", packages.len());
    each(packages, &what, one, progress)?;
    Ok(tree.finish()?)
}

/// Does something with each package, with several at a time: decoding is what takes the time. `one` is also given the place of
/// its package in the list. The answers have the order of the list.
pub(crate) fn each<T: Send, E: Send>(
    packages: &[&Package],
    what: &str,
    one: impl Fn(usize, &Package) -> Result<T, E> + Sync,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Vec<T>, E> {
    let total = packages.iter().map(|package| package.bytes).sum();
    progress(Progress::Working { what, total });
    // Large ones first, so that nobody waits for one at the end.
    let mut order: Vec<usize> = (0..packages.len()).collect();
    order.sort_by_key(|number| Reverse(packages[*number].bytes));
    let next = AtomicUsize::new(0);
    let (sender, receiver) = channel();
    let mut done = thread::scope(|scope| {
        for _ in 0..UNPACKERS {
            let (sender, order, next, one) = (sender.clone(), &order, &next, &one);
            scope.spawn(move || {
                while let Some(number) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if sender
                        .send((*number, one(*number, packages[*number])))
                        .is_err()
                    {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let (mut got, mut done) = (0, Vec::new());
        for (number, result) in receiver {
            if result.is_err() {
                next.store(packages.len(), Ordering::Relaxed);
            }
            got += packages[number].bytes;
            progress(Progress::Received { got, total });
            done.push((number, result));
        }
        done
    });
    // Of several failures the first in the list, whichever thread was faster.
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn unpack(deb: &Path, package: &Package, number: usize, tree: &Tree) -> Result<(), PackageError> {
    let file = File::open(deb).map_err(FetchError::disk("opening", deb))?;
    Deb::open(BufReader::with_capacity(1 << 16, file))
        .map_err(TreeError::from)
        .and_then(|deb| deb.entries(|entry| tree.add(number, entry)))
        .map_err(|error| tree_error(&package.name, error))
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
