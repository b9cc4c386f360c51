//! A tree: the files of a set of packages, as one directory that a sandbox shows as its root.
//!
//! Trusts [`crate::formats::deb`] for paths and link targets that stay below the root. Promises that every file lies in real directories
//! (an entry below a link is refused), that no two packages give one path different owners, that directories have mode 0755,
//! files their permission bits and everything the time 1, so that the same packages make the same tree in whatever order they
//! are unpacked. What it keeps to know this is in memory, bounded by [`crate::limits`]; nothing is asked of the disk, so a link
//! there is never followed.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::time::TimeSpec;

use crate::error::Error;
use crate::formats::deb::{DebError, Entry, Kind, MERGED};
use crate::limits::{CHUNK_BYTES, TREE_BYTES_MAX, TREE_ENTRIES_MAX};

/// Why an entry was not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    #[error(transparent)]
    Deb(#[from] DebError),
    #[error(transparent)]
    Disk(#[from] Error),
}

/// A tree under way. Several packages may be added at a time, each by one thread.
pub(crate) struct Tree {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kinds: BTreeMap<String, Made>,
    bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Directory,
    /// With the number of the package that it is from.
    File(usize),
    Link,
}

impl Tree {
    /// A new tree in the directory `root`, which must not exist, with the links of merged directories.
    pub(crate) fn create(root: &Path) -> Result<Self, TreeError> {
        fs::create_dir(root).map_err(Error::disk("creating", root))?;
        let tree = Self {
            root: root.to_owned(),
            state: Mutex::default(),
        };
        for merged in MERGED {
            let path = root.join(merged);
            symlink(format!("usr/{merged}"), &path).map_err(Error::disk("linking", &path))?;
            tree.state().kinds.insert(merged.to_owned(), Made::Link);
        }
        // The targets exist even when no package has a file there, so that a link never dangles.
        for merged in MERGED {
            tree.make_directories(&format!("usr/{merged}"))?;
        }
        Ok(tree)
    }

    /// Writes one entry of the package with this number.
    pub(crate) fn add(&self, package: usize, entry: Entry<'_>) -> Result<(), TreeError> {
        let Entry { path, kind, .. } = entry;
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.make_directories(parent)?;
        }
        match kind {
            Kind::Directory if path.is_empty() => Ok(()),
            Kind::Directory => self.make_directories(&path),
            Kind::File {
                mode,
                bytes,
                content,
            } => {
                self.claim(&path, Made::File(package), bytes)?;
                self.write(&path, mode, bytes, content)
            }
            Kind::Symlink { target } => {
                self.claim(&path, Made::Link, 0)?;
                let place = self.root.join(&path);
                symlink(target, &place).map_err(Error::disk("linking", &place))?;
                Ok(touch(&place)?)
            }
            Kind::HardLink { target } => {
                // Another package's file may still be under way.
                if self.state().kinds.get(&target) != Some(&Made::File(package)) {
                    return Err(refuse(&path, "is a link to no file of its package").into());
                }
                self.claim(&path, Made::File(package), 0)?;
                let (from, to) = (self.root.join(&target), self.root.join(&path));
                Ok(fs::hard_link(from, &to).map_err(Error::disk("linking", &to))?)
            }
        }
    }

    /// Gives the directories their time, and the disk everything.
    pub(crate) fn finish(self) -> Result<(), Error> {
        let state = self.state();
        let directories = state
            .kinds
            .iter()
            .filter(|(_, made)| **made == Made::Directory);
        for (path, _) in directories {
            touch(&self.root.join(path))?;
        }
        for merged in MERGED {
            touch(&self.root.join(merged))?;
        }
        touch(&self.root)?;
        let synced = File::open(&self.root).and_then(|root| Ok(nix::unistd::syncfs(root.as_fd())?));
        synced.map_err(Error::disk("syncing", &self.root))
    }

    fn make_directories(&self, path: &str) -> Result<(), TreeError> {
        let mut state = self.state();
        let ends = path
            .match_indices('/')
            .map(|(at, _)| at)
            .chain([path.len()]);
        for directory in ends.filter_map(|end| path.get(..end)) {
            match state.kinds.get(directory) {
                Some(Made::Directory) => continue,
                Some(_) => return Err(refuse(path, "lies below a file or link").into()),
                None => {}
            }
            state.insert(directory, Made::Directory, 0)?;
            let place = self.root.join(directory);
            fs::create_dir(&place)
                .and_then(|()| fs::set_permissions(&place, Permissions::from_mode(0o755)))
                .map_err(Error::disk("creating", &place))?;
        }
        Ok(())
    }

    /// Takes a path for a file or link, once.
    fn claim(&self, path: &str, made: Made, bytes: u64) -> Result<(), DebError> {
        let mut state = self.state();
        if state.kinds.contains_key(path) {
            return Err(refuse(
                path,
                "is there already, from this package or another one",
            ));
        }
        state.insert(path, made, bytes)
    }

    fn write(
        &self,
        path: &str,
        mode: u32,
        bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), TreeError> {
        let place = self.root.join(path);
        let disk = |doing| Error::disk(doing, &place);
        let opened = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&place);
        let mut file = opened.map_err(disk("creating"))?;
        let mut buffer =
            vec![0; CHUNK_BYTES.min(usize::try_from(bytes).unwrap_or(CHUNK_BYTES).max(1))];
        let mut left = bytes;
        while left > 0 {
            let got = match content.read(&mut buffer) {
                Ok(0) => return Err(refuse(path, "ends early").into()),
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(DebError::Broken(error.to_string()).into()),
            };
            let more = left.checked_sub(got as u64);
            left = more.ok_or_else(|| refuse(path, "goes on past its end"))?;
            file.write_all(&buffer[..got]).map_err(disk("writing"))?;
        }
        // Whoever made the tree has to be able to read it.
        let mode = Permissions::from_mode(mode | 0o400);
        file.set_permissions(mode)
            .map_err(disk("setting the mode of"))?;
        drop(file);
        Ok(touch(&place)?)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A thread that panicked has failed the whole tree, and its directory is thrown away.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn insert(&mut self, path: &str, made: Made, bytes: u64) -> Result<(), DebError> {
        let too_much = |what, max| DebError::TooMuch { what, max };
        if self.kinds.len() >= TREE_ENTRIES_MAX {
            return Err(too_much(
                "entries, with the packages before it",
                TREE_ENTRIES_MAX as u64,
            ));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > TREE_BYTES_MAX {
            return Err(too_much(
                "bytes, with the packages before it",
                TREE_BYTES_MAX,
            ));
        }
        self.kinds.insert(path.to_owned(), made);
        Ok(())
    }
}

/// Sets both times to one second after the epoch: zero is what some programs take for "none".
fn touch(path: &Path) -> Result<(), Error> {
    let time = TimeSpec::new(1, 0);
    let flags = UtimensatFlags::NoFollowSymlink;
    utimensat(AT_FDCWD, path, &time, &time, flags).map_err(Error::disk("setting the time of", path))
}

fn refuse(path: &str, problem: &'static str) -> DebError {
    DebError::Entry {
        path: path.chars().take(200).collect(),
        problem,
    }
}
