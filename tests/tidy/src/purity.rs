//! Pure crates: time, randomness and collateral are their arguments, so their sources name no place to get them from.

use crate::code::{count_word, shipped_code_of, test_modules_of};
use crate::tree::File;

/// Source directories of the pure libraries.
const PURE: &[&str] = &[
    "engine/model/src/",
    "measurements/registers/src/",
    "measurements/pki/src/",
    "measurements/attest/src/",
    "measurements/gpu/src/",
    "measurements/predict/src/",
    "measurements/diagnose/src/",
    "wire/src/",
    "settlement/src/",
];
/// Their programs, which do the input and output.
const PROGRAMS: &[&str] = &["main.rs", "cli.rs"];
/// Modules and functions that reach out of the process.
const PATHS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::os",
    "std::thread",
    "SystemTime::now",
    "Instant::now",
    "io::stdin",
    "io::stdout",
    "io::stderr",
    "Utc::now",
    "File::open",
    "File::create",
];
/// Threads of a scope.
const SCOPED: &[&str] = &[
    "std::thread::scope(",
    "std::thread::Builder::new().spawn_scoped(",
];
/// Crates that do.
const CRATES: &[&str] = &[
    "getrandom",
    "tokio",
    "OsRng",
    "SysRng",
    "thread_rng",
    "reqwest",
    "ureq",
    "hyper",
];

/// Places in pure libraries that name one of them.
pub fn breaches(sources: &[&File]) -> Vec<String> {
    let pure = sources.iter().copied().filter(|file| is_pure(&file.path));
    shipped(&pure.collect::<Vec<_>>())
        .iter()
        .flat_map(|file| impurities(&file.path, &file.text))
        .collect()
}

/// The files among `sources` that no `#[cfg(test)] mod` of another makes a test.
pub fn shipped<'a>(sources: &[&'a File]) -> Vec<&'a File> {
    let tests: Vec<String> = sources
        .iter()
        .flat_map(|parent| test_modules(parent))
        .collect();
    let is_test = |path: &str| {
        tests.iter().any(|module| {
            path.strip_prefix(module.as_str())
                .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        })
    };
    let shipped = sources.iter().copied();
    shipped.filter(|file| !is_test(&file.path)).collect()
}

fn is_pure(path: &str) -> bool {
    let inside = PURE
        .iter()
        .find_map(|directory| path.strip_prefix(directory));
    inside.is_some_and(|inside| !inside.starts_with("bin/") && !PROGRAMS.contains(&inside))
}

/// Where the modules lie that `parent` declares by `#[cfg(test)] mod name;`, without their ending.
fn test_modules(parent: &File) -> Vec<String> {
    let stem = parent.path.trim_end_matches(".rs");
    let directory = stem.rsplit_once('/').map_or("", |(directory, _)| directory);
    let below = if stem.ends_with("/lib") || stem.ends_with("/mod") {
        directory
    } else {
        stem
    };
    test_modules_of(&parent.text)
        .iter()
        .map(|name| format!("{below}/{name}"))
        .collect()
}

fn impurities(path: &str, text: &str) -> Vec<String> {
    // Threads that end before the call does reach nothing that it does not.
    let code = SCOPED
        .iter()
        .fold(spread_groups(&shipped_code_of(text)), |code, scoped| {
            code.replace(scoped, "")
        });
    let paths = PATHS.iter().filter(|name| count_word(&code, name) > 0);
    let crates = CRATES.iter().filter(|name| count_word(&code, name) > 0);
    paths
        .chain(crates)
        .map(|name| format!("{path} is pure and names {name}"))
        .collect()
}

/// Repeats what stands in `use std::{…}` as single paths after the code, so that a group hides nothing.
fn spread_groups(code: &str) -> String {
    let mut spread = code.to_owned();
    for (at, _) in code.match_indices("std::{") {
        let group = &code[at + "std::{".len()..];
        let group = group.split_once(';').map_or(group, |(group, _)| group);
        let (mut depth, mut start) = (0i32, true);
        for c in group.chars() {
            if start && c.is_alphanumeric() {
                spread.push_str(" std::");
                start = false;
            }
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => start = true,
                _ => {}
            }
            spread.push(c);
        }
    }
    spread
}

#[test]
fn a_pure_library_that_reaches_out_is_a_breach() {
    let check = |path: &str, text: &str| {
        let parent = File {
            path: "wire/src/seal.rs".into(),
            text: "#[cfg(test)]\nmod interop;\nmod open;".into(),
        };
        breaches(&[
            &File {
                path: path.into(),
                text: text.into(),
            },
            &parent,
        ])
        .len()
    };
    assert_eq!(check("wire/src/a.rs", "use std::fs::File;"), 1);
    assert_eq!(
        check(
            "wire/src/a.rs",
            "use std::{collections::BTreeMap, io::{self, Read}, net};"
        ),
        1
    );
    assert_eq!(check("wire/src/a/b.rs", "let t = SystemTime::now();"), 1);
    assert_eq!(check("settlement/src/a.rs", "getrandom::fill(&mut b)"), 1);
    assert_eq!(
        check(
            "measurements/attest/src/seal.rs",
            "use tokio::net::TcpStream;"
        ),
        1
    );
    assert_eq!(check("wire/src/a.rs", "std::thread::scope(|scope| 1)"), 0);
    assert_eq!(
        check("wire/src/a.rs", "use std::thread::{scope, spawn};"),
        1
    );
    assert_eq!(
        check("wire/src/a.rs", "std::thread::Builder::new().spawn(f)"),
        1
    );
    assert_eq!(check("wire/src/a.rs", "/// std::fs\nuse std::io::Read;"), 0);
    assert_eq!(
        check("wire/src/a.rs", "#[cfg(test)]\nmod tests { use std::fs; }"),
        0
    );
    assert_eq!(check("wire/src/seal/interop.rs", "use std::fs;"), 0);
    assert_eq!(check("wire/src/seal/open.rs", "use std::fs;"), 1);
    assert_eq!(check("measurements/src/cli.rs", "use std::fs;"), 0);
    assert_eq!(check("settlement/src/cli.rs", "use std::fs;"), 0);
    assert_eq!(check("wire/src/bin/a.rs", "use std::fs;"), 0);
    assert_eq!(check("client/src/a.rs", "use std::fs;"), 0);
    assert_eq!(check("settlement/ledger/src/a.rs", "use std::fs;"), 0);
}
