//! Dependencies: where they come from, why they are there, and who may read YAML.

use std::collections::BTreeSet;

use crate::code::{code_of, count_word};
use crate::tree::{File, Manifest};

/// The programs that may read YAML; never one that runs inside the guest.
const YAML_READERS: &[&str] = &["image-builder", "host-proxy", "client"];

/// Packages of a lock file that come from anywhere but the crate registry.
pub fn foreign_packages(lock: &str) -> Vec<String> {
    let sources = lock
        .lines()
        .filter_map(|line| line.strip_prefix("source = "));
    let foreign = sources
        .filter(|source| *source != "\"registry+https://github.com/rust-lang/crates.io-index\"");
    foreign
        .map(|source| format!("Cargo.lock has a package from {source}"))
        .collect()
}

/// Direct dependencies without a line in the document, and lines of the document without a dependency. A line is a table
/// row whose first cell is names in backquotes.
pub fn dependency_breaches(manifests: &[Manifest], document: &str) -> Vec<String> {
    let ours: BTreeSet<&str> = manifests
        .iter()
        .map(|manifest| manifest.name.as_str())
        .collect();
    let needs = manifests
        .iter()
        .flat_map(|manifest| &manifest.needs)
        .map(|need| need.name.as_str());
    let needed: BTreeSet<&str> = needs.filter(|name| !ours.contains(name)).collect();
    let rows = document
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    let explained = rows.filter(|(_, rest)| rest.split_whitespace().count() >= 4);
    let listed: BTreeSet<&str> = explained
        .flat_map(|(cell, _)| cell.split([',', ' ', '`']))
        .filter(|name| !name.is_empty())
        .collect();
    let unexplained = needed
        .difference(&listed)
        .map(|name| format!("docs/dependencies.md gives no reason for {name}"));
    let stale = listed
        .difference(&needed)
        .map(|name| format!("docs/dependencies.md lists {name}, which nobody uses"));
    unexplained.chain(stale).collect()
}

/// Programs that link what the document says is for tests alone: a row whose second cell ends in *(tests)* and names at most
/// one crate.
pub fn linked_test_dependencies(manifests: &[Manifest], document: &str) -> Vec<String> {
    let rows = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let for_tests = rows.filter_map(|(names, rest)| {
        let place = rest.split_once(" |")?.0.strip_suffix("*(tests)*")?;
        (!place.contains(',')).then_some(names)
    });
    let names: BTreeSet<&str> = for_tests.flat_map(|names| names.split('`')).collect();
    // The crates of tests are no programs.
    let of_tests = |manifest: &&Manifest| ["tests", "hostile"].contains(&manifest.name.as_str());
    let programs = manifests.iter().filter(|manifest| !of_tests(manifest));
    let needs = programs.flat_map(|manifest| {
        let linked = manifest.needs.iter().filter(|need| !need.development);
        linked.map(move |need| (&manifest.name, need.name.as_str()))
    });
    let linked = needs.filter(|(_, name)| names.contains(name));
    linked
        .map(|(who, name)| format!("{who} links {name}, which is for tests"))
        .collect()
}

/// Uses of `serde_yaml` outside the three programs, or in more than one module of one.
pub fn yaml_breaches(manifests: &[Manifest], sources: &[&File]) -> Vec<String> {
    let mut breaches = Vec::new();
    for manifest in manifests {
        let needs = manifest.needs.iter().any(|need| need.name == "serde_yaml");
        if needs && !YAML_READERS.contains(&manifest.name.as_str()) {
            breaches.push(format!("{} may not depend on serde_yaml", manifest.name));
        }
        let inside = format!("{}/src/", manifest.directory);
        let reads = |file: &&&File| {
            file.path.starts_with(&inside) && count_word(&code_of(&file.text), "serde_yaml") > 0
        };
        let modules: Vec<_> = sources
            .iter()
            .filter(reads)
            .map(|file| file.path.as_str())
            .collect();
        if modules.len() > 1 {
            breaches.push(format!(
                "{} reads YAML in more than one module: {}",
                manifest.name,
                modules.join(", ")
            ));
        }
    }
    breaches
}

#[test]
fn a_git_package_is_a_breach() {
    let registry = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\n";
    assert_eq!(foreign_packages(registry), [""; 0]);
    assert_eq!(
        foreign_packages("source = \"git+https://example.org/a#0\"\n").len(),
        1
    );
    assert_eq!(
        foreign_packages("source = \"registry+https://example.org/index\"\n").len(),
        1
    );
}

#[test]
fn an_unexplained_dependency_and_a_stale_reason_are_breaches() {
    let text = "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\nc = \"1\"\n[dev-dependencies]\nd = \"1\"\n";
    let check = |document: &str| dependency_breaches(&[Manifest::parse("a", text)], document).len();
    let reason = "| a | because of it |";
    assert_eq!(check(&format!("| `b`, `c` {reason}\n| `d` {reason}\n")), 0);
    assert_eq!(check(&format!("| `b`, `c` {reason}\n")), 1);
    assert_eq!(check(&format!("| `b`, `c` {reason}\n| `d` |\n")), 1);
    assert_eq!(
        check(&format!("| `b`, `c`, `e` {reason}\n| `d` {reason}\n")),
        1
    );
}

#[test]
fn a_program_that_links_a_dependency_of_tests_is_a_breach() {
    let text =
        "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\n[dev-dependencies]\nd = \"1\"\n";
    let manifests = [Manifest::parse("a", text)];
    let check = |row: &str| linked_test_dependencies(&manifests, row).len();
    assert_eq!(check("| `d` | a *(tests)* | because |\n"), 0);
    assert_eq!(check("| `b` | a | because |\n"), 0);
    assert_eq!(check("| `b` | c, a's own *(tests)* | because |\n"), 0);
    assert_eq!(check("| `b` | a *(tests)* | because |\n"), 1);
    assert_eq!(check("| `d`, `b` | *(tests)* | because |\n"), 1);
}

#[test]
fn yaml_elsewhere_or_everywhere_is_a_breach() {
    let manifest = |name: &str| {
        Manifest::parse(
            name,
            &format!("[package]\nname = \"{name}\"\n[dependencies]\nserde_yaml = \"1\"\n"),
        )
    };
    let file = |path: &str| File {
        path: path.into(),
        text: "use serde_yaml::Value;".into(),
    };
    assert_eq!(
        yaml_breaches(&[manifest("client")], &[&file("client/src/a.rs")]),
        [""; 0]
    );
    assert_eq!(yaml_breaches(&[manifest("guest-agent")], &[]).len(), 1);
    assert_eq!(
        yaml_breaches(
            &[manifest("client")],
            &[&file("client/src/a.rs"), &file("client/src/b.rs")]
        )
        .len(),
        1
    );
}
