//! What differs between two locks.

use std::collections::BTreeSet;
use std::fmt;

use serde::Serialize;

use crate::lock::package_lock::{LockedInput, Package, PackageLock};
use registers::Digest32;

/// One thing that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What kind of thing it is.
    pub kind: Kind,
    /// What it is called.
    pub name: String,
    /// What it was, if it was there.
    pub before: Option<State>,
    /// What it is, if it is there.
    pub after: Option<State>,
}

/// A kind of thing that a lock names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A Debian package.
    Package,
    /// Another input.
    Input,
}

/// What a lock says of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its version, if it has one.
    pub version: Option<String>,
    /// Its suite, or where it was seen.
    pub from: String,
    /// Its digest.
    pub sha256: Digest32,
}

impl From<&Package> for State {
    fn from(package: &Package) -> Self {
        Self {
            version: Some(package.version.clone()),
            from: package.suite.clone(),
            sha256: package.sha256,
        }
    }
}

impl From<&LockedInput> for State {
    fn from(input: &LockedInput) -> Self {
        Self {
            version: input.version.clone(),
            from: input.seen.clone(),
            sha256: input.sha256,
        }
    }
}

impl State {
    /// A version, or the beginning of a digest where there is none.
    pub fn short(&self) -> String {
        match &self.version {
            Some(version) => version.clone(),
            None => self.sha256.to_string()[..12].to_owned(),
        }
    }
}

impl Change {
    /// What happened, in a word or two.
    pub fn word(&self) -> &'static str {
        match (&self.before, &self.after) {
            (None, _) => "new",
            (_, None) => "gone",
            (Some(old), Some(new)) if old.version != new.version => "other version",
            (Some(old), Some(new)) if old.sha256 != new.sha256 => "OTHER BYTES",
            _ => "other place",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.before, &self.after) {
            (Some(old), Some(new)) if old.short() != new.short() => {
                write!(f, "{name} {} -> {}", old.short(), new.short())
            }
            (Some(old), Some(new)) if old.sha256 != new.sha256 => write!(
                f,
                "{name} {}: other bytes under the same version",
                new.short()
            ),
            (Some(old), Some(new)) => write!(f, "{name}: {} -> {}", old.from, new.from),
            (None, Some(new)) => write!(f, "{name} {} is new", new.short()),
            (Some(old), None) => write!(f, "{name} {} is gone", old.short()),
            (None, None) => write!(f, "{name}"),
        }
    }
}

/// What is not the same in both locks, packages first, by name. The dates of suites are no change: they move each week.
pub fn changes(before: Option<&PackageLock>, after: &PackageLock) -> Vec<Change> {
    let things = |lock: &PackageLock| {
        let packages = lock.packages().iter().map(|p| (Kind::Package, &p.name));
        let inputs = lock.inputs().iter().map(|i| (Kind::Input, &i.name));
        let all: Vec<_> = packages
            .chain(inputs)
            .map(|(k, n)| (k, n.clone()))
            .collect();
        all
    };
    let names: BTreeSet<_> = before.into_iter().chain([after]).flat_map(things).collect();
    let state = |lock: &PackageLock, kind, name: &str| match kind {
        Kind::Package => lock.package(name).map(State::from),
        Kind::Input => lock.input(name).map(State::from),
    };
    let change = |(kind, name): (Kind, String)| Change {
        kind,
        before: before.and_then(|lock| state(lock, kind, &name)),
        after: state(after, kind, &name),
        name,
    };
    let changes = names.into_iter().map(change);
    changes
        .filter(|change| change.before != change.after)
        .collect()
}
