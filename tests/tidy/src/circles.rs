//! Modules of a crate that use each other in a circle cannot be read or changed alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::shipped_code_of;
use crate::tree::File;

/// Directories whose modules form no circle, and how these name each other.
const ACYCLIC: [(&str, &[&str]); 2] = [
    ("image-builder/src/", &["crate::"]),
    (
        "image-builder/src/formats/",
        &["crate::formats::", "super::"],
    ),
];

type Edges = BTreeMap<String, BTreeSet<String>>;

/// A circle in each of the directories that has one.
pub fn breaches(sources: &[&File]) -> Vec<String> {
    let circle = |(directory, prefixes): &(&str, &[&str])| {
        let circle = circle(edges(sources, directory, prefixes))?;
        Some(format!("{directory}: {} use each other", circle.join(", ")))
    };
    ACYCLIC.iter().filter_map(circle).collect()
}

/// Which module names which. A module is a file of the directory, with the directory of its name.
fn edges(sources: &[&File], directory: &str, prefixes: &[&str]) -> Edges {
    let inside: Vec<_> = { sources.iter() }
        .filter_map(|file| Some((file.path.strip_prefix(directory)?, &file.text)))
        .collect();
    let name = |path: &str| path.split(['/', '.']).next().unwrap_or_default().to_owned();
    let modules: BTreeSet<String> = inside.iter().map(|(path, _)| name(path)).collect();
    let mut edges = Edges::new();
    for (path, text) in inside {
        let own = name(path);
        let code = shipped_code_of(text);
        let used = edges.entry(own.clone()).or_default();
        for prefix in prefixes
            .iter()
            .filter(|prefix| **prefix != "super::" || !path.contains('/'))
        {
            used.extend(named(&code, prefix).filter(|used| *used != own && modules.contains(used)));
        }
    }
    edges
}

/// The words behind each `prefix`, those in braces too.
fn named<'a>(code: &'a str, prefix: &'a str) -> impl Iterator<Item = String> + 'a {
    let word = |text: &str| {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        text[..end.unwrap_or(text.len())].to_owned()
    };
    code.match_indices(prefix).flat_map(move |(at, _)| {
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            return vec![word(rest)];
        };
        let (mut depth, mut words, mut from) = (0, Vec::new(), 0);
        for (at, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    words.push(word(group[from..at].trim_start()));
                    from = at + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
        words
    })
}

/// The modules that are left when those that use no other, and those that none uses, are taken away one by one.
fn circle(mut edges: Edges) -> Option<Vec<String>> {
    loop {
        let before = edges.len();
        let left: BTreeSet<String> = edges.keys().cloned().collect();
        edges
            .values_mut()
            .for_each(|used| used.retain(|name| left.contains(name)));
        let used: BTreeSet<String> = edges.values().flatten().cloned().collect();
        edges.retain(|name, uses| !uses.is_empty() && used.contains(name));
        if edges.len() == before {
            break;
        }
    }
    (!edges.is_empty()).then(|| edges.into_keys().collect())
}

#[test]
fn modules_that_use_each_other_are_a_breach() {
    let file = |path: &str, text: &str| File {
        path: format!("image-builder/src/{path}"),
        text: text.into(),
    };
    let files = |deep: &str| {
        [
            file("main.rs", "use crate::image;"),
            file("image.rs", "mod disk; use crate::{formats::{a, b}, lock};"),
            file(
                "image/disk.rs",
                "#[cfg(test)]\nmod tests { use crate::image; }",
            ),
            file("formats.rs", ""),
            file("formats/a.rs", "use super::b;"),
            file("formats/b.rs", deep),
            file("lock.rs", "// crate::image\n"),
        ]
    };
    let check = |deep: &str| breaches(&files(deep).iter().collect::<Vec<_>>());
    assert_eq!(check(""), [""; 0]);
    assert_eq!(
        check("fn f() -> crate::image::disk::Error { }"),
        ["image-builder/src/: formats, image use each other"]
    );
    assert_eq!(
        check("use crate::formats::{a::A, b};"),
        ["image-builder/src/formats/: a, b use each other"]
    );
}
