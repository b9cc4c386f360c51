//! The package lock: which bytes are the tools, the kernel and the firmware, whoever serves them (boundary B5).
//!
//! `image-builder lock` writes it, a person reviews the change. Promises that a [`PackageLock`] has no bad value: names, versions
//! and paths are of Debian's form, sizes are within [`crate::limits`], digests are 32 bytes, packages are sorted and none is
//! there twice, and every name that a set mentions is among the packages. Its text is deterministic: the same lock is the same
//! bytes, and [`PackageLock::digest`] is theirs.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::debian::{Available, Version, index::is_pool_path, is_package_name};
use crate::limits::{PACKAGE_BYTES_MAX, PACKAGE_LOCK_BYTES_MAX, PACKAGES_MAX};
use crate::lock::{Digest, base_url, is_plain_name};
use crate::recipe::Recipe;

/// A checked lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageLock {
    content: Content,
    digest: Digest,
    mirror: String,
}

/// What a lock says, in the order of its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Content {
    pub(crate) version: u32,
    pub(crate) recipe: String,
    pub(crate) debian: Archive,
    pub(crate) packages: Vec<Package>,
    pub(crate) kernel: One,
    pub(crate) firmware: One,
    pub(crate) tools: Sets,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vhost_device_vsock: Option<String>,
}

/// The archive that was read when the lock was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its base URL.
    pub mirror: String,
    /// The suite.
    pub suite: String,
    /// Of the suite's `InRelease`.
    pub release_sha256: Digest,
    /// The date in it.
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
    /// Where it lies below a mirror's base URL.
    pub path: String,
    /// Its exact size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

impl From<&Available> for Package {
    fn from(available: &Available) -> Self {
        Self {
            name: available.name.clone(),
            version: available.version.to_string(),
            architecture: available.architecture.clone(),
            path: available.path.clone(),
            bytes: available.bytes,
            sha256: available.sha256,
        }
    }
}

/// A package that is taken alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct One {
    pub(crate) package: String,
}

/// The dependency closures, by name, sorted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sets {
    pub(crate) build: Vec<String>,
    pub(crate) run: Vec<String>,
}

/// Which closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Tools that make the image.
    Build,
    /// Tools that run it.
    Run,
}

/// What is wrong with a package lock. Always the fault of whoever wrote or chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageLockError {
    /// The file could not be read.
    #[error("the package lock {path} cannot be read: {reason}; `image-builder lock` makes one")]
    Unreadable {
        /// Which file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// It is longer than any lock should be.
    #[error("the package lock is longer than {bytes_max} bytes")]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// It is not JSON, has a key we do not know, or lacks one we need.
    #[error("the package lock does not parse: {0}")]
    Syntax(String),
    /// It is of another version.
    #[error("the package lock has version {got}; this program reads version 1")]
    Version {
        /// The version it names.
        got: u32,
    },
    /// A value is not of the form that its key asks for.
    #[error("the package lock's {key} of `{of}` is not what it should be: `{got}`")]
    Value {
        /// Which key.
        key: &'static str,
        /// Of which package or part.
        of: String,
        /// What it says.
        got: String,
    },
    /// A list is not sorted, or has something twice.
    #[error("the package lock has `{name}` out of order or twice")]
    Order {
        /// What stands in the wrong place.
        name: String,
    },
    /// A set names a package that is not there.
    #[error("the package lock names {name}, which is not among its packages")]
    Absent {
        /// Which.
        name: String,
    },
    /// It was made for another recipe, or for this one before it changed.
    #[error("the package lock is not of this recipe: {why}; run `image-builder lock`")]
    OtherRecipe {
        /// What differs.
        why: String,
    },
}

