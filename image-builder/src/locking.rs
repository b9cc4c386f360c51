//! `image-builder lock`: from a recipe's names to a lock, with the archive's index as it is today.
//!
//! The one place where something is believed that no lock names: the suite's `InRelease`, whose signature is not checked in
//! this version ([`crate::debian::release`]). The index is checked against it by size and SHA-256.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use crate::debian::{Available, Index, IndexError, Release, Unsolved, closure};
use crate::download::{Agent, Wanted, get};
use crate::error::{Fault, FetchError};
use crate::fetch::{Progress, ensure_wanted};
use crate::limits::{INDEX_BYTES_MAX, RELEASE_BYTES_MAX};
use crate::package_lock::{
    Archive, Content, One, Package, PackageLock, PackageLockError, Sets, is_kernel_for,
};
use crate::recipe::Recipe;
use crate::store::Store;

/// Why there is no new lock.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockingError {
    /// Something could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The suite's release file is wrong.
    #[error("{url} {problem}")]
    Release {
        /// Where it came from.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The index is wrong.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The recipe asks for what the archive does not have.
    #[error(transparent)]
    Unsolved(#[from] Unsolved),
    /// The kernel's package is none, or stands for none or several.
    #[error("{package} leads to {found} kernels in the archive; a recipe needs one")]
    Kernel {
        /// What the recipe names.
        package: String,
        /// How many.
        found: usize,
    },
    /// What came out would not be read back.
    #[error(transparent)]
    Lock(#[from] PackageLockError),
}

impl LockingError {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Fetch(error) => error.fault(),
            Self::Release { .. } | Self::Index(_) => Fault::Mirror,
            Self::Unsolved(_) | Self::Kernel { .. } => Fault::Recipe,
            Self::Lock(_) => Fault::Lock,
        }
    }
}

/// Makes the lock's text for `recipe`, from `mirror` if it is given and else from the recipe's.
pub fn make_lock(
    store: &Store,
    recipe: &Recipe,
    mirror: Option<&str>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<String, LockingError> {
    let mirror = mirror.unwrap_or(&recipe.debian.mirror);
    let (release, index) = fetch_index(store, recipe, mirror, progress)?;
    let build = closure(&index, &recipe.tools.build)?;
    let run = closure(&index, &recipe.tools.run)?;
    let kernel = kernel(&index, &recipe.kernel.package)?;
    let firmware = latest(&index, &recipe.firmware.package)?;
    let names = |set: &BTreeMap<&str, &Available>| set.keys().map(|name| (*name).into()).collect();
    let tools = Sets {
        build: names(&build),
        run: names(&run),
    };
    let mut packages = BTreeMap::new();
    let all = build.into_values().chain(run.into_values());
    for package in all.chain([kernel, firmware]) {
        let before = packages.insert(package.name.as_str(), Package::from(package));
        // Both closures may need a package in different versions, of which the lock has room for one.
        if before.is_some_and(|before| before.sha256 != package.sha256) {
            return Err(Unsolved::Versions {
                package: package.name.clone(),
            }
            .into());
        }
    }
    let content = Content {
        version: 1,
        recipe: recipe.profile.clone(),
        debian: Archive {
            // Not the one that served this lock: a mirror is a setting of a place, and the lock is everybody's.
            mirror: recipe.debian.mirror.clone(),
            suite: recipe.debian.suite.clone(),
            release_sha256: release.sha256,
            release_date: release.date,
        },
        kernel: One {
            package: kernel.name.clone(),
        },
        firmware: One {
            package: firmware.name.clone(),
        },
        packages: packages.into_values().collect(),
        tools,
        vhost_device_vsock: recipe.vhost_device_vsock.clone(),
    };
    let text = content.to_text();
    PackageLock::parse(text.as_bytes())?.check(recipe)?;
    Ok(text)
}

fn fetch_index(
    store: &Store,
    recipe: &Recipe,
    mirror: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Release, Index), LockingError> {
    let agent = Agent::new();
    let suite = &recipe.debian.suite;
    let dists = format!("{}/dists/{suite}", mirror.trim_end_matches('/'));
    let url = format!("{dists}/InRelease");
    let problem = |problem: String| LockingError::Release {
        url: url.clone(),
        problem,
    };
    let release = Release::parse(&get(&agent, &url, RELEASE_BYTES_MAX)?).map_err(problem)?;
    if !release.is_of(suite) {
        return Err(problem(format!("is not about {suite}")));
    }
    let _claim = store.claim()?;
    let mut index = Index::default();
    for component in &recipe.debian.components {
        let path = format!("{component}/binary-amd64/Packages.xz");
        let listed = release.index(&path);
        let listed = listed.ok_or_else(|| problem(format!("does not list {path}")))?;
        if !(1..=INDEX_BYTES_MAX).contains(&listed.bytes) {
            return Err(problem(format!("gives {path} {} bytes", listed.bytes)));
        }
        let url = format!("{dists}/{path}");
        let wanted = Wanted {
            url: &url,
            bytes: listed.bytes,
            sha256: listed.sha256,
        };
        let file = ensure_wanted(store, &agent, wanted, progress)?;
        let what = "reading the index";
        progress(Progress::Working {
            what,
            total: listed.bytes,
        });
        let opened = File::open(&file).map_err(FetchError::disk("opening", &file))?;
        index.add_xz(std::io::BufReader::new(opened))?;
    }
    Ok((release, index))
}

fn latest<'a>(index: &'a Index, name: &str) -> Result<&'a Available, Unsolved> {
    let unknown = || Unsolved::Unknown { name: name.into() };
    index.versions(name).last().ok_or_else(unknown)
}

