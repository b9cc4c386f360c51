//! What the provenance names, besides the image itself.

use std::collections::BTreeMap;

use predict::image::Role;
use sha2::{Digest as _, Sha256};

use crate::compile::Ingredients;
use crate::lock::package_lock::LockedInput;
use registers::Digest32;

/// SHA-1 digests of files, by their name beside the manifest or their path in the image. SPDX asks for them.
pub type Sha1s = BTreeMap<String, [u8; 20]>;

/// Everything that an image is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Materials {
    /// The recipe's file.
    pub recipe: Input,
    /// The package lock.
    pub lock: Input,
    /// `Cargo.lock`.
    pub crates: Input,
    /// The sources of our programs, all that may be compiled.
    pub sources: Digest32,
    /// The compiler with its version and commit.
    pub compiler: String,
    /// When the archive of the lock was released, in RFC 3339.
    pub date: String,
    /// Packages in the image and those that made it.
    pub packages: Vec<DebianPackage>,
    /// Our programs, by their path in the image.
    pub programs: BTreeMap<String, Ingredients>,
    /// Models in it.
    pub models: Vec<ModelInput>,
    /// What is locked beside Debian's packages.
    pub inputs: Vec<LockedInput>,
}

/// A file that decides what comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its digest.
    pub sha256: Digest32,
}

/// A package of Debian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DebianPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Of the package file.
    pub sha256: Digest32,
    /// Where the lock saw it, whatever mirror it was fetched from.
    pub url: String,
    /// The suite that had it.
    pub suite: String,
    /// What it was for.
    pub role: Role,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInput {
    /// The name that clients ask for.
    pub id: String,
    /// Its licence, if a lock says so.
    pub licence: Option<String>,
    /// The archive that it was taken from: its URL and digest. None if it lies in our sources.
    pub archive: Option<(String, Digest32)>,
}

impl DebianPackage {
    /// Its package URL.
    pub fn purl(&self) -> String {
        super::bill::debian(&self.name, &self.version, &self.architecture, &self.suite)
    }
}

impl Materials {
    /// Stands for all of them.
    pub fn digest(&self) -> Digest32 {
        let mut hasher = Sha256::new_with_prefix("chrysalis materials 1\n");
        // Every field is text or a digest, and the form that is for people has them all, quoted.
        hasher.update(format!("{self:?}"));
        Digest32(hasher.finalize().into())
    }
}
