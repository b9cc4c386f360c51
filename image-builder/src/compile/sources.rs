//! The sources, copied by content: what a compilation may see of a checkout, and nothing else of it.
//!
//! Cargo decides by the time of a file's last change whether to compile it again. A file is therefore written only when its
//! content differs, whatever times the checkout has; then cargo's decision is right.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::Toolchain;
use crate::error::{Error, Fault, error};
use crate::files;
use crate::limits::{SOURCE_BYTES_MAX, SOURCE_DIRECTORY_DEPTH_MAX, SOURCE_FILES_MAX};
use registers::Digest32;

/// A workspace or package on this disk, as cargo understands it.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
    packages: Vec<Package>,
}

/// What we read of `cargo metadata`; the rest is for others.
#[derive(Deserialize)]
struct Metadata {
    workspace_root: PathBuf,
    packages: Vec<Package>,
}

#[derive(Debug, Clone, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    src_path: PathBuf,
}

/// The workspace that a file of a checkout belongs to: the outermost directory above it with both a `Cargo.toml` and a `Cargo.lock`
/// and a pinned toolchain.
pub fn workspace_around(file: &Path) -> Option<PathBuf> {
    let file = fs::canonicalize(file).ok()?;
    let whole = |directory: &&Path| {
        let files = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml"];
        { files.iter() }.all(|name| directory.join(name).is_file())
    };
    file.ancestors().filter(whole).last().map(Path::to_owned)
}

impl Checkout {
    /// Asks cargo what is in `sources`.
    pub fn of(toolchain: &Toolchain, sources: &Path) -> Result<Self, Error> {
        let text = toolchain.metadata(sources)?;
        let metadata: Metadata = serde_json::from_str(&text)
            .map_err(Error::of(Fault::Tool, "`cargo metadata` is unclear: "))?;
        Ok(Self {
            root: metadata.workspace_root,
            packages: metadata.packages,
        })
    }

    /// The directory of the lock.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The names of the packages, which tell one workspace from another, wherever it lies.
    pub fn name(&self) -> String {
        let names: Vec<_> = self
            .packages
            .iter()
            .map(|package| package.name.as_str())
            .collect();
        names.join(" ")
    }

    /// The package that has a program of this name.
    pub fn package_of(&self, program: &str) -> Result<&str, Error> {
        let has = |package: &&Package| {
            let mut targets = package.targets.iter();
            targets.any(|target| {
                target.name == program && target.kind.iter().any(|kind| kind == "bin")
            })
        };
        let found = self.packages.iter().find(has);
        found.map(|package| package.name.as_str()).ok_or_else(|| {
            let root = self.root.display();
            error!(Tool, "no package of {root} has a program called {program}")
        })
    }

    /// The CUDA sources of a package, headers among them, by their file names.
    pub fn kernels(&self, package: &str) -> Result<BTreeMap<String, Vec<u8>>, Error> {
        let of = |one: &&Package| one.name == package;
        let mut files = BTreeMap::new();
        for package in self.packages.iter().filter(of) {
            self.add_kernels(package, &mut files)?;
        }
        let name = |path: PathBuf| path.file_name()?.to_str().map(str::to_owned);
        let named = { files.into_iter() }.filter_map(|(path, bytes)| Some((name(path)?, bytes)));
        Ok(named.collect())
    }

    /// Makes `directory` be a copy of what is compiled: manifests, the lock, `src` of every package, kernels of GPUs, build scripts, and
    /// files that a source includes. Tests, documents and everything else stay behind.
    pub fn stage(&self, directory: &Path) -> Result<(), Error> {
        make_equal(directory, &self.files()?)
    }

    /// Stands for all that [`Self::stage`] copies: paths, and the digest of each file.
    pub fn digest(&self) -> Result<Digest32, Error> {
        self.digest_of(|_| true)
    }

    /// Stands for what decides which crates are compiled: manifests and the lock.
    pub fn manifests_digest(&self) -> Result<Digest32, Error> {
        self.digest_of(|name| name == "Cargo.toml" || name == "Cargo.lock")
    }

