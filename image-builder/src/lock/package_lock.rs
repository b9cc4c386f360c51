//! The package lock: which bytes are the tools, the kernel, the firmware and all else that a recipe names, whoever serves them
//! (boundary B5).
//!
//! `image-builder lock` writes it, a person reviews the change. Promises that a [`PackageLock`] has no bad value: names, versions
//! and paths are of their forms, sizes are within [`crate::limits`], digests are 32 bytes, packages and inputs are sorted and
//! none is there twice, and every name that a set mentions is among the packages, every suite among the suites. Its text is
//! deterministic: the same lock is the same bytes, and [`PackageLock::digest`] is theirs.

mod answers;
mod content;

use std::path::Path;

use super::base_url;
use super::debian::Date;
use crate::error::{Error, error};
use crate::files;
use crate::limits::PACKAGE_LOCK_BYTES_MAX;
use registers::Digest32;

pub use content::{Archive, InputKind, LockedInput, LockedSuite, Package};
pub(crate) use content::{Content, KernelPackages, One, Sets, VERSION};

/// A checked lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageLock {
    content: Content,
    digest: Digest32,
    mirrors: Vec<String>,
}

/// Which closure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Tools that make the image.
    Build,
    /// Tools that run it.
    Run,
    /// What is unpacked into the root.
    Root,
    /// What compiles kernel modules.
    Modules,
}

impl PackageLock {
    /// Reads a lock from `path`, no more of it than the limit.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = files::read(path, PACKAGE_LOCK_BYTES_MAX).map_err(|error| {
            let hint = "`image-builder lock` makes one";
            error!(Lock, "the package lock cannot be read: {error}; {hint}")
        })?;
        Self::parse(&text)
    }

    /// Parses and checks a lock.
    pub fn parse(text: &[u8]) -> Result<Self, Error> {
        if text.len() as u64 > PACKAGE_LOCK_BYTES_MAX {
            return Err(error!(
                Lock,
                "the package lock is longer than {PACKAGE_LOCK_BYTES_MAX} bytes"
            ));
        }
        let content = Content::parse(text)?;
        Ok(Self {
            digest: Digest32::of(text),
            mirrors: vec![content.debian.mirror.clone()],
            content,
        })
    }

    /// Of the file's bytes: what an image's manifest names.
    pub fn digest(&self) -> Digest32 {
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
        self.content.package(name)
    }

    /// What is locked beside Debian's packages, by name.
    pub fn inputs(&self) -> &[LockedInput] {
        &self.content.inputs
    }

    /// The input called `name`.
    pub fn input(&self, name: &str) -> Option<&LockedInput> {
        self.content.inputs.iter().find(|input| input.name == name)
    }

    /// The closure of a role, by name.
    pub fn closure(&self, role: Role) -> Vec<&Package> {
        let names = match role {
            Role::Build => &self.content.tools.build,
            Role::Run => &self.content.tools.run,
            Role::Root => &self.content.root,
            Role::Modules => &self.content.tools.modules,
        };
        names.iter().filter_map(|name| self.package(name)).collect()
    }

    /// The kernel's packages, the one that names it first; to be unpacked together and alone. Debian's newer kernels are in
    /// several.
    pub fn kernel_packages(&self) -> Vec<&Package> {
        let with = self.content.kernel.with.iter();
        let with = with.filter_map(|name| self.package(name));
        std::iter::once(self.kernel()).chain(with).collect()
    }

    /// The kernel's package: the one with its name and version.
    pub fn kernel(&self) -> &Package {
        let kernel = self.package(&self.content.kernel.package);
        kernel.expect("parsing refuses a kernel that is not among the packages")
    }

    /// The package with the kernel's modules: itself, or the one that its modules were moved to.
    pub fn kernel_modules(&self) -> &Package {
        let mut packages = self.kernel_packages().into_iter();
        let modules = packages.find(|package| package.name.starts_with("linux-modules-"));
        modules.unwrap_or_else(|| self.kernel())
    }

    /// The firmware, to be unpacked alone.
    pub fn firmware(&self) -> &Package {
        let firmware = self.package(&self.content.firmware.package);
        firmware.expect("parsing refuses a firmware that is not among the packages")
    }

    /// A package that the recipe takes without what it depends on.
    pub fn alone(&self, name: &str) -> Option<&Package> {
        let listed = self.content.alone.iter().any(|alone| alone == name);
        self.package(name).filter(|_| listed)
    }

    /// The version of `vhost-device-vsock`.
    pub fn vhost_device_vsock(&self) -> Option<&str> {
        self.content.vhost_device_vsock.as_deref()
    }

    /// The same lock, fetched from other mirrors with the same paths, asked in this order; its digest stays.
    pub fn fetched_from(mut self, mirrors: &[String]) -> Result<Self, Error> {
        let base = |mirror: &String| {
            let url = base_url(mirror).map(str::to_owned);
            url.ok_or_else(|| content::value("URL", "--mirror", mirror))
        };
        self.mirrors = mirrors.iter().map(base).collect::<Result<_, _>>()?;
        Ok(self)
    }

    /// The mirrors to ask, in order.
    pub fn mirrors(&self) -> &[String] {
        &self.mirrors
    }

    /// Where `package` is fetched from: the mirrors, then the archive by time. That is asked for the moment at which the suite
    /// was locked and for a day later, because its copies are made some hours after a release.
    pub fn urls(&self, package: &Package) -> Vec<String> {
        let path = &package.path;
        let mirrors = self.mirrors.iter().map(|mirror| format!("{mirror}/{path}"));
        let archive = &self.content.debian;
        let suite = archive.suite(&package.suite);
        let past = archive.snapshot.iter().zip(suite);
        let past = past.flat_map(|(snapshot, suite)| {
            [0, 86_400].map(|later_s| {
                let at = Date {
                    unix_s: suite.dated().unix_s + later_s,
                };
                format!("{snapshot}/{}/{path}", at.compact())
            })
        });
        mirrors.chain(past).collect()
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
