//! How much there is to audit. Whoever needs more lines raises the limit here, where a reviewer sees it.

use std::collections::BTreeMap;

use crate::code::shipped_lines;
use crate::purity::shipped;
use crate::tree::File;

/// Lines of source outside of `tests/` and `fuzz/`, test modules excluded.
const LINES_MAX: usize = 137_950;

/// More lines than allowed, crate by crate.
pub fn breaches(sources: &[&File]) -> Vec<String> {
    let lines = lines(sources);
    println!(
        "{} lines of source: {lines:?}",
        lines.values().sum::<usize>()
    );
    let all: usize = lines.values().sum();
    let over = all > LINES_MAX;
    let breach = || format!("{all} lines of source; {LINES_MAX} are allowed: {lines:?}");
    over.then(breach).into_iter().collect()
}

fn lines<'a>(sources: &[&'a File]) -> BTreeMap<&'a str, usize> {
    let mut lines = BTreeMap::new();
    for file in shipped(sources) {
        let Some((package, _)) = file.path.split_once("/src/") else {
            continue;
        };
        if !package.starts_with("tests") && !package.starts_with("fuzz") {
            *lines.entry(package).or_default() += shipped_lines(&file.text);
        }
    }
    lines
}

#[test]
fn tests_and_their_modules_are_not_counted() {
    let file = |path: &str, text: &str| File {
        path: path.into(),
        text: text.into(),
    };
    let files = [
        file(
            "wire/src/lib.rs",
            "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n",
        ),
        file("wire/src/tests.rs", "fn c() {}\n"),
        file("wire/tests/all.rs", "fn d() {}\n"),
        file("tests/src/lib.rs", "fn e() {}\n"),
    ];
    let files: Vec<&File> = files.iter().collect();
    assert_eq!(lines(&files), BTreeMap::from([("wire", 2)]));
}
