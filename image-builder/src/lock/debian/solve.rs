//! From names to a closure: the packages that make every dependency of every package in it fulfilled.
//!
//! Deterministic, and simpler than apt on purpose: `Pre-Depends` and `Depends` are followed in the order of the fields, breadth
//! first; a group that a chosen package fulfils already adds nothing; otherwise the first alternative that the index can fulfil
//! is chosen, a real package before one that provides the name, preferred suites before others, the latest version of a suite
//! before earlier ones, providers in alphabetical order.
//!
//! A package that was chosen for a dependency and turns out to be the wrong version for another one is held at the version
//! that the other one needs, and all begins again; so a package of a less preferred suite pulls along what it needs from there,
//! and only that. What the recipe itself names is never exchanged so. When a choice leads nowhere, that is an error that names
//! the way there.
//!
//! Recommended packages, conflicts and essential packages are not looked at. Nothing is installed and no script of a package
//! runs; two packages that claim one path are refused when the tree is unpacked.

use std::collections::{BTreeMap, VecDeque};

use super::index::{Available, Index, Odd};
use super::relation::Relation;
use crate::error::{Error, Fault, error};
use crate::limits::{HELD_PACKAGES_MAX, PACKAGES_MAX};
use crate::lock::recipe::Choice;

/// Versions to take where nothing speaks against them, by name: those of a lock that is there.
pub type Preferred<'a> = BTreeMap<&'a str, &'a Available>;

/// The closure of what a recipe chooses, by name.
pub fn closure<'a>(
    index: &'a Index,
    choices: &[Choice],
    preferred: &Preferred<'a>,
) -> Result<BTreeMap<&'a str, &'a Available>, Error> {
    let mut wishes = Wishes {
        held: BTreeMap::new(),
        preferred: preferred.clone(),
    };
    loop {
        match attempt(index, choices, &wishes)? {
            Attempt::Closed(packages) => return Ok(packages),
            Attempt::Hold { package, root, why } => {
                let name = package.name.as_str();
                // What was merely preferred gives way, even if the recipe names it.
                if wishes.preferred.remove(name).is_some() {
                    continue;
                }
                let again = wishes.held.insert(name, package).is_some();
                if root || again || wishes.held.len() > HELD_PACKAGES_MAX {
                    return Err(why);
                }
            }
        }
    }
}

/// The package that a recipe chooses: the preferred one if it is of the suite that the recipe names, else the latest of that
/// suite, or of the first suite that has the name.
pub fn chosen<'a>(
    index: &'a Index,
    choice: &Choice,
    preferred: &Preferred<'a>,
) -> Result<&'a Available, Error> {
    let name = choice.name.as_str();
    let preferred = preferred.get(name).copied().into_iter();
    let versions = index.versions(name).iter().rev();
    let suite = choice.suite.as_deref();
    let mut found = preferred
        .chain(versions)
        .filter(|package| suite.is_none_or(|suite| *package.suite == *suite));
    let found = found.next().ok_or_else(|| {
        unsolved(
            format!("no package {choice} in the archive"),
            index.blame(name),
        )
    })?;
    refuse_odd(index, found)?;
    Ok(found)
}

/// A package of which the archive says something that cannot be read as well: that may be the version to take.
fn refuse_odd(index: &Index, package: &Available) -> Result<(), Error> {
    match index
        .odd_of(&package.name)
        .find(|odd| package.is_behind(odd))
    {
        Some(odd) => Err(error!(Mirror, "{odd}; the package is needed")),
        None => Ok(()),
    }
}

/// What the archive says of a package may be what stands in the way; then it is not the recipe's fault.
fn unsolved(sentence: String, odd: Option<&Odd>) -> Error {
    match odd {
        Some(odd) => error!(Mirror, "{sentence}; {odd}"),
        None => Error::new(Fault::Recipe, sentence),
    }
}

struct Wishes<'a> {
    /// Versions that another package needs.
    held: BTreeMap<&'a str, &'a Available>,
    preferred: Preferred<'a>,
}

enum Attempt<'a> {
    /// All is fulfilled.
    Closed(BTreeMap<&'a str, &'a Available>),
    /// It would be, perhaps, if this version of this package were taken from the beginning.
    Hold {
        package: &'a Available,
        /// Whether the recipe names it.
        root: bool,
        why: Error,
    },
}