    fn digest_of(&self, counts: impl Fn(&OsStr) -> bool) -> Result<Digest32, Error> {
        let mut hasher = Sha256::new_with_prefix("chrysalis sources 1\n");
        for (path, bytes) in self.files()? {
            if !path.file_name().is_some_and(&counts) {
                continue;
            }
            let line = format!("{}\0{}\n", path.display(), Digest32::of(&bytes));
            hasher.update(line);
        }
        Ok(Digest32(hasher.finalize().into()))
    }

    fn files(&self) -> Result<BTreeMap<PathBuf, Vec<u8>>, Error> {
        let mut files = BTreeMap::new();
        for name in ["Cargo.toml", "Cargo.lock"] {
            self.add(&self.root.join(name), &mut files)?;
        }
        for package in &self.packages {
            self.add(&package.manifest_path, &mut files)?;
            let home = package.manifest_path.parent().unwrap_or(&self.root);
            self.add_directory(&home.join("src"), 0, &mut files)?;
            self.add_kernels(package, &mut files)?;
            let development = ["test", "bench", "example"];
            let ours = |target: &&Target| {
                !{ target.kind.iter() }.any(|kind| development.contains(&kind.as_str()))
            };
            for target in package.targets.iter().filter(ours) {
                self.add(&target.src_path, &mut files)?;
            }
        }
        Ok(files)
    }

    fn add_kernels(
        &self,
        package: &Package,
        files: &mut BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<(), Error> {
        let home = package.manifest_path.parent().unwrap_or(&self.root);
        let directory = home.join("kernels");
        if !directory.is_dir() {
            return Ok(());
        }
        let cuda = |path: &PathBuf| {
            let ending = path.extension().and_then(OsStr::to_str);
            matches!(ending, Some("cu" | "cuh")) && path.is_file()
        };
        let found = { files::entries(&directory)?.into_iter() }.map(|entry| entry.path());
        { found.filter(cuda) }.try_for_each(|path| self.add(&path, files))
    }

    fn add_directory(
        &self,
        directory: &Path,
        depth: usize,
        files: &mut BTreeMap<PathBuf, Vec<u8>>,
    ) -> Result<(), Error> {
        if depth > SOURCE_DIRECTORY_DEPTH_MAX {
            return Err(error!(Tool, "{} is too deep", directory.display()));
        }
        for entry in files::entries(directory)? {
            match entry.path() {
                path if path.is_dir() => self.add_directory(&path, depth + 1, files)?,
                path => self.add(&path, files)?,
            }
        }
        Ok(())
    }

    /// Adds a file, and what it includes if it is Rust, and what that includes.
    fn add(&self, path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) -> Result<(), Error> {
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            let outside = || {
                let (path, root) = (path.display(), self.root.display());
                error!(Tool, "{path} is included, and lies outside of {root}")
            };
            let plain = normalise(&path).ok_or_else(outside)?;
            let inside = plain.strip_prefix(&self.root).map_err(|_| outside())?;
            if files.contains_key(inside) {
                continue;
            }
            let bytes = files::read(&plain, SOURCE_BYTES_MAX)?;
            if files.len() >= SOURCE_FILES_MAX {
                return Err(error!(
                    Tool,
                    "the sources have more than {SOURCE_FILES_MAX} files"
                ));
            }
            if plain.extension().is_some_and(|ending| ending == "rs") {
                let text = String::from_utf8_lossy(&bytes);
                let paths = includes(&text).into_iter();
                let paths = paths.map(|name| plain.with_file_name("").join(name));
                // Text in a comment or a string may look like one; what is really missing cargo will miss.
                waiting.extend(paths.filter(|path| path.is_file()));
            }
            files.insert(inside.to_owned(), bytes);
        }
        Ok(())
    }
}

