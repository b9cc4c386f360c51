//! Packages unpacked for a root: content on the disk, and beside it what a disk of this user cannot hold.
//!
//! ```text
//! STORE/userlands/<digest>/tree/…      contents, in a tree as the tools' (crate::store::tree), which this user owns
//! STORE/userlands/<digest>/list.json   owners, modes, attributes, links, digests and packages of every entry; the scripts
//! STORE/userlands/.new-…               being unpacked; removed by the next run
//! ```
//! The digest is over those of the packages. Files are copied through a small buffer, so memory does not grow with them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::clash;
use crate::error::Error;
use crate::files;
use crate::formats::deb::{Deb, DebError, Kind, MERGED};
use crate::formats::entry::{Entry, Owner, Source, What};
use crate::formats::metered::Metered;
use crate::formats::{deb, deb_scripts as scripts};
use crate::limits::{FILE_BYTES_MAX, USERLAND_LIST_BYTES_MAX};
use crate::lock::package_lock::{Package, PackageLock};
use crate::store::packages::{each, ensure_packages, set_key, tree_error};
use crate::store::tree::{Tree, TreeError};
use crate::store::{Progress, Store};
use registers::Digest32;

/// What a set of packages has, and the scripts that would have run.
#[derive(Debug)]
pub struct Unpacked {
    /// By path.
    pub entries: Vec<Entry>,
    /// Of each package with its version: the scripts of its installation by name.
    pub scripts: BTreeMap<String, BTreeMap<String, String>>,
}

impl Unpacked {
    /// Adds files that are from elsewhere, and directories. A directory of a package stays as it is; a file is in the place of nothing.
    pub fn add(&mut self, files: Vec<Entry>) -> Result<(), Error> {
        let there: BTreeMap<&str, &Entry> = {
            let entries = self.entries.iter();
            entries.map(|entry| (entry.path.as_str(), entry)).collect()
        };
        let mut added = Vec::new();
        for file in files {
            let directory = |entry: &Entry| matches!(entry.what, What::Directory);
            match there.get(file.path.as_str()) {
                None => added.push(file),
                Some(before) if directory(before) && directory(&file) => {}
                Some(before) => {
                    let (one, other) = (before.from(), file.from());
                    let (one, other) = (one.unwrap_or("a package"), other.unwrap_or("the recipe"));
                    return Err(clash(&file.path, one, other));
                }
            }
        }
        self.entries.extend(added);
        self.entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(())
    }
}

/// Whether `packages` are in `store`, unpacked.
pub fn is_there(store: &Store, packages: &[&Package]) -> bool {
    place(store, packages).is_dir()
}

fn place(store: &Store, packages: &[&Package]) -> PathBuf {
    let key = set_key("chrysalis userland 1\n", packages);
    store.root().join("userlands").join(key.to_string())
}

