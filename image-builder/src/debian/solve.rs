//! From names to a closure: the packages that make every dependency of every package in it fulfilled.
//!
//! Deterministic, and simpler than apt on purpose: `Pre-Depends` and `Depends` are followed in the order of the fields, breadth
//! first; a group that a chosen package fulfils already adds nothing; otherwise the first alternative that the index can fulfil
//! is chosen, a real package before one that provides the name, the latest version before earlier ones, providers in
//! alphabetical order. There is no going back: when a choice leads nowhere, that is an error that names the way there.
//!
//! Recommended packages, conflicts and essential packages are not looked at. Nothing is installed and no script of a package
//! runs; two packages that claim one path are refused when the tree is unpacked.

use std::collections::{BTreeMap, VecDeque};

use super::index::{Available, Index};
use super::relation::Relation;
use crate::limits::PACKAGES_MAX;

/// Why there is no closure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsolved {
    /// The index does not have what the recipe asks for.
    #[error("no package {name} in the archive")]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// The index does not have what one of its packages asks for.
    #[error("{package} needs `{group}`, which nothing in the archive fulfils")]
    Missing {
        /// Who asks.
        package: String,
        /// For what, with all alternatives.
        group: String,
    },
    /// A package of the index has a field that cannot be read.
    #[error("the dependencies of {package} are malformed")]
    Malformed {
        /// Which.
        package: String,
    },
    /// One lock has one version of a package.
    #[error("{package} is needed in two versions")]
    Versions {
        /// Which.
        package: String,
    },
    /// It does not end.
    #[error("the closure has more than {max} packages")]
    TooMany {
        /// The limit.
        max: usize,
    },
}

/// The closure of `roots`, by name.
pub fn closure<'a>(
    index: &'a Index,
    roots: &[String],
) -> Result<BTreeMap<&'a str, &'a Available>, Unsolved> {
    let mut chosen = Chosen::default();
    let mut open = VecDeque::new();
    for name in roots {
        let latest = index.versions(name).last();
        let package = latest.ok_or_else(|| Unsolved::Unknown { name: name.clone() })?;
        if chosen.add(package) {
            open.push_back(package);
        }
    }
    while let Some(package) = open.pop_front() {
        let name = || package.name.clone();
        let needs = package.needs();
        for group in needs.ok_or_else(|| Unsolved::Malformed { package: name() })? {
            if group.iter().any(|relation| chosen.fulfils(relation)) {
                continue;
            }
            let found = group.iter().find_map(|relation| candidate(index, relation));
            let Some(found) = found.filter(|found| !chosen.has_other_version(found)) else {
                return Err(Unsolved::Missing {
                    package: name(),
                    group: show(&group),
                });
            };
            if chosen.add(found) {
                open.push_back(found);
            }
            if chosen.packages.len() > PACKAGES_MAX {
                return Err(Unsolved::TooMany { max: PACKAGES_MAX });
            }
        }
    }
    Ok(chosen.packages)
}

fn candidate<'a>(index: &'a Index, relation: &Relation) -> Option<&'a Available> {
    let real = index.versions(&relation.name).iter().rev();
    let mut allowed = real.filter(|package| relation.allows(&package.version));
    allowed.next().or_else(|| {
        let names = index.providers(&relation.name).iter();
        let latest = names.filter_map(|name| index.versions(name).last());
        latest
            .into_iter()
            .find(|package| stands_in(package, relation))
    })
}

fn stands_in(package: &Available, relation: &Relation) -> bool {
    let mut provided = package.provides().iter();
    provided
        .any(|(name, version)| *name == relation.name && relation.allows_provided(version.as_ref()))
}

#[derive(Default)]
struct Chosen<'a> {
    packages: BTreeMap<&'a str, &'a Available>,
    /// From a provided name to who of the chosen provides it.
    providers: BTreeMap<&'a str, Vec<&'a Available>>,
}

impl<'a> Chosen<'a> {
    /// Whether it is new.
    fn add(&mut self, package: &'a Available) -> bool {
        if self.packages.insert(&package.name, package).is_some() {
            return false;
        }
        for (name, _) in package.provides() {
            self.providers.entry(name).or_default().push(package);
        }
        true
    }

    fn fulfils(&self, relation: &Relation) -> bool {
        let real = self.packages.get(relation.name.as_str());
        let providers = self.providers.get(relation.name.as_str());
        real.is_some_and(|package| relation.allows(&package.version))
            || providers
                .into_iter()
                .flatten()
                .any(|package| stands_in(package, relation))
    }