impl PackageLock {
    /// Reads a lock from `path`, no more of it than the limit.
    pub fn read(path: &Path) -> Result<Self, PackageLockError> {
        let mut text = Vec::new();
        File::open(path)
            .and_then(|file| file.take(PACKAGE_LOCK_BYTES_MAX + 1).read_to_end(&mut text))
            .map_err(|error| PackageLockError::Unreadable {
                path: path.display().to_string(),
                reason: error.to_string(),
            })?;
        Self::parse(&text)
    }

    /// Parses and checks a lock.
    pub fn parse(text: &[u8]) -> Result<Self, PackageLockError> {
        if text.len() as u64 > PACKAGE_LOCK_BYTES_MAX {
            return Err(PackageLockError::TooLong {
                bytes_max: PACKAGE_LOCK_BYTES_MAX,
            });
        }
        let content: Content = serde_json::from_slice(text)
            .map_err(|error| PackageLockError::Syntax(error.to_string()))?;
        content.check()?;
        Ok(Self {
            digest: Digest::of(text),
            mirror: content.debian.mirror.clone(),
            content,
        })
    }

    /// Of the file's bytes: what an image's manifest names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The profile of the recipe that it was made for.
    pub fn recipe(&self) -> &str {
        &self.content.recipe
    }

    /// Where its packages were found.
    pub fn debian(&self) -> &Archive {
        &self.content.debian
    }

    /// All packages, by name.
    pub fn packages(&self) -> &[Package] {
        &self.content.packages
    }

    /// The package called `name`.
    pub fn package(&self, name: &str) -> Option<&Package> {
        let packages = &self.content.packages;
        let at = packages.binary_search_by(|package| package.name.as_str().cmp(name));
        at.ok().and_then(|at| packages.get(at))
    }

    /// The closure of the tools of a role.
    pub fn closure(&self, role: Role) -> Vec<&Package> {
        let names = match role {
            Role::Build => &self.content.tools.build,
            Role::Run => &self.content.tools.run,
        };
        names.iter().filter_map(|name| self.package(name)).collect()
    }

    /// The kernel, to be unpacked alone.
    pub fn kernel(&self) -> &Package {
        let kernel = self.package(&self.content.kernel.package);
        kernel.expect("parsing refuses a kernel that is not among the packages")
    }

    /// The firmware, to be unpacked alone.
    pub fn firmware(&self) -> &Package {
        let firmware = self.package(&self.content.firmware.package);
        firmware.expect("parsing refuses a firmware that is not among the packages")
    }

    /// The version of `vhost-device-vsock`.
    pub fn vhost_device_vsock(&self) -> Option<&str> {
        self.content.vhost_device_vsock.as_deref()
    }

    /// The same lock, fetched from another mirror with the same paths; its digest stays.
    pub fn fetched_from(mut self, mirror: &str) -> Result<Self, PackageLockError> {
        let url = base_url(mirror).ok_or_else(|| value("URL", "--mirror", mirror))?;
        self.mirror = url.to_owned();
        Ok(self)
    }

    /// Where `package` is fetched from.
    pub fn url(&self, package: &Package) -> String {
        format!("{}/{}", self.mirror, package.path)
    }

    /// Whether it answers what `recipe` asks for. It may be from an older archive; it may not be for other names.
    pub fn check(&self, recipe: &Recipe) -> Result<(), PackageLockError> {
        let other = |why: String| Err(PackageLockError::OtherRecipe { why });
        let content = &self.content;
        if content.recipe != recipe.profile {
            return other(format!("it is for `{}`", content.recipe));
        }
        if content.debian.suite != recipe.debian.suite {
            return other(format!("it is of the suite `{}`", content.debian.suite));
        }
        if content.firmware.package != recipe.firmware.package {
            return other(format!("its firmware is {}", content.firmware.package));
        }
        if !is_kernel_for(&content.kernel.package, &recipe.kernel.package) {
            return other(format!("its kernel is {}", content.kernel.package));
        }
        if content.vhost_device_vsock != recipe.vhost_device_vsock {
            return other("its vhost-device-vsock differs".into());
        }
        for (asked, locked) in [
            (&recipe.tools.build, &content.tools.build),
            (&recipe.tools.run, &content.tools.run),
        ] {
            if let Some(name) = asked.iter().find(|name| !locked.contains(name)) {
                return other(format!("it lacks {name}"));
            }
        }
        Ok(())
    }
}

