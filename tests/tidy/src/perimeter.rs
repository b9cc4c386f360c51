//! What a client audits: the files that `attest::verify` reaches, few and short enough to read at one sitting.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{code_of, count_word, shipped_code_of};
use crate::tree::File;

/// The crates that it may reach; no other of ours is below it.
const CRATES: [&str; 3] = [
    "measurements/attest/src/",
    "measurements/registers/src/",
    "measurements/pki/src/",
];
const START: &str = "measurements/attest/src/verify.rs";
const FILES_MAX: usize = 20;
const LINES_MAX: usize = 3300;

/// A perimeter that is larger than allowed.
pub fn breaches(sources: &[&File]) -> Vec<String> {
    let reached = reached(sources, START);
    let lines: usize = reached.values().sum();
    let mut breaches = Vec::new();
    if reached.len() > FILES_MAX || lines > LINES_MAX {
        let listed: Vec<_> = { reached.iter() }
            .map(|(path, lines)| format!("{lines:5} {path}"))
            .collect();
        breaches.push(format!(
            "{START} reaches {} files and {lines} lines; {FILES_MAX} and {LINES_MAX} are allowed:\n  {}",
            reached.len(),
            listed.join("\n  ")
        ));
    }
    if reached.len() < 5 {
        breaches.push(format!(
            "{START} reaches next to nothing: the walk is broken"
        ));
    }
    breaches
}

/// The files that `start` reaches, with their lines outside of test modules. One file reaches another that it declares as its
/// module or of which it names an exported item or the module. Names are compared as words, so this is rather too much than
/// too little.
fn reached(sources: &[&File], start: &str) -> BTreeMap<String, usize> {
    let within = |file: &&&File| CRATES.iter().any(|part| file.path.starts_with(part));
    let files: BTreeMap<&str, String> = { sources.iter().filter(within) }
        .map(|file| (file.path.as_str(), shipped_code_of(&file.text)))
        .collect();
    let exported: BTreeMap<&str, BTreeSet<String>> = { files.iter() }
        .map(|(path, code)| (*path, exports(path, code)))
        .collect();
    let mut reached = BTreeMap::new();
    let mut waiting = vec![start];
    while let Some(path) = waiting.pop() {
        let (Some(code), false) = (files.get(path), reached.contains_key(path)) else {
            continue;
        };
        let text = { sources.iter() }.find(|file| file.path == path);
        reached.insert(path.to_owned(), text.map_or(0, |file| lines(&file.text)));
        // A table of contents leads nowhere by itself.
        if path.ends_with("/lib.rs") {
            continue;
        }
        let names = |other: &&&str| {
            let (own, its) = (crate_of(path), crate_of(other));
            let may = own == its || count_word(code, its) > 0;
            let item = || {
                exported[**other]
                    .iter()
                    .any(|name| count_word(code, name) > 0)
            };
            may && (other.ends_with("/lib.rs") || item())
        };
        waiting.extend(files.keys().filter(names));
    }
    reached
}

fn crate_of(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// Names by which others reach a file: its public items, and for a child module that exports nothing its own name.
fn exports(path: &str, code: &str) -> BTreeSet<String> {
    let name = |rest: &str| -> String {
        let part = |c: &char| c.is_alphanumeric() || *c == '_';
        rest.chars().take_while(part).collect()
    };
    let keywords = [
        "struct ", "enum ", "fn ", "const ", "type ", "trait ", "mod ",
    ];
    let items = code.lines().filter(|line| line.starts_with("pub"));
    let items = items.filter_map(|line| {
        let after = |keyword: &&str| line.split_once(*keyword).map(|(_, rest)| name(rest));
        keywords.iter().find_map(after)
    });
    let stem = path.trim_end_matches(".rs").rsplit('/').next();
    items.chain(stem.map(str::to_owned)).collect()
}

/// Lines without the test modules, which stand at the end.
fn lines(text: &str) -> usize {
    let code = code_of(text);
    let end = code.find("#[cfg(test)]").unwrap_or(code.len());
    code[..end].lines().count()
}

#[test]
fn a_file_that_is_named_is_reached_with_what_it_names() {
    let file = |path: &str, text: &str| File {
        path: path.into(),
        text: text.into(),
    };
    let files = [
        file(
            START,
            "mod words;\nuse crate::Quote;\nuse registers::Digest;\n",
        ),
        file("measurements/attest/src/verify/words.rs", "fn a() {}\n"),
        file(
            "measurements/attest/src/quote.rs",
            "pub struct Quote;\n#[cfg(test)]\nmod tests { use crate::Unused; }\n",
        ),
        file("measurements/attest/src/unused.rs", "pub struct Unused;\n"),
        file(
            "measurements/attest/src/lib.rs",
            "pub use unused::Unused;\n",
        ),
        file(
            "measurements/registers/src/digest.rs",
            "// Verified\npub struct Digest;\n",
        ),
        file("measurements/registers/src/lib.rs", "mod digest;\n"),
        file("measurements/pki/src/lib.rs", "mod der;\n"),
        file("measurements/predict/src/lib.rs", "pub struct Quote;\n"),
    ];
    let reached = reached(&files.iter().collect::<Vec<_>>(), START);
    let expected = [
        ("measurements/attest/src/lib.rs", 1),
        ("measurements/attest/src/quote.rs", 1),
        (START, 3),
        ("measurements/attest/src/verify/words.rs", 1),
        ("measurements/registers/src/digest.rs", 2),
        ("measurements/registers/src/lib.rs", 1),
    ];
    let expected = expected.map(|(path, lines)| (path.to_owned(), lines));
    assert_eq!(reached, BTreeMap::from(expected));
}
