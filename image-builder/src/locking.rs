//! `image-builder lock`: from a recipe's names to a lock, with the archive's index as it is today.
//!
//! The one place where something is believed that no lock names: the suite's `InRelease`, whose signature is not checked in
//! this version ([`crate::debian::release`]). The index is checked against it by size and SHA-256.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;

use crate::debian::{Available, Index, IndexError, Release, Unsolved, chosen, closure};
use crate::download::{Agent, Wanted, get};
use crate::error::{Fault, FetchError};
use crate::fetch::{Progress, ensure_wanted};
use crate::limits::{INDEX_BYTES_MAX, RELEASE_BYTES_MAX};
use crate::package_lock::{
    Archive, Content, KernelPackages, LockedSuite, One, Package, PackageLock, PackageLockError,
    Sets, VERSION, is_kernel_for,
};
use crate::recipe::{Choice, Input, Recipe, Source, Suite};
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
    /// It asks for an input of a kind that cannot be locked yet.
    #[error("the input {name} cannot be locked: this version locks Debian packages only")]
    Input {
        /// Which.
        name: String,
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
            Self::Unsolved(_) | Self::Kernel { .. } | Self::Input { .. } => Fault::Recipe,
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
    let other = |input: &&Input| !matches!(input.source, Source::Deb { .. });
    if let Some(input) = recipe.inputs.iter().find(other) {
        return Err(LockingError::Input {
            name: input.name.clone(),
        });
    }
    let mirror = mirror.unwrap_or(&recipe.debian.mirror);
    let (suites, index) = fetch_index(store, recipe, mirror, progress)?;
    let root = recipe.root.as_ref();
    let root = root.map_or(&[][..], |root| &root.packages);
    let build = closure(&index, &recipe.tools.build)?;
    let run = closure(&index, &recipe.tools.run)?;
    let root = closure(&index, root)?;
    let modules = closure(&index, &recipe.tools.modules)?;
    let alone = recipe.package_inputs().map(|choice| chosen(&index, choice));
    let mut alone: Vec<_> = alone.collect::<Result<_, _>>()?;
    alone.sort_by(|one, other| one.name.cmp(&other.name));
    let (kernel, parts) = kernel(&index, &recipe.kernel.package)?;
    let firmware = chosen(&index, &recipe.firmware.package)?;
    let names = |set: &BTreeMap<&str, &Available>| set.keys().map(|name| (*name).into()).collect();
    let tools = Sets {
        build: names(&build),
        run: names(&run),
        modules: names(&modules),
    };
    let content = Content {
        version: VERSION,
        recipe: recipe.profile.clone(),
        debian: Archive {
            // Not the one that served this lock: a mirror is a setting of a place, and the lock is everybody's.
            mirror: recipe.debian.mirror.clone(),
            snapshot: recipe.debian.snapshot.clone(),
            suites,
        },
        kernel: KernelPackages {
            package: kernel.name.clone(),
            with: parts.iter().map(|part| part.name.clone()).collect(),
        },
        firmware: One {
            package: firmware.name.clone(),
        },
        tools,
        root: names(&root),
        alone: alone.iter().map(|package| package.name.clone()).collect(),
        packages: one_version_each(
            [build, run, root, modules]
                .into_iter()
                .flat_map(BTreeMap::into_values)
                .chain([kernel, firmware])
                .chain(parts)
                .chain(alone),
        )?,
        vhost_device_vsock: recipe.vhost_device_vsock.clone(),
        inputs: Vec::new(),
    };
    let text = content.to_text();
    PackageLock::parse(text.as_bytes())?.check(recipe)?;
    Ok(text)
}

/// Two closures may need a package in different versions, of which the lock has room for one.
fn one_version_each<'a>(
    all: impl Iterator<Item = &'a Available>,
) -> Result<Vec<Package>, Unsolved> {
    let mut packages = BTreeMap::new();
    for package in all {
        let before = packages.insert(package.name.as_str(), Package::from(package));
        if let Some(before) = before
            && before.sha256 != package.sha256
        {
            let version = |of: &str, suite: &str| format!("{of} of {suite}");
            return Err(Unsolved::Versions {
                package: package.name.clone(),
                one: version(&before.version, &before.suite),
                other: version(package.version.as_str(), &package.suite),
            });
        }
    }
    Ok(packages.into_values().collect())
}

