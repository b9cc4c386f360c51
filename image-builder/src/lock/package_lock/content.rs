//! What a lock says, in the order of its text, and the checks of each value.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Fault, cut, error};
use crate::limits::{FILE_BYTES_MAX, PACKAGE_BYTES_MAX, PACKAGES_MAX, RECIPE_LIST_MAX};
use crate::lock::debian::index::is_pool_path;
use crate::lock::debian::{Available, Date, Version, is_package_name};
use crate::lock::recipe::is_plain_path;
use crate::lock::{base_url, is_plain_name};
use registers::Digest32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    pub(crate) version: u32,
    pub(crate) recipe: String,
    pub(crate) debian: Archive,
    pub(crate) packages: Vec<Package>,
    pub(crate) kernel: KernelPackages,
    pub(crate) firmware: One,
    pub(crate) tools: Sets,
    /// The closure of what is unpacked into the root, by name, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) root: Vec<String>,
    /// Packages that are taken without what they depend on, by name, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) alone: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vhost_device_vsock: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) inputs: Vec<LockedInput>,
}

/// The archive that was read when the lock was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its base URL.
    pub mirror: String,
    /// The base URL of the archive by time, for what every mirror has dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// Its suites, the preferred ones first.
    pub suites: Vec<LockedSuite>,
}

/// A suite as it was when the lock was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSuite {
    /// Its name in the recipe.
    pub name: String,
    /// Of its `InRelease`, as it was served.
    pub release_sha256: Digest32,
    /// The date in it, as Debian writes it.
    pub release_date: String,
}

/// One locked package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// The suite that it was seen in.
    pub suite: String,
    /// Where it lies below a mirror's base URL.
    pub path: String,
    /// Its exact size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// A package that is taken alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct One {
    pub(crate) package: String,
}

/// A kernel: its package, and packages that hold parts of it. Unpacked together and without what else they depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KernelPackages {
    pub(crate) package: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) with: Vec<String>,
}

/// The dependency closures of tools, by name, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sets {
    pub(crate) build: Vec<String>,
    pub(crate) run: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) modules: Vec<String>,
}

/// What kind of thing an input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    /// A wheel on PyPI.
    Pypi,
    /// A file on the web.
    Url,
    /// A file or directory beside the recipe.
    Path,
}

/// Something that is locked beside Debian's packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedInput {
    /// What kind of thing it is.
    pub kind: InputKind,
    /// What the recipe calls it.
    pub name: String,
    /// Of a wheel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Its exact size; of a directory, of all its files.
    pub bytes: u64,
    /// Its digest; of a directory, over its list of files.
    pub sha256: Digest32,
    /// Where it was seen: a URL, or a path relative to the recipe's directory.
    #[serde(rename = "where")]
    pub seen: String,
}

impl From<&Available> for Package {
    fn from(available: &Available) -> Self {
        Self {
            name: available.name.clone(),
            version: available.version.to_string(),
            architecture: available.architecture.clone(),
            suite: available.suite.to_string(),
            path: available.path.clone(),
            bytes: available.bytes,
            sha256: available.sha256,
        }
    }
}

impl Content {
    /// Parses and checks the text of a lock.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Error> {
        let syntax = Error::of(Fault::Lock, "the package lock does not parse: ");
        // Before anything else, so that a lock of another version hears of its version and not of an unknown key.
        let OfVersion { version } = serde_json::from_slice(text).map_err(&syntax)?;
        if version != VERSION {
            return Err(error!(
                Lock,
                "the package lock has version {version}; this program reads version {VERSION}; `image-builder lock` makes one"
            ));
        }
        let content: Self = serde_json::from_slice(text).map_err(syntax)?;
        content.check()?;
        Ok(content)
    }

    /// The lock's text.
    pub(crate) fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("strings, numbers and lists have a JSON form") + "\n"
    }

    pub(super) fn package(&self, name: &str) -> Option<&Package> {
        let packages = &self.packages;
        let at = packages.binary_search_by(|package| package.name.as_str().cmp(name));
        at.ok().and_then(|at| packages.get(at))
    }

    fn check(&self) -> Result<(), Error> {
        let version = |text: &Option<String>| text.as_deref().is_none_or(is_plain_name);
        refuse_bad(
            "itself",
            [
                ("recipe", self.recipe.as_str(), is_plain_name(&self.recipe)),
                ("vhost_device_vsock", "", version(&self.vhost_device_vsock)),
            ],
        )?;
        self.debian.check()?;
        if self.packages.len() > PACKAGES_MAX {
            let got = self.packages.len().to_string();
            return Err(value("number", "packages", &got));
        }
        sorted(self.packages.iter().map(|package| &package.name))?;
        for package in &self.packages {
            package.check(&self.debian)?;
        }
        let Sets {
            build,
            run,
            modules,
        } = &self.tools;
        let with = &self.kernel.with;
        let sets = [build, run, modules, &self.root, with, &self.alone];
        for set in sets {
            sorted(set.iter())?;
        }
        let alone = [&self.kernel.package, &self.firmware.package];
        for name in sets.into_iter().flatten().chain(alone) {
            self.package(name).ok_or_else(|| {
                let name = cut(name);
                error!(
                    Lock,
                    "the package lock names {name}, which is not among its packages"
                )
            })?;
        }
        if self.inputs.len() > RECIPE_LIST_MAX {
            let got = self.inputs.len().to_string();
            return Err(value("number", "inputs", &got));
        }
        sorted(self.inputs.iter().map(|input| &input.name))?;
        self.inputs.iter().try_for_each(LockedInput::check)
    }
}

