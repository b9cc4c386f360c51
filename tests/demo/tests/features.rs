//! `cargo test --workspace` compiles no dependency that `cargo demo` has compiled: what each of the two would compile is asked of
//! cargo, and compared with features, profile and everything below. A crate that differs has other features in the two, and so
//! has everything that depends on it: name the missing features in `tests/Cargo.toml`.

use demo::{Guest, Programs, workspace_root};
use serde_json::Value;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::process::Command;

#[test]
fn the_tests_compile_no_dependency_that_the_demo_has_compiled() {
    let of_tests = dependencies(&["test", "--no-run", "--workspace"]);
    for guest in [Guest::Machine, Guest::Process] {
        let mut words = vec!["build", "--bins"];
        words.extend(Programs::packages(guest).flat_map(|package| ["--package", package]));
        let of_demo = dependencies(&words);
        assert!(of_demo.len() > 100, "the demo has dependencies");
        let missing = of_demo
            .iter()
            .filter(|(unit, _)| !of_tests.contains_key(unit));
        let missing: BTreeSet<&String> = missing.map(|(_, name)| name).collect();
        assert!(
            missing.is_empty(),
            "with other features, for {guest:?}: {missing:#?}"
        );
    }
}

/// What is compiled of other people's crates, by a digest of all that decides whether it is compiled again.
fn dependencies(words: &[&str]) -> BTreeMap<u64, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(words)
        .args(["--locked", "--unit-graph", "-Zunstable-options"]);
    // The graph of units is not stable yet; the toolchain is pinned. Nothing is compiled.
    cargo
        .env("RUSTC_BOOTSTRAP", "1")
        .current_dir(workspace_root());
    let output = cargo.output().expect("cargo runs this test");
    let said = String::from_utf8_lossy(&output.stderr);
    let graph: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    let units = graph["units"].as_array().expect("units are a list");
    let mut digests = vec![None; units.len()];
    for at in 0..units.len() {
        digest(units, at, &mut digests);
    }
    let named = units.iter().zip(digests).filter_map(|(unit, digest)| {
        let package = unit["pkg_id"].as_str()?;
        let is_theirs = package.starts_with("registry+") && unit["mode"] == "build";
        Some((digest?, format!("{package} {}", unit["features"]))).filter(|_| is_theirs)
    });
    named.collect()
}

fn digest(units: &[Value], at: usize, digests: &mut [Option<u64>]) -> u64 {
    if let Some(digest) = digests[at] {
        return digest;
    }
    let unit = &units[at];
    let mut profile = unit["profile"].clone();
    // `dev` and `test` are one profile by two names.
    profile
        .as_object_mut()
        .map(|profile| profile.remove("name"));
    let below = unit["dependencies"].as_array().into_iter().flatten();
    let below = below.filter_map(|dependency| usize::try_from(dependency["index"].as_u64()?).ok());
    let below: BTreeSet<u64> = below.map(|below| digest(units, below, digests)).collect();
    let mut hasher = DefaultHasher::new();
    for part in ["pkg_id", "target", "mode", "platform", "features"] {
        unit[part].to_string().hash(&mut hasher);
    }
    (profile.to_string(), below).hash(&mut hasher);
    *digests[at].insert(hasher.finish())
}
