//! **What it is.** The rules that hold the repository together, each a test against the tree as it is: `cargo test -p tidy`.
//! A rule is a function from text to a list of breaches; its module also shows it a made-up breach, so that a rule that
//! stopped looking fails too.
//!
//! **Trusts.** The files of this repository and a parser of TOML.
//!
//! **Promises.** It compiles in seconds, and needs neither the network nor another crate of ours.
//!
//! **Lacks.** Anything but tests: nothing here is linked by another crate, or runs one.

#![cfg(test)]
#![forbid(unsafe_code)]

mod circles;
mod code;
mod docs;
mod edges;
mod examples;
mod headings;
mod listed;
mod packages;
mod perimeter;
mod purity;
mod size;
mod tree;
mod unsafety;
mod words;

use tree::Tree;

fn check(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "\n  {}\n", breaches.join("\n  "));
}

#[test]
fn crates_depend_inward_as_the_design_says() {
    check(edges::breaches(&Tree::read().manifests));
}

#[test]
fn every_unsafe_is_listed_with_its_reason_and_every_listing_exists() {
    check(unsafety::breaches(
        &Tree::read().sources(),
        unsafety::LISTED,
    ));
}

#[test]
fn every_crate_opens_with_what_it_is_trusts_promises_and_lacks() {
    let tree = Tree::read();
    let sources = tree.sources();
    let there = |path: &String| sources.iter().any(|file| file.path == *path);
    // A program without a library opens in its `main.rs`.
    let opens: Vec<_> = tree
        .manifests
        .iter()
        .map(|manifest| {
            let library = format!("{}/src/lib.rs", manifest.directory);
            let program = format!("{}/src/main.rs", manifest.directory);
            if there(&library) || !there(&program) {
                library
            } else {
                program
            }
        })
        .collect();
    check(
        opens
            .iter()
            .flat_map(|path| headings::breaches(path, tree.text(path)))
            .collect(),
    );
}

#[test]
fn what_decides_whom_to_believe_can_be_read_at_one_sitting() {
    check(perimeter::breaches(&Tree::read().sources()));
}

#[test]
fn modules_of_the_builder_form_no_circle() {
    check(circles::breaches(&Tree::read().sources()));
}

#[test]
fn there_is_no_more_to_audit_than_before() {
    check(size::breaches(&Tree::read().sources()));
}

#[test]
fn examples_are_tested_where_there_are_some() {
    let tree = Tree::read();
    let directories = tree.manifests.iter().map(|manifest| &manifest.directory);
    let has_library = |directory: &&String| tree.has(&format!("{directory}/src/lib.rs"));
    check(
        directories
            .filter(has_library)
            .flat_map(|directory| {
                let manifest = tree.text(&format!("{directory}/Cargo.toml"));
                examples::breaches(directory, manifest, &tree.sources())
            })
            .collect(),
    );
}

#[test]
fn pure_crates_touch_no_file_socket_clock_or_random_source() {
    check(purity::breaches(&Tree::read().sources()));
}

#[test]
fn every_package_comes_from_the_crate_registry() {
    check(listed::foreign_packages(Tree::read().text("Cargo.lock")));
}

#[test]
fn every_direct_dependency_has_its_reason_and_every_reason_a_dependency() {
    let tree = Tree::read();
    check(listed::dependency_breaches(
        &tree.manifests,
        tree.text("docs/dependencies.md"),
    ));
}

#[test]
fn a_guest_links_few_packages_of_others_and_no_verifier_of_quotes() {
    let root = tree::root();
    check(packages::breaches(
        &packages::linked(root, &[]),
        &packages::linked(root, &["engine", "model"]),
    ));
}

#[test]
fn no_program_links_what_is_for_tests_alone() {
    let tree = Tree::read();
    let document = tree.text("docs/dependencies.md");
    check(listed::linked_test_dependencies(&tree.manifests, document));
}

#[test]
fn yaml_is_read_by_three_programs_in_one_module_each() {
    let tree = Tree::read();
    check(listed::yaml_breaches(&tree.manifests, &tree.sources()));
}

#[test]
fn no_source_file_is_longer_than_600_lines() {
    check(words::long_files(&Tree::read().sources()));
}

#[test]
fn nothing_names_a_machine_or_leaves_work_undone() {
    check(words::forbidden(&Tree::read().files));
}

#[test]
fn pages_say_for_whom_they_are_and_lead_somewhere() {
    check(docs::breaches(&Tree::read()));
}