impl LockedSuite {
    /// The date of its release.
    pub fn dated(&self) -> Date {
        Date::parse(&self.release_date).expect("parsing refuses a date that is none")
    }
}

impl Archive {
    /// The suite called `name`.
    pub fn suite(&self, name: &str) -> Option<&LockedSuite> {
        self.suites.iter().find(|suite| suite.name == name)
    }

    fn check(&self) -> Result<(), Error> {
        let base = |url: &str| base_url(url) == Some(url);
        let snapshot = self.snapshot.as_deref();
        refuse_bad(
            "itself",
            [
                ("mirror", self.mirror.as_str(), base(&self.mirror)),
                (
                    "snapshot",
                    snapshot.unwrap_or_default(),
                    snapshot.is_none_or(base),
                ),
            ],
        )?;
        if !(1..=RECIPE_LIST_MAX).contains(&self.suites.len()) {
            let got = self.suites.len().to_string();
            return Err(value("number", "suites", &got));
        }
        for (at, suite) in self.suites.iter().enumerate() {
            let LockedSuite {
                name, release_date, ..
            } = suite;
            let new = !self.suites[..at].iter().any(|before| before.name == *name);
            refuse_bad(
                name,
                [
                    ("suite", name.as_str(), is_plain_name(name) && new),
                    ("date", release_date, Date::parse(release_date).is_ok()),
                ],
            )?;
        }
        Ok(())
    }
}

impl Package {
    fn check(&self, archive: &Archive) -> Result<(), Error> {
        let Self {
            name,
            version,
            architecture,
            suite,
            path,
            bytes,
            ..
        } = self;
        let size = (1..=PACKAGE_BYTES_MAX).contains(bytes);
        let known = matches!(architecture.as_str(), "amd64" | "all");
        refuse_bad(
            name,
            [
                ("name", name.as_str(), is_package_name(name)),
                ("version", version, Version::parse(version).is_some()),
                ("architecture", architecture, known),
                ("suite", suite, archive.suite(suite).is_some()),
                ("path", path, is_pool_path(path)),
                ("bytes", &bytes.to_string(), size),
            ],
        )
    }
}

impl LockedInput {
    fn check(&self) -> Result<(), Error> {
        let Self {
            kind, name, bytes, ..
        } = self;
        let version = self.version.as_deref();
        let plain = |text: &str| {
            (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
        };
        let (size, seen) = match kind {
            // An empty directory has no bytes.
            InputKind::Path => (0..=FILE_BYTES_MAX, is_plain_path(&self.seen)),
            InputKind::Pypi | InputKind::Url => (
                1..=FILE_BYTES_MAX,
                base_url(&self.seen) == Some(&*self.seen),
            ),
        };
        let wheel = *kind == InputKind::Pypi;
        refuse_bad(
            name,
            [
                ("name", name.as_str(), is_plain_name(name)),
                (
                    "version",
                    version.unwrap_or_default(),
                    version.is_some() == wheel && version.is_none_or(plain),
                ),
                ("bytes", &bytes.to_string(), size.contains(bytes)),
                ("where", &self.seen, seen),
            ],
        )
    }
}

pub(super) fn value(key: &str, of: &str, got: &str) -> Error {
    let (of, got) = (cut(of), cut(got));
    error!(
        Lock,
        "the package lock's {key} of `{of}` is not what it should be: `{got}`"
    )
}

fn refuse_bad<const N: usize>(of: &str, values: [(&str, &str, bool); N]) -> Result<(), Error> {
    let bad = values.into_iter().find(|(_, _, good)| !good);
    bad.map_or(Ok(()), |(key, got, _)| Err(value(key, of, got)))
}

fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), Error> {
    let mut before: Option<&String> = None;
    for name in names {
        if before.is_some_and(|before| before >= name) {
            let name = cut(name);
            return Err(error!(
                Lock,
                "the package lock has `{name}` out of order or twice"
            ));
        }
        before = Some(name);
    }
    Ok(())
}

/// The one key that every version of a lock has.
#[derive(Deserialize)]
struct OfVersion {
    version: u32,
}

/// What this program reads and writes.
pub(crate) const VERSION: u32 = 2;
