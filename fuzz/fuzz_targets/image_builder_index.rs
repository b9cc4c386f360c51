//! An index of packages, plain and compressed, and the closures of what it lists: nothing in one lacks what it needs.
#![no_main]

use image_builder::lock::Choice;
use image_builder::lock::debian::relation::Relation;
use image_builder::lock::debian::{Available, Index, closure};
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fuzz_target!(|bytes: &[u8]| {
    let _ = Index::default().add_xz(bytes);
    let Ok(index) = Index::read(bytes) else {
        return;
    };
    let text = String::from_utf8_lossy(bytes);
    let names = text
        .lines()
        .filter_map(|line| line.strip_prefix("Package:"));
    for name in names.take(8) {
        let Ok(choice) = Choice::try_from(name.trim().to_owned()) else {
            continue;
        };
        let Ok(chosen) = closure(&index, &[choice], &BTreeMap::new()) else {
            continue;
        };
        for package in chosen.values() {
            for group in package.needs().expect("the closure has read it") {
                let fulfilled = group.iter().any(|relation| has(&chosen, relation));
                assert!(fulfilled, "{} needs {group:?}", package.name);
            }
        }
    }
});

fn has(chosen: &BTreeMap<&str, &Available>, relation: &Relation) -> bool {
    let provides = |package: &&Available| {
        let mut provided = package.provides().iter();
        provided.any(|(name, version)| {
            *name == relation.name && relation.allows_provided(version.as_ref())
        })
    };
    let real = chosen.get(relation.name.as_str());
    real.is_some_and(|package| relation.allows(&package.version)) || chosen.values().any(provides)
}