/// The package itself, unless it is a metapackage: then the one kernel image that it depends on.
fn kernel<'a>(index: &'a Index, name: &str) -> Result<&'a Available, LockingError> {
    let package = latest(index, name)?;
    let malformed = || Unsolved::Malformed {
        package: name.into(),
    };
    let groups = package.needs().ok_or_else(malformed)?;
    let relations = groups.iter().flatten();
    let images =
        relations.filter(|relation| relation.name != name && is_kernel_for(&relation.name, name));
    let mut found = BTreeMap::new();
    for relation in images {
        let versions = index.versions(&relation.name).iter().rev();
        let mut allowed = versions.filter(|package| relation.allows(&package.version));
        if let Some(image) = allowed.next() {
            found.insert(&image.name, image);
        }
    }
    let itself = name
        .trim_start_matches("linux-image-")
        .starts_with(|c: char| c.is_ascii_digit());
    match (found.len(), found.into_values().next()) {
        (0, _) if itself => Ok(package),
        (1, Some(image)) => Ok(image),
        (found, _) => Err(LockingError::Kernel {
            package: name.to_owned(),
            found,
        }),
    }
}

/// What a new lock changes, a line each, for people. Empty when nothing does.
pub fn changes(before: Option<&PackageLock>, after: &PackageLock) -> Vec<String> {
    let Some(before) = before else {
        return vec![format!("{} packages, a new lock", after.packages().len())];
    };
    let names = before.packages().iter().chain(after.packages());
    let names: BTreeSet<_> = names.map(|package| package.name.as_str()).collect();
    let mut lines = Vec::new();
    for name in names {
        lines.extend(match (before.package(name), after.package(name)) {
            (Some(old), Some(new)) if old.version != new.version => {
                Some(format!("{name} {} -> {}", old.version, new.version))
            }
            (Some(old), Some(new)) if old.sha256 != new.sha256 => Some(format!(
                "{name} {}: other bytes under the same version",
                new.version
            )),
            (Some(_), Some(_)) | (None, None) => None,
            (None, Some(new)) => Some(format!("{name} {} is new", new.version)),
            (Some(old), None) => Some(format!("{name} {} is gone", old.version)),
        });
    }
    if lines.is_empty() && before.digest() != after.digest() {
        lines.push("no package changes; the lock's other lines do".into());
    }
    lines
}