/// What stands between the quotes of `include_str!("…")`, `include_bytes!("…")` and `include!("…")`.
fn includes(text: &str) -> Vec<&str> {
    let calls = ["include_str!", "include_bytes!", "include!"];
    let mut found = Vec::new();
    for call in calls {
        for (at, _) in text.match_indices(call) {
            let rest = text[at + call.len()..].trim_start();
            let quoted = rest.strip_prefix('(').map(str::trim_start);
            let quoted = quoted.and_then(|rest| rest.strip_prefix('"'));
            found.extend(quoted.and_then(|rest| rest.split('"').next()));
        }
    }
    found
}

/// An absolute path without `.` and `..`; none when it would climb above the root.
fn normalise(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !plain.pop() {
                    return None;
                }
            }
            other => plain.push(other),
        }
    }
    plain.is_absolute().then_some(plain)
}

/// Writes what differs and removes what is not listed.
fn make_equal(directory: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<(), Error> {
    remove_others(directory, Path::new(""), files)?;
    for (inside, bytes) in files {
        let path = directory.join(inside);
        if fs::read(&path).ok().as_deref() == Some(bytes) {
            continue;
        }
        let parent = path.parent().unwrap_or(directory);
        files::create_directory(parent)?;
        files::write(&path, bytes)?;
    }
    Ok(())
}

/// Removes files that `files` does not have, and directories in which it has none.
fn remove_others(
    directory: &Path,
    inside: &Path,
    files: &BTreeMap<PathBuf, Vec<u8>>,
) -> Result<(), Error> {
    for entry in files::entries(&directory.join(inside))? {
        let (path, inside) = (entry.path(), inside.join(entry.file_name()));
        let kind = entry.file_type().map_err(Error::disk("reading", &path))?;
        let wanted = match kind.is_dir() {
            true => files
                .range(inside.clone()..)
                .next()
                .is_some_and(|(file, _)| file.starts_with(&inside) && *file != inside),
            false => kind.is_file() && files.contains_key(&inside),
        };
        match (wanted, kind.is_dir()) {
            (true, true) => remove_others(directory, &inside, files)?,
            (true, false) => {}
            (false, _) => files::remove(&path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_a_source_includes_is_found() {
        let check = |text: &str, expected: &[&str]| assert_eq!(includes(text), expected);
        check(
            "const A: &str = include_str!(\"../a.yaml\");",
            &["../a.yaml"],
        );
        check("include_bytes!(\n    \"b.der\"\n)", &["b.der"]);
        check("include_str!(NAME)", &[]);
        check("include_str!(", &[]);
        check("include_str!(\"", &[""]);
        check("", &[]);
    }

    #[test]
    fn a_path_is_followed_on_paper() {
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(normalise(Path::new(path)), expected.map(PathBuf::from));
        };
        check("/a/b/../c/./d", Some("/a/c/d"));
        check("/a/../..", None);
        check("a", None);
    }

    #[test]
    fn only_what_differs_is_written_and_what_vanished_is_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let set = |names: &[(&str, &str)]| {
            let pairs = names
                .iter()
                .map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec()));
            make_equal(directory.path(), &pairs.collect()).expect("staged");
        };
        set(&[("a/x", "1"), ("a/y", "1"), ("b/z", "1"), ("c", "1")]);
        let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        for name in ["a/x", "a/y", "c"] {
            let file = fs::File::options()
                .write(true)
                .open(path(name))
                .expect("there");
            file.set_modified(old).expect("ours");
        }
        // `c` becomes a directory, and what was a directory goes.
        set(&[("a/x", "1"), ("a/y", "2"), ("c/d", "1")]);
        let changed = |name: &str| {
            fs::metadata(path(name))
                .and_then(|file| file.modified())
                .expect("there")
        };
        assert_eq!(changed("a/x"), old);
        assert!(changed("a/y") > old);
        assert_eq!(fs::read_to_string(path("c/d")).expect("there"), "1");
        assert!(!path("b").exists());
    }

    #[test]
    fn this_repository_is_the_workspace_around_its_recipe() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = workspace_around(&here.join("recipes/sim.yaml")).expect("found");
        assert_eq!(Some(root.as_path()), here.parent());
        assert_eq!(workspace_around(Path::new("/")), None);
    }
}
