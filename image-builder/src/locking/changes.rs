//! What differs between two locks.

use std::collections::BTreeSet;

use crate::package_lock::PackageLock;

/// What a new lock changes, a line each, for people. Empty when nothing does.
pub fn changes(before: Option<&PackageLock>, after: &PackageLock) -> Vec<String> {
    let Some(before) = before else {
        return vec![format!("{} packages, a new lock", after.packages().len())];
    };
    let names = before.packages().iter().chain(after.packages());
    let names: BTreeSet<_> = names.map(|package| package.name.as_str()).collect();
    let mut lines = Vec::new();
    for name in names {
        lines.extend(match (before.package(name), after.package(name)) {
            (Some(old), Some(new)) if old.version != new.version => {
                Some(format!("{name} {} -> {}", old.version, new.version))
            }
            (Some(old), Some(new)) if old.sha256 != new.sha256 => Some(format!(
                "{name} {}: other bytes under the same version",
                new.version
            )),
            (Some(_), Some(_)) | (None, None) => None,
            (None, Some(new)) => Some(format!("{name} {} is new", new.version)),
            (Some(old), None) => Some(format!("{name} {} is gone", old.version)),
        });
    }
    if lines.is_empty() && before.digest() != after.digest() {
        lines.push("no package changes; the lock's other lines do".into());
    }
    lines
}