    fn has_other_version(&self, package: &Available) -> bool {
        let chosen = self.packages.get(package.name.as_str());
        chosen.is_some_and(|chosen| chosen.version != package.version)
    }
}

fn show(group: &[Relation]) -> String {
    let shown: Vec<_> = group.iter().map(Relation::to_string).collect();
    shown.join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An index of `name version; Depends; Provides` lines.
    fn index(lines: &[&str]) -> Index {
        let mut text = String::new();
        for line in lines {
            let mut fields = line.split(';').map(str::trim);
            let (name, version) = fields
                .next()
                .and_then(|head| head.split_once(' '))
                .expect("a name and a version");
            let (depends, provides) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
            text += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {}\n\
                 Depends: {depends}\nProvides: {provides}\n\n",
                "0".repeat(64)
            );
        }
        Index::read(text.as_bytes()).expect("well formed")
    }

    fn check(lines: &[&str], roots: &[&str], expected: Result<&[&str], &str>) {
        let index = index(lines);
        let roots: Vec<_> = roots.iter().map(|root| (*root).to_owned()).collect();
        let got = closure(&index, &roots);
        let shown = got.map(|packages| {
            let pairs = packages.values();
            let shown: Vec<_> = pairs.map(|p| format!("{} {}", p.name, p.version)).collect();
            shown
        });
        match (shown, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected),
            (Err(got), Err(expected)) => assert!(got.to_string().contains(expected), "{got}"),
            (got, expected) => panic!("{got:?} where {expected:?} was expected"),
        }
    }

    #[test]
    fn dependencies_of_dependencies_come_along_and_circles_end() {
        let lines = ["aa 1; bb", "bb 1; cc (>= 2)", "cc 2; aa", "dd 1"];
        check(&lines, &["aa"], Ok(&["aa 1", "bb 1", "cc 2"]));
        check(&lines, &["dd", "dd"], Ok(&["dd 1"]));
    }

    #[test]
    fn the_first_alternative_that_can_be_had_is_chosen() {
        let lines = ["aa 1; xx | cc | bb", "bb 1", "cc 1"];
        check(&lines, &["aa"], Ok(&["aa 1", "cc 1"]));
        // Unless another one is there anyhow.
        check(&lines, &["aa", "bb"], Ok(&["aa 1", "bb 1"]));
        let lines = ["aa 1; bb (>= 2) | cc", "bb 1", "cc 1"];
        check(&lines, &["aa"], Ok(&["aa 1", "cc 1"]));
    }

    #[test]
    fn a_provider_stands_in_when_its_version_allows() {
        let lines = ["aa 1; vv", "pp 1; ; vv", "oo 1; ; vv"];
        check(&lines, &["aa"], Ok(&["aa 1", "oo 1"]));
        check(&lines, &["aa", "pp"], Ok(&["aa 1", "pp 1"]));
        let lines = [
            "aa 1; vv (>= 2)",
            "oo 1; ; vv",
            "pp 1; ; vv (= 1)",
            "qq 1; ; vv (= 2)",
        ];
        check(&lines, &["aa"], Ok(&["aa 1", "qq 1"]));
        let lines = ["aa 1; vv", "pp 1; ; vv", "vv 1"];
        check(&lines, &["aa"], Ok(&["aa 1", "vv 1"]));
    }

    #[test]
    fn the_latest_version_that_is_allowed_is_chosen() {
        let lines = ["aa 1; bb", "bb 9", "bb 10", "cc 1; bb (<< 10)"];
        check(&lines, &["aa"], Ok(&["aa 1", "bb 10"]));
        check(&lines, &["cc"], Ok(&["bb 9", "cc 1"]));
        // One tree has one version of a package.
        check(&lines, &["aa", "bb", "cc"], Err("cc needs `bb (<< 10)`"));
    }

    #[test]
    fn what_cannot_be_had_is_named() {
        check(&["aa 1"], &["zz"], Err("no package zz"));
        check(
            &["aa 1; bb (>= 2) | zz", "bb 1"],
            &["aa"],
            Err("aa needs `bb (>= 2) | zz`"),
        );
        check(
            &["aa 1; bb ("],
            &["aa"],
            Err("dependencies of aa are malformed"),
        );
        // A virtual name is nothing that a recipe can ask for: it would not say which package it means.
        check(&["aa 1; ; vv"], &["vv"], Err("no package vv"));
    }
}
