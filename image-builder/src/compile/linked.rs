//! Which crates a program is made of, as cargo resolves them for it alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Compiler, crates};
use crate::error::{Error, error};
use registers::Digest32;

/// What one program is compiled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ingredients {
    /// The program.
    pub program: String,
    /// The package that has it.
    pub package: Crate,
    /// Crates whose code is in the program, ours among them.
    pub linked: Vec<Crate>,
    /// Crates that run while it is compiled: build scripts, macros, and what they need.
    pub building: Vec<Crate>,
}

/// A crate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Crate {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What its author says of its licence, as SPDX writes it.
    pub licence: Option<String>,
    /// Of its archive in the crate registry; none if it is ours.
    pub sha256: Option<Digest32>,
}

impl Compiler<'_> {
    /// What [`Self::compile`] makes `program` from.
    pub fn ingredients(&self, program: &str) -> Result<Ingredients, Error> {
        let package = self.checkout.package_of(program)?;
        let root = self.checkout.root();
        let checksums = crates::checksums(root)?;
        let tree = |edges| -> Result<BTreeSet<Crate>, Error> {
            let text = self.toolchain.tree(root, package, edges)?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines.map(|line| read_line(line, &checksums)).collect()
        };
        let mut linked = tree("normal,no-proc-macro")?;
        let mut building = tree("normal,build")?;
        building.retain(|one| !linked.contains(one));
        let own = linked.iter().find(|one| one.name == package).cloned();
        let own = own.ok_or_else(|| unclear(package))?;
        linked.remove(&own);
        Ok(Ingredients {
            program: program.to_owned(),
            package: own,
            linked: linked.into_iter().collect(),
            building: building.into_iter().collect(),
        })
    }

    /// Stands for the text of everything that may be compiled.
    pub fn sources_digest(&self) -> Result<Digest32, Error> {
        self.checkout.digest()
    }

    /// Stands for what decides [`Self::ingredients`].
    pub fn manifests_digest(&self) -> Result<Digest32, Error> {
        self.checkout.manifests_digest()
    }

    /// Stands for the versions and digests of all crates.
    pub fn crates_digest(&self) -> Result<Digest32, Error> {
        let path = self.checkout.root().join("Cargo.lock");
        let text = std::fs::read(&path).map_err(Error::disk("reading", &path))?;
        Ok(Digest32::of(&text))
    }
}

/// `name v1.2.3 (where it lies)|licence (*)`
fn read_line(line: &str, checksums: &BTreeMap<(String, String), Digest32>) -> Result<Crate, Error> {
    let fields = || {
        let (package, licence) = line.trim_end_matches(" (*)").split_once('|')?;
        let mut words = package.split(' ');
        let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
        Some((name.to_owned(), version.to_owned(), licence.trim()))
    };
    let (name, version, licence) = fields().ok_or_else(|| unclear(line))?;
    let sha256 = checksums.get(&(name.clone(), version.clone())).copied();
    Ok(Crate {
        licence: (!licence.is_empty()).then(|| expression(licence)),
        name,
        version,
        sha256,
    })
}

/// Cargo once took `MIT/Apache-2.0` for "either".
fn expression(licence: &str) -> String {
    let parts: Vec<_> = licence.split('/').map(str::trim).collect();
    parts.join(" OR ")
}

fn unclear(line: &str) -> Error {
    let line: String = line.chars().take(200).collect();
    error!(Tool, "`cargo tree` is unclear: {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<(&str, &str, Option<&str>, bool)>) {
        let known = ("adler2".to_owned(), "2.0.1".to_owned());
        let checksums = BTreeMap::from([(known, Digest32([1; 32]))]);
        let got = read_line(line, &checksums).ok();
        let got = got.as_ref().map(|one| {
            let sha256 = one.sha256.is_some();
            (&*one.name, &*one.version, one.licence.as_deref(), sha256)
        });
        assert_eq!(got, expected, "{line}");
    }

    #[test]
    fn a_line_of_cargo_tree_is_a_crate_or_unclear() {
        let known = Some(("adler2", "2.0.1", Some("0BSD OR MIT"), true));
        check("adler2 v2.0.1|0BSD OR MIT", known);
        check("adler2 v2.0.1|0BSD/MIT (*)", known);
        check("adler2 v2.0.2|", Some(("adler2", "2.0.2", None, false)));
        let ours = Some(("wire", "0.1.0", Some("MIT"), false));
        check("wire v0.1.0 (/src/wire)|MIT", ours);
        check(
            "clap_derive v0.1.0 (proc-macro)|MIT (*)",
            Some(("clap_derive", "0.1.0", Some("MIT"), false)),
        );
        check("wire v0.1.0", None);
        check("wire 0.1.0|MIT", None);
        check("|MIT", None);
    }
}