fn attempt<'a>(
    index: &'a Index,
    choices: &[Choice],
    wishes: &Wishes<'a>,
) -> Result<Attempt<'a>, Error> {
    let mut taken = Taken::default();
    let mut open = VecDeque::new();
    for choice in choices {
        let package = chosen(index, choice, &wishes.preferred)?;
        if taken.add(package) {
            open.push_back(package);
        }
    }
    let roots: Vec<_> = taken.packages.keys().copied().collect();
    while let Some(package) = open.pop_front() {
        for group in package.needs()? {
            if group.iter().any(|relation| taken.fulfils(relation)) {
                continue;
            }
            let missing = || {
                let (package, wanted) = (&package.name, show(&group));
                unsolved(
                    format!("{package} needs `{wanted}`, which nothing in the archive fulfils"),
                    { group.iter() }.find_map(|relation| index.blame(&relation.name)),
                )
            };
            let found = group
                .iter()
                .find_map(|relation| candidate(index, wishes, relation));
            let found = found.ok_or_else(missing)?;
            if taken.has_other_version(found) {
                return Ok(Attempt::Hold {
                    package: found,
                    root: roots.contains(&found.name.as_str()),
                    why: missing(),
                });
            }
            if taken.add(found) {
                refuse_odd(index, found)?;
                open.push_back(found);
            }
            if taken.packages.len() > PACKAGES_MAX {
                return Err(error!(
                    Recipe,
                    "the closure has more than {PACKAGES_MAX} packages"
                ));
            }
        }
    }
    Ok(Attempt::Closed(taken.packages))
}

fn candidate<'a>(
    index: &'a Index,
    wishes: &Wishes<'a>,
    relation: &Relation,
) -> Option<&'a Available> {
    let name = relation.name.as_str();
    // A package that is held at a version that does not do may still be had in another: that is a conflict to be told of.
    let wished = [wishes.held.get(name), wishes.preferred.get(name)];
    let wished = wished.into_iter().flatten().copied();
    let real = index.versions(name).iter().rev();
    let mut allowed = wished
        .chain(real)
        .filter(|package| relation.allows(&package.version));
    allowed.next().or_else(|| provider(index, relation))
}

fn provider<'a>(index: &'a Index, relation: &Relation) -> Option<&'a Available> {
    let names = index.providers(&relation.name);
    let latest = |suite: &str| {
        let of_suite = move |name: &String| {
            let mut versions = index.versions(name).iter().rev();
            versions.find(|package| *package.suite == *suite)
        };
        let mut found = names.iter().filter_map(of_suite);
        found.find(|package| stands_in(package, relation))
    };
    match index.suites() {
        [] => latest(""),
        suites => suites.iter().find_map(|suite| latest(suite)),
    }
}

fn stands_in(package: &Available, relation: &Relation) -> bool {
    let mut provided = package.provides().iter();
    provided
        .any(|(name, version)| *name == relation.name && relation.allows_provided(version.as_ref()))
}

#[derive(Default)]
struct Taken<'a> {
    packages: BTreeMap<&'a str, &'a Available>,
    /// From a provided name to who of the chosen provides it.
    providers: BTreeMap<&'a str, Vec<&'a Available>>,
}

impl<'a> Taken<'a> {
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

    /// An index of `name version; Depends; Provides` lines, and of lines `suite NAME`.
    fn index(lines: &[&str]) -> Index {
        let mut index = Index::default();
        let mut suites = lines.split(|line| line.starts_with("suite "));
        let first = text(suites.next().unwrap_or_default());
        index.add(first.as_bytes()).expect("well formed");
        for (line, lines) in lines
            .iter()
            .filter(|line| line.starts_with("suite "))
            .zip(suites)
        {
            index.begin_suite(&line["suite ".len()..]);
            index.add(text(lines).as_bytes()).expect("well formed");
        }
        index
    }

    fn text(lines: &[&str]) -> String {
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
        text
    }