/// Whether `locked` is `asked`, or a kernel that the metapackage `asked` can stand for: `linux-image-cloud-amd64` stands for
/// `linux-image-6.12.107+deb13-cloud-amd64`.
pub(crate) fn is_kernel_for(locked: &str, asked: &str) -> bool {
    const PREFIX: &str = "linux-image-";
    let flavour = asked.strip_prefix(PREFIX);
    let digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    locked == asked
        || flavour
            .zip(locked.strip_prefix(PREFIX))
            .is_some_and(|(flavour, rest)| {
                digit(rest) && !digit(flavour) && rest.ends_with(&format!("-{flavour}"))
            })
}

impl Content {
    /// The lock's text.
    pub(crate) fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("strings, numbers and lists have a JSON form") + "\n"
    }

    fn check(&self) -> Result<(), PackageLockError> {
        if self.version != 1 {
            return Err(PackageLockError::Version { got: self.version });
        }
        let Archive {
            mirror,
            suite,
            release_date,
            ..
        } = &self.debian;
        let date = |text: &str| text.len() <= 100 && !text.contains(char::is_control);
        let version = |text: &Option<String>| text.as_deref().is_none_or(is_plain_name);
        for (key, got, good) in [
            ("recipe", self.recipe.as_str(), is_plain_name(&self.recipe)),
            ("mirror", mirror, base_url(mirror) == Some(mirror.as_str())),
            ("suite", suite, is_plain_name(suite)),
            ("date", release_date, date(release_date)),
            ("vhost_device_vsock", "", version(&self.vhost_device_vsock)),
        ] {
            if !good {
                return Err(value(key, "itself", got));
            }
        }
        if self.packages.len() > PACKAGES_MAX {
            let got = self.packages.len().to_string();
            return Err(value("number", "packages", &got));
        }
        sorted(self.packages.iter().map(|package| &package.name))?;
        self.packages.iter().try_for_each(Package::check)?;
        let Sets { build, run } = &self.tools;
        for set in [build, run] {
            sorted(set.iter())?;
        }
        let alone = [&self.kernel.package, &self.firmware.package];
        for name in build.iter().chain(run).chain(alone) {
            let found = self
                .packages
                .binary_search_by(|package| package.name.cmp(name));
            found.map_err(|_| PackageLockError::Absent { name: cut(name) })?;
        }
        Ok(())
    }
}

impl Package {
    fn check(&self) -> Result<(), PackageLockError> {
        let Self {
            name,
            version,
            architecture,
            path,
            bytes,
            ..
        } = self;
        let size = (1..=PACKAGE_BYTES_MAX).contains(bytes);
        for (key, got, good) in [
            ("name", name.as_str(), is_package_name(name)),
            ("version", version, Version::parse(version).is_some()),
            (
                "architecture",
                architecture,
                matches!(architecture.as_str(), "amd64" | "all"),
            ),
            ("path", path, is_pool_path(path)),
            ("bytes", &bytes.to_string(), size),
        ] {
            if !good {
                return Err(value(key, name, got));
            }
        }
        Ok(())
    }
}

fn sorted<'a>(names: impl Iterator<Item = &'a String>) -> Result<(), PackageLockError> {
    let mut before: Option<&String> = None;
    for name in names {
        if before.is_some_and(|before| before >= name) {
            return Err(PackageLockError::Order { name: cut(name) });
        }
        before = Some(name);
    }
    Ok(())
}

fn value(key: &'static str, of: &str, got: &str) -> PackageLockError {
    PackageLockError::Value {
        key,
        of: cut(of),
        got: cut(got),
    }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}
