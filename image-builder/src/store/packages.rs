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
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

use sha2::{Digest as _, Sha256};

use super::download::Agent;
use super::mirrors::{ensure_from, is_gone, sentence};
use super::tree::{Tree, TreeError};
use super::{FetchError, Progress, Store, is_whole};
use crate::error::{Error, Fault, error};
use crate::files;
use crate::formats::deb::{Deb, DebError, Kind};
use crate::limits::UNPACKERS;
use crate::lock::package_lock::{Package, PackageLock};
use registers::Digest32;

/// Makes `packages` be in `store`, whole and checked. Asks nobody when all are there.
pub fn ensure_packages(
    store: &Store,
    lock: &PackageLock,
    packages: &[&Package],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let _claim = store.claim()?;
    fetch_missing(store, lock, packages, progress)
}

/// Makes one package be in `store` and returns where it lies.
pub fn ensure_package(
    store: &Store,
    lock: &PackageLock,
    package: &Package,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<PathBuf, Error> {
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
) -> Result<PathBuf, Error> {
    let place = store.root().join("trees");
    let place = place.join(tree_key(packages).to_string());
    if place.is_dir() {
        return Ok(place);
    }
    let _claim = store.claim()?;
    // Somebody else may have made it while we waited.
    if !place.is_dir() {
        fetch_missing(store, lock, packages, progress)?;
        files::make_directory(&place, |new| unpack_all(store, packages, new, progress))?;
    }
    Ok(place)
}

/// The name of the tree of `packages`.
pub fn tree_key(packages: &[&Package]) -> Digest32 {
    set_key("chrysalis tree 1\n", packages)
}

/// SHA-256 over the packages' digests, sorted, so that neither order nor mirror matters. The text at the beginning changes when
/// the way we unpack does.
pub(crate) fn set_key(begin: &str, packages: &[&Package]) -> Digest32 {
    let mut digests: Vec<_> = packages.iter().map(|package| package.sha256).collect();
    digests.sort();
    digests.dedup();
    let mut hasher = Sha256::new_with_prefix(begin);
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
) -> Result<(), Error> {
    let shown = Deb::open(BufReader::new(files::open(deb)?)).and_then(|deb| {
        deb.entries(|entry| match entry.kind {
            Kind::File { content, .. } => {
                visit(&entry.path, content).map_err(|error| DebError::Broken(error.to_string()))
            }
            _ => Ok(()),
        })
    });
    shown.map_err(|error| broken(package, &error))
}

/// A package whose digest is the lock's, and which is not what a package should be.
fn broken(package: &str, error: &DebError) -> Error {
    error!(Lock, "{package} is the package in the lock, but {error}")
}

/// One bar for all: what is there counts as received.
fn fetch_missing(
    store: &Store,
    lock: &PackageLock,
    packages: &[&Package],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
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
            .map_err(|tried| not_had(lock, package, tried))?;
        done += package.bytes;
    }
    Ok(())
}

/// What it means that a package was had from none of its places.
fn not_had(lock: &PackageLock, package: &Package, mut tried: Vec<FetchError>) -> Error {
    let Package { name, version, .. } = package;
    let any = |fault| tried.iter().any(|error| error.fault() == fault);
    // The archive by time comes last and may not be reachable; a mirror that lacks a version has dropped it.
    let mirrors = &tried[..tried.len().min(lock.mirrors().len())];
    if !any(Fault::Disk) && !mirrors.is_empty() && mirrors.iter().all(is_gone) {
        return error!(
            Gone,
            "no mirror has {name} {version} any more ({}): Debian drops a version when a newer one replaces it; `image-builder \
             lock --update {name}` locks what is there now, and a mirror that keeps old versions can be named with --mirror",
            sentence(&tried)
        );
    }
    // It may be there still: a network that fails is the kinder answer.
    let fault = match any(Fault::Network) {
        true => Fault::Network,
        false => Fault::Mirror,
    };
    let (places, what) = (tried.len(), sentence(&tried));
    match places {
        1 => tried.remove(0).into(),
        _ => Error::new(
            fault,
            format!("{name} {version} cannot be had from any of {places} places: {what}"),
        ),
    }
}

fn unpack_all(
    store: &Store,
    packages: &[&Package],
    root: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let tree = Tree::create(root).map_err(|error| tree_error("the tree", error))?;
    let one =
        |number, package: &Package| unpack(&store.whole(package.sha256), package, number, &tree);
    let what = format!("unpacking {} packages", packages.len());
    each(packages, &what, one, progress)?;
    tree.finish()
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

fn unpack(deb: &Path, package: &Package, number: usize, tree: &Tree) -> Result<(), Error> {
    Deb::open(BufReader::with_capacity(1 << 16, files::open(deb)?))
        .map_err(TreeError::from)
        .and_then(|deb| deb.entries(|entry| tree.add(number, entry)))
        .map_err(|error| tree_error(&package.name, error))
}

pub(crate) fn tree_error(package: &str, error: TreeError) -> Error {
    match error {
        TreeError::Disk(error) => error,
        TreeError::Deb(error) => broken(package, &error),
    }
}