    fn check(lines: &[&str], roots: &[&str], expected: Result<&[&str], &str>) {
        let index = index(lines);
        let choice = |root: &&str| Choice::try_from((*root).to_owned()).expect("a name");
        let roots: Vec<_> = roots.iter().map(choice).collect();
        let got = closure(&index, &roots, &Preferred::new());
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
    fn an_alternative_of_another_architecture_is_none() {
        let lines = [
            "aa 1; bb:i386 | bb",
            "bb 1",
            "cc 1; vv:arm64 | dd:any, ",
            "dd 1; ; vv",
        ];
        check(&lines, &["aa"], Ok(&["aa 1", "bb 1"]));
        check(&lines, &["cc"], Ok(&["cc 1", "dd 1"]));
        // Also if it is there by chance.
        let lines = ["aa 1; bb:i386 | cc", "bb 1", "cc 1", "dd 1; bb:i386"];
        check(&lines, &["bb", "aa"], Ok(&["aa 1", "bb 1", "cc 1"]));
        check(&lines, &["bb", "dd"], Err("dd needs `bb:i386`"));
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
    fn an_earlier_version_is_taken_when_a_later_package_needs_it() {
        let lines = ["aa 1; bb, cc", "bb 9", "bb 10", "cc 1; bb (<< 10)"];
        check(&lines, &["aa"], Ok(&["aa 1", "bb 9", "cc 1"]));
        let lines = [
            "aa 1; bb, cc",
            "bb 9",
            "bb 10",
            "cc 1; bb (<< 10), dd",
            "dd 1; bb (>> 9)",
        ];
        check(&lines, &["aa"], Err("dd needs `bb (>> 9)`"));
    }

    #[test]
    fn what_is_preferred_stays_unless_something_needs_another_version() {
        let lines = ["aa 1; bb, cc", "bb 1", "bb 2", "cc 1", "cc 2; bb (>= 2)"];
        let index = index(&lines);
        let check = |preferred: &[(&str, usize)], roots: &[&str], expected: &[&str]| {
            let preferred: Preferred<'_> = preferred
                .iter()
                .map(|(name, at)| (*name, &index.versions(name)[*at]))
                .collect();
            let choice = |root: &&str| Choice::try_from((*root).to_owned()).expect("a name");
            let roots: Vec<_> = roots.iter().map(choice).collect();
            let got = closure(&index, &roots, &preferred).expect("solvable");
            let got: Vec<_> = got
                .values()
                .map(|p| format!("{} {}", p.name, p.version))
                .collect();
            assert_eq!(got, expected, "{preferred:?}");
        };
        check(&[], &["aa"], &["aa 1", "bb 2", "cc 2"]);
        check(&[("cc", 0)], &["aa"], &["aa 1", "bb 2", "cc 1"]);
        check(&[("bb", 0), ("cc", 0)], &["aa"], &["aa 1", "bb 1", "cc 1"]);
        // The update of one pulls the other along, and also when the recipe names it.
        check(&[("bb", 0)], &["aa"], &["aa 1", "bb 2", "cc 2"]);
        check(&[("bb", 0)], &["bb", "aa"], &["aa 1", "bb 2", "cc 2"]);
    }

    #[test]
    fn the_first_suite_that_has_a_package_is_preferred_and_another_can_be_asked_for() {
        let lines = [
            "suite stable",
            "aa 1; lib",
            "lib 1",
            "vv-one 1; ; vv",
            "suite backports",
            "aa 2; lib (>= 1), more (= 2)",
            "bb 2; lib (>= 2), aa",
            "lib 2",
            "more 2; vv",
            "aa-vv 2; ; vv",
        ];
        check(&lines, &["aa"], Ok(&["aa 1", "lib 1"]));
        check(&lines, &["aa/stable"], Ok(&["aa 1", "lib 1"]));
        // Of the other suite only what nothing else fulfils.
        check(
            &lines,
            &["aa/backports"],
            Ok(&["aa 2", "lib 1", "more 2", "vv-one 1"]),
        );
        check(&lines, &["bb"], Ok(&["aa 1", "bb 2", "lib 2"]));
        check(&lines, &["aa", "bb"], Ok(&["aa 1", "bb 2", "lib 2"]));
        check(&lines, &["lib", "bb"], Err("bb needs `lib (>= 2)`"));
        check(&lines, &["bb/stable"], Err("no package bb/stable"));
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
            Err("dependencies of aa are malformed: Depends has `bb (`"),
        );
        check(
            &["aa 1; bb, cc (= 1), cc >= 2 | bb, dd", "bb 1", "cc 1"],
            &["aa"],
            Err("malformed: Depends has `cc >= 2 | bb`"),
        );
        // A virtual name is nothing that a recipe can ask for: it would not say which package it means.
        check(&["aa 1; ; vv"], &["vv"], Err("no package vv"));
    }
}