/// Makes `packages` be in `store`, unpacked, and says what is in them.
pub fn ensure(
    store: &Store,
    lock: &PackageLock,
    packages: &[&Package],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Unpacked, Error> {
    if !is_there(store, packages) {
        ensure_packages(store, lock, packages, progress)?;
        unpack_fetched(store, packages, progress)?;
    }
    read(&place(store, packages))
}

/// Unpacks `packages`, all of which are in `store`. Does not wait for who fetches or unpacks something else.
pub fn unpack_fetched(
    store: &Store,
    packages: &[&Package],
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    let _claim = store.claim_userlands()?;
    let place = place(store, packages);
    // Somebody else may have made it while we waited.
    if place.is_dir() {
        return Ok(());
    }
    files::make_directory(&place, |new| unpack(store, packages, new, progress))
}

fn unpack(
    store: &Store,
    packages: &[&Package],
    new: &Path,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(), Error> {
    files::create_directory(new)?;
    let directory = new.join("tree");
    let tree = Tree::create(&directory).map_err(|error| tree_error("the tree", error))?;
    let what = format!("unpacking {} packages for the root", packages.len());
    let one = |number, package: &Package| One::unpack(store, number, package, &tree);
    let unpacked = each(packages, &what, one, progress)?;
    tree.finish()?;
    let mut list = Collected::default();
    for one in unpacked {
        list.scripts.insert(one.name, one.scripts);
        for (path, listed) in one.entries {
            list.put(path, listed)?;
        }
    }
    list.settle_links();
    write(&new.join("list.json"), &list)
}

/// One package, unpacked.
struct One {
    /// With its version.
    name: String,
    scripts: BTreeMap<String, String>,
    entries: Vec<(String, Listed)>,
}

impl One {
    fn unpack(store: &Store, number: usize, package: &Package, tree: &Tree) -> Result<Self, Error> {
        let name = format!("{} {}", package.name, package.version);
        let deb = store.whole(package.sha256);
        let buffered = || Ok::<_, Error>(BufReader::with_capacity(1 << 16, files::open(&deb)?));
        let refuse = |error| tree_error(&package.name, TreeError::Deb(error));
        let texts = scripts::install_scripts(buffered()?).map_err(refuse)?;
        let text =
            |(name, bytes): (String, Vec<u8>)| (name, String::from_utf8_lossy(&bytes).into());
        let mut entries = Vec::new();
        let read = Deb::open(buffered()?).map_err(refuse)?;
        read.entries(|entry| {
            let path = entry.path.clone();
            entries.push((path, add(tree, number, &name, entry)?));
            Ok::<_, Error>(())
        })?;
        Ok(Self {
            scripts: texts.into_iter().map(text).collect(),
            name,
            entries,
        })
    }
}

/// The list under way.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Collected {
    entries: BTreeMap<String, Listed>,
    scripts: BTreeMap<String, BTreeMap<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    mode: u32,
    owner: Owner,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, String>,
    /// The package, with its version.
    from: String,
    is: Is,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Is {
    Directory,
    File {
        bytes: u64,
        sha256: Digest32,
    },
    Link {
        target: String,
    },
    /// Another name of the file at this path.
    Same {
        path: String,
    },
}

impl Collected {
    /// Files clash in the tree; directories may be in many packages, which have to agree. `base-files` decides where they do not,
    /// because it is unpacked first wherever Debian is installed, and dpkg leaves a directory that is there as it is.
    fn put(&mut self, path: String, new: Listed) -> Result<(), Error> {
        let base = |listed: &Listed| listed.from.starts_with("base-files ");
        match self.entries.get_mut(&path) {
            Some(old) if (old.mode, old.owner) == (new.mode, new.owner) => {}
            Some(old) if base(old) => {}
            Some(old) if base(&new) => *old = new,
            Some(old) => {
                return Err(clash(&format!("/{path}"), &old.from, &new.from));
            }
            None => drop(self.entries.insert(path, new)),
        }
        Ok(())
    }

    /// Of all names of one file the first in the order of paths becomes the file, so that a reader of the list meets it first.
    fn settle_links(&mut self) {
        let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (path, listed) in &self.entries {
            if let Is::Same { path: file } = &listed.is {
                groups.entry(file.clone()).or_default().push(path.clone());
            }
        }
        for (file, mut names) in groups {
            names.push(file.clone());
            names.sort();
            let Some(content) = self.entries.get(&file).cloned() else {
                continue;
            };
            let (first, others) = names.split_first().expect("it has two names at least");
            for name in others {
                let mut same = content.clone();
                let path = first.clone();
                same.is = Is::Same { path };
                self.entries.insert(name.clone(), same);
            }
            self.entries.insert(first.clone(), content);
        }
    }
}

/// Adds one entry of a package to the tree, and says how it is listed.
fn add(tree: &Tree, number: usize, from: &str, entry: deb::Entry<'_>) -> Result<Listed, Error> {
    let refuse = |error| tree_error(from, error);
    let path = &entry.path;
    let deb::Meta {
        mode,
        user,
        group,
        attributes,
    } = entry.meta.clone();
    let owner = Owner {
        user: static_number(path, user).map_err(|error| refuse(error.into()))?,
        group: static_number(path, group).map_err(|error| refuse(error.into()))?,
    };
    let is = match entry.kind {
        Kind::File {
            mode,
            bytes,
            content,
        } => {
            let mut metered = Metered::new(content, FILE_BYTES_MAX);
            let kind = Kind::File {
                mode,
                bytes,
                content: &mut metered,
            };
            tree.add(number, deb::Entry { kind, ..entry })
                .map_err(refuse)?;
            let (bytes, sha256) = metered.finish();
            Is::File { bytes, sha256 }
        }
        kind => {
            let is = match &kind {
                Kind::Symlink { target } => Is::Link {
                    target: target.clone(),
                },
                Kind::HardLink { target } => Is::Same {
                    path: target.clone(),
                },
                _ => Is::Directory,
            };
            tree.add(number, deb::Entry { kind, ..entry })
                .map_err(refuse)?;
            is
        }
    };
    let hex = |(name, value): (String, Vec<u8>)| (name, hex::encode(value));
    Ok(Listed {
        mode,
        owner,
        attributes: attributes.into_iter().map(hex).collect(),
        from: from.to_owned(),
        is,
    })
}

/// A number that means the same on every Debian system (Policy 9.2.2), so that it can stand in an archive.
fn static_number(path: &str, number: Option<u64>) -> Result<u32, DebError> {
    match number.and_then(|number| u32::try_from(number).ok()) {
        Some(number @ (0..=99 | 60000..=64999 | 65534)) => Ok(number),
        _ => Err(DebError::Entry {
            path: path.chars().take(200).collect(),
            problem: "has an owner whose number is not the same on every system",
        }),
    }
}

fn write(path: &Path, list: &Collected) -> Result<(), Error> {
    let written = File::create_new(path).and_then(|file| {
        let mut buffered = BufWriter::new(file);
        serde_json::to_writer(&mut buffered, list)?;
        buffered.flush()?;
        buffered.get_ref().sync_all()
    });
    written.map_err(Error::disk("writing", path))
}

fn read(place: &Path) -> Result<Unpacked, Error> {
    let path = place.join("list.json");
    let listed = File::open(&path).and_then(|file| {
        let limited = BufReader::new(file).take(USERLAND_LIST_BYTES_MAX);
        Ok(serde_json::from_reader::<_, Collected>(limited)?)
    });
    let Collected { entries, scripts } = listed.map_err(Error::disk("reading", &path))?;
    let tree = place.join("tree");
    let mut made: Vec<Entry> = MERGED
        .map(|name| {
            Entry::link(
                format!("/{name}"),
                format!("usr/{name}"),
                super::MAKER.into(),
            )
        })
        .into();
    for (path, listed) in entries {
        made.push(entry(&tree, &path, listed));
    }
    add_parents(&mut made);
    made.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(Unpacked {
        entries: made,
        scripts,
    })
}

fn entry(tree: &Path, path: &str, listed: Listed) -> Entry {
    let Listed {
        mode,
        owner,
        attributes,
        from,
        is,
    } = listed;
    let what = match is {
        Is::Directory => What::Directory,
        Is::File { bytes, sha256 } => What::File {
            bytes,
            sha256,
            from,
            source: Source::Disk(content(tree, path)),
        },
        Is::Link { target } => What::Link { target, from },
        Is::Same { path } => What::SameAs {
            path: format!("/{path}"),
            from,
        },
    };
    let bytes = |(name, value): (String, String)| (name, hex::decode(value).unwrap_or_default());
    Entry {
        path: format!("/{path}"),
        mode,
        owner,
        attributes: attributes.into_iter().map(bytes).collect(),
        what,
    }
}

fn content(tree: &Path, path: &str) -> PathBuf {
    tree.join(path)
}

/// Directories that a package takes for granted.
fn add_parents(entries: &mut Vec<Entry>) {
    let there: std::collections::BTreeSet<String> =
        entries.iter().map(|entry| entry.path.clone()).collect();
    let mut missing = std::collections::BTreeSet::new();
    for path in &there {
        for (at, _) in path.match_indices('/') {
            let parent = if at == 0 { "/" } else { &path[..at] };
            if !there.contains(parent) {
                missing.insert(parent.to_owned());
            }
        }
    }
    entries.extend(missing.into_iter().map(Entry::directory));
}

impl From<DebError> for Error {
    fn from(error: DebError) -> Self {
        tree_error("a package", TreeError::Deb(error))
    }
}