fn fetch_index(
    store: &Store,
    recipe: &Recipe,
    mirror: &str,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Vec<LockedSuite>, Index), LockingError> {
    let agent = Agent::new();
    let _claim = store.claim()?;
    let (mut suites, mut index) = (Vec::new(), Index::default());
    for suite in &recipe.debian.suites {
        let dists = format!("{}/dists/{}", mirror.trim_end_matches('/'), suite.name);
        index.begin_suite(&suite.name);
        suites.push(add_suite(
            store, &agent, suite, &dists, &mut index, progress,
        )?);
    }
    Ok((suites, index))
}

fn add_suite(
    store: &Store,
    agent: &Agent,
    suite: &Suite,
    dists: &str,
    index: &mut Index,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<LockedSuite, LockingError> {
    let url = format!("{dists}/InRelease");
    let problem = |problem: String| LockingError::Release {
        url: url.clone(),
        problem,
    };
    let release = Release::parse(&get(agent, &url, RELEASE_BYTES_MAX)?).map_err(problem)?;
    if !release.is_of(&suite.name) {
        return Err(problem(format!("is not about {}", suite.name)));
    }
    for component in &suite.components {
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
        let file = ensure_wanted(store, agent, wanted, progress)?;
        let what = "reading the index";
        progress(Progress::Working {
            what,
            total: listed.bytes,
        });
        let opened = File::open(&file).map_err(FetchError::disk("opening", &file))?;
        index.add_xz(std::io::BufReader::new(opened))?;
    }
    Ok(LockedSuite {
        name: suite.name.clone(),
        release_sha256: release.sha256,
        release_date: release.date,
    })
}

/// The package itself, unless it is a metapackage: then the one kernel image that it depends on. And what of that kernel lies
/// in packages of its own: from 7.2 on Debian's image package is empty, and `linux-binary-…` and `linux-modules-…` have the files.
fn kernel<'a>(
    index: &'a Index,
    choice: &Choice,
) -> Result<(&'a Available, Vec<&'a Available>), LockingError> {
    let name = choice.name.as_str();
    let package = chosen(index, choice)?;
    let mut images = needed_of(index, package, |needed| {
        needed != name && is_kernel_for(needed, name)
    })?;
    let itself = name
        .trim_start_matches("linux-image-")
        .starts_with(|c: char| c.is_ascii_digit());
    let image = match (images.len(), images.pop()) {
        (0, _) if itself => package,
        (1, Some(image)) => image,
        (found, _) => {
            return Err(LockingError::Kernel {
                package: choice.to_string(),
                found,
            });
        }
    };
    let release = image.name.strip_prefix("linux-image-").unwrap_or_default();
    let parts = needed_of(index, image, |needed| {
        KERNEL_PARTS
            .iter()
            .any(|part| needed.strip_prefix(part) == Some(release))
    })?;
    Ok((image, parts))
}

/// What `package` depends on and `which` picks by name, from the same suite, by name.
fn needed_of<'a>(
    index: &'a Index,
    package: &Available,
    which: impl Fn(&str) -> bool,
) -> Result<Vec<&'a Available>, Unsolved> {
    let malformed = || Unsolved::Malformed {
        package: package.name.clone(),
    };
    let groups = package.needs().ok_or_else(malformed)?;
    let mut found = BTreeMap::new();
    for relation in groups.iter().flatten().filter(|of| which(&of.name)) {
        let versions = index.versions(&relation.name).iter().rev();
        let mut allowed = versions
            .filter(|needed| needed.suite == package.suite && relation.allows(&needed.version));
        if let Some(needed) = allowed.next() {
            found.insert(&needed.name, needed);
        }
    }
    Ok(found.into_values().collect())
}

/// How the names of packages begin that hold parts of a kernel whose image package is empty.
const KERNEL_PARTS: [&str; 3] = ["linux-base-", "linux-binary-", "linux-modules-"];

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
