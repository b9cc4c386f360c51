//! `image-builder lock`: from a recipe's names to a lock, with the archive's index as it is today.
//!
//! The one place where something is believed that no lock names: a suite's `InRelease`, as far as one of the keys that the
//! recipe pins has signed it ([`crate::lock::debian::signature`]). The indexes are checked against it by size and SHA-256. Whether a
//! time is past is decided by the clock of whoever calls.

mod changes;
mod inputs;
mod kept;
mod kernels;
mod suites;

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, error};
use crate::lock::debian::{Available, Date, chosen, closure};
use crate::lock::package_lock::{
    Archive, Content, KernelPackages, One, Package, PackageLock, Sets, VERSION,
};
use crate::lock::recipe::Recipe;
use crate::store::{Progress, Store};

pub use changes::{Change, Kind, State, changes};

/// What a lock is made from.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// Where indexes are kept.
    pub store: &'a Store,
    /// What is asked for.
    pub recipe: &'a Recipe,
    /// The recipe's directory, which has the files that it names.
    pub directory: &'a Path,
    /// Mirrors instead of the recipe's, asked in this order.
    pub mirrors: &'a [String],
    /// Where PyPI's simple index lies.
    pub pypi_url: &'a str,
    /// What time it is.
    pub now: Date,
    /// The lock that is there.
    pub before: Option<&'a PackageLock>,
    /// Whether a suite may be older than it was for that lock. The strict answer is no: a mirror that shows what is past hides
    /// what was mended since.
    pub allow_older: bool,
    /// What of that lock may change.
    pub update: Update<'a>,
}

/// What of a lock may change, beside what has to because the recipe or the archive did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update<'a> {
    /// Nothing.
    Nothing,
    /// One package or input, and what must follow it.
    Only(&'a str),
    /// Everything.
    All,
}

impl Order<'_> {
    fn mirrors(&self) -> Vec<&str> {
        let own = std::slice::from_ref(&self.recipe.debian.mirror);
        let mirrors = if self.mirrors.is_empty() {
            own
        } else {
            self.mirrors
        };
        let mirrors = mirrors.iter();
        mirrors.map(|mirror| mirror.trim_end_matches('/')).collect()
    }

    /// The lock that is there, as far as what is called so is to stay.
    fn kept(&self, name: &str) -> Option<&PackageLock> {
        let stays = match self.update {
            Update::Nothing => true,
            Update::Only(changing) => changing != name,
            Update::All => false,
        };
        self.before.filter(|_| stays)
    }
}

/// Makes the lock's text.
pub fn make_lock(
    order: Order<'_>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<String, Error> {
    let recipe = order.recipe;
    kept::refuse_unknown(order)?;
    let (suites, index) = suites::fetch(order, progress)?;
    let inputs = inputs::lock(order, progress)?;
    let kept = kept::preferred(order, &index);
    let root = recipe.root.as_ref();
    let root = root.map_or(&[][..], |root| &root.packages);
    let build = closure(&index, &recipe.tools.build, &kept)?;
    let run = closure(&index, &recipe.tools.run, &kept)?;
    let root = closure(&index, root, &kept)?;
    let modules = closure(&index, &recipe.tools.modules, &kept)?;
    let alone = recipe
        .package_inputs()
        .map(|choice| chosen(&index, choice, &kept));
    let mut alone: Vec<_> = alone.collect::<Result<_, _>>()?;
    alone.sort_by(|one, other| one.name.cmp(&other.name));
    let (kernel, parts) = kernels::kernel(order, &index, &kept)?;
    let firmware = chosen(&index, &recipe.firmware.package, &kept)?;
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
        inputs,
    };
    let text = content.to_text();
    PackageLock::parse(text.as_bytes())?.check(recipe)?;
    Ok(text)
}

/// Two closures may need a package in different versions, of which the lock has room for one.
fn one_version_each<'a>(all: impl Iterator<Item = &'a Available>) -> Result<Vec<Package>, Error> {
    let mut packages = BTreeMap::new();
    for package in all {
        let before = packages.insert(package.name.as_str(), Package::from(package));
        if let Some(before) = before
            && before.sha256 != package.sha256
        {
            return Err(error!(
                Recipe,
                "{} is needed in two versions, {} of {} and {} of {}; name the one to take as NAME/SUITE",
                package.name,
                before.version,
                before.suite,
                package.version.as_str(),
                package.suite
            ));
        }
    }
    Ok(packages.into_values().collect())
}
