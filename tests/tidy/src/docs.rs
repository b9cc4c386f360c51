//! Pages of documentation: what kind they are and for whom, how long their lines are, whether links and paths lead anywhere,
//! and words that the glossary replaced.

use std::collections::BTreeSet;

use crate::code::count_word;
use crate::tree::{File, Tree};

const LINE_CHARS_MAX: usize = 119;
/// A page's first paragraph begins with one of these and then says for whom it is.
const KINDS: [&str; 5] = [
    "**Tutorial.** For ",
    "**How-to.** For ",
    "**Reference.** For ",
    "**Explanation.** For ",
    "**Evidence.** For ",
];
/// Pages that open otherwise.
const OPEN_OTHERWISE: [&str; 3] = ["README.md", "CHANGELOG.md", "packer/README.md"];
/// Words that earlier editions used, with the field's own terms. Split, so that this file may be searched for them.
const WORDS: &[(&str, &str, &str)] = &[
    ("cour", "ier", "proxy"),
    ("cour", "iers", "proxies"),
    ("pap", "er", "manifest or statement"),
    ("pap", "ers", "provenance"),
    ("fol", "der", "directory"),
    ("fol", "ders", "directories"),
    ("ro", "om", "sandbox"),
    ("dep", "ot", "cache"),
    ("ro", "ad", "boot method or path"),
    ("ro", "ads", "boot methods or paths"),
    ("stran", "ger", "unauthenticated peer"),
    ("stran", "gers", "unauthenticated peers"),
];
/// Endings of paths that a page may name in backquotes.
const PATHS: [&str; 8] = [
    ".rs", ".md", ".yaml", ".toml", ".tolk", ".json", ".txt", ".sh",
];

/// Every breach of every page.
pub fn breaches(tree: &Tree) -> Vec<String> {
    let root = crate::tree::root();
    let exists = |path: &str| root.join(path).exists();
    let pages: Vec<_> = tree.files.iter().filter(|file| is_page(file)).collect();
    assert!(pages.len() > 15, "the pages are found");
    let anchors: BTreeSet<String> = pages
        .iter()
        .flat_map(|page| {
            headings(&page.text).map(|heading| format!("{}#{}", page.path, slug(heading)))
        })
        .collect();
    let check = |page: &&&File| {
        [
            opening(page),
            long_lines(page),
            words(page),
            links(page, &exists, &anchors),
            paths(page, &exists),
        ]
        .concat()
    };
    pages.iter().flat_map(|page| check(&page)).collect()
}

fn is_page(file: &File) -> bool {
    file.path.ends_with(".md") && (!file.path.contains('/') || file.path.starts_with("docs/"))
        || file.path == "packer/README.md"
}

/// Lines that are prose: outside fences and tables, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        let outside = !fenced && !fence && !line.trim_start().starts_with('|');
        outside.then_some((number + 1, line))
    })
}

fn headings(text: &str) -> impl Iterator<Item = &str> {
    let titles = prose(text).filter(|(_, line)| line.starts_with('#'));
    titles.map(|(_, line)| line.trim_start_matches('#').trim())
}

/// The fragment by which a heading is linked to.
fn slug(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || matches!(c, '-' | '_') => Some(c.to_ascii_lowercase()),
        _ => None,
    });
    kept.collect()
}

fn opening(page: &File) -> Vec<String> {
    let mut lines = page.text.lines().filter(|line| !line.is_empty());
    let titled = lines.next().is_some_and(|line| line.starts_with("# "));
    let first = lines.next().unwrap_or_default();
    let said = KINDS.iter().any(|kind| first.starts_with(kind));
    if titled && (said || OPEN_OTHERWISE.contains(&page.path.as_str())) {
        return Vec::new();
    }
    vec![format!(
        "{} must open with a title and a paragraph that begins like {:?}",
        page.path, KINDS[1]
    )]
}

fn long_lines(page: &File) -> Vec<String> {
    let long = prose(&page.text).filter(|(_, line)| line.chars().count() > LINE_CHARS_MAX);
    long.map(|(number, line)| {
        let chars = line.chars().count();
        format!(
            "{}:{number} has {chars} characters; {LINE_CHARS_MAX} is the most",
            page.path
        )
    })
    .collect()
}

fn words(page: &File) -> Vec<String> {
    let mut breaches = Vec::new();
    for (number, line) in page.text.lines().enumerate() {
        let line = line.to_lowercase();
        for (head, tail, instead) in WORDS {
            let word = format!("{head}{tail}");
            if count_word(&line, &word) > 0 {
                breaches.push(format!(
                    "{}:{}: for {word} say {instead}",
                    page.path,
                    number + 1
                ));
            }
        }
    }
    breaches
}

fn links(page: &File, exists: &impl Fn(&str) -> bool, anchors: &BTreeSet<String>) -> Vec<String> {
    let text: String = page.text.replace('\n', " ");
    let targets = text
        .match_indices("](")
        .filter_map(|(at, _)| Some(text[at + 2..].split_once(')')?.0));
    let local = targets.filter(|target| !target.contains("://"));
    let broken = local.filter(|target| {
        let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
        let path = match path {
            "" => page.path.clone(),
            path => beside(&page.path, path),
        };
        !exists(&path) || !fragment.is_empty() && !anchors.contains(&format!("{path}#{fragment}"))
    });
    broken
        .map(|target| format!("{} links to {target}, which is not there", page.path))
        .collect()
}

/// `target` as a path from the root, when the page at `page` names it.
fn beside(page: &str, target: &str) -> String {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Files of the repository that a page names in backquotes and that are not there.
fn paths(page: &File, exists: &impl Fn(&str) -> bool) -> Vec<String> {
    let spans = prose(&page.text).flat_map(|(_, line)| line.split('`').skip(1).step_by(2));
    let tables = page.text.lines().filter(|line| line.starts_with('|'));
    let cells = tables.flat_map(|line| line.split('`').skip(1).step_by(2));
    let is_ours = |span: &&str| {
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
        let top = span.split('/').next().unwrap_or_default();
        span.contains('/')
            && span.chars().all(plain)
            && PATHS.iter().any(|ending| span.ends_with(ending))
            && exists(top)
    };
    let missing = spans
        .chain(cells)
        .filter(is_ours)
        .filter(|span| !exists(span));
    missing
        .map(|span| format!("{} names {span}, which is not there", page.path))
        .collect()
}

#[test]
fn a_page_of_no_kind_for_nobody_is_a_breach() {
    let check = |path: &str, text: &str| {
        let (path, text) = (path.into(), text.into());
        opening(&File { path, text }).len()
    };
    assert_eq!(
        check("docs/a.md", "# A\n\n**How-to.** For cooks: soup.\n"),
        0
    );
    assert_eq!(check("docs/a.md", "# A\n\n**Reference.** Soup.\n"), 1);
    assert_eq!(check("docs/a.md", "# A\n\nSoup.\n"), 1);
    assert_eq!(check("docs/a.md", "**How-to.** For cooks: soup.\n"), 1);
    assert_eq!(check("README.md", "# A\n\nSoup.\n"), 0);
}

#[test]
fn a_long_line_and_an_old_word_are_breaches() {
    let page = |text: String| File {
        path: "docs/a.md".into(),
        text,
    };
    let long = "x".repeat(LINE_CHARS_MAX + 1);
    assert_eq!(long_lines(&page(long.clone())).len(), 1);
    assert_eq!(long_lines(&page(long[1..].into())), [""; 0]);
    assert_eq!(long_lines(&page(format!("| {long} |"))), [""; 0]);
    assert_eq!(long_lines(&page(format!("```\n{long}\n```"))), [""; 0]);
    for (head, tail, _) in WORDS {
        let text = format!("The {}{tail}.", head.to_uppercase());
        assert_eq!(words(&page(text)).len(), 1, "{head}{tail}");
    }
    assert_eq!(words(&page("newspaper, broad".into())), [""; 0]);
}

#[test]
fn a_link_or_path_to_nowhere_is_a_breach() {
    let exists = |path: &str| ["docs/a.md", "SECURITY.md", "docs"].contains(&path);
    let anchors = BTreeSet::from(["docs/a.md#one-two".to_owned()]);
    let page = |text: &str| File {
        path: "docs/a.md".into(),
        text: text.into(),
    };
    let check = |text: &str| links(&page(text), &exists, &anchors).len();
    let good = "[a](a.md) [b](../SECURITY.md) [c](#one-two) [d](a.md#one-two) [e](https://e.org/)";
    assert_eq!(check(good), 0);
    for bad in [
        "[a](b.md)",
        "[b](SECURITY.md)",
        "[c](#two)",
        "[d](a.md#)[e](a.md#x)",
    ] {
        assert_eq!(check(bad), 1, "{bad}");
    }
    let check = |text: &str| paths(&page(text), &exists).len();
    assert_eq!(check("`docs/a.md` `other/b.rs` `docs::b` `docs/b.bin`"), 0);
    assert_eq!(check("`docs/b.rs`"), 1);
    assert_eq!(check("| `docs/b.rs` |"), 1);
    assert_eq!(slug("One, two-three `x_y`"), "one-two-three-x_y");
}
