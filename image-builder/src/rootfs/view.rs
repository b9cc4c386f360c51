//! Entries looked up by path, with links followed as a kernel would that has them for its root.

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::formats::entry::{Entry, What};

/// Links followed on one path, as in Linux.
const LINKS_MAX: usize = 40;

/// A list of entries as a file system.
pub struct View<'a> {
    entries: BTreeMap<&'a str, &'a Entry>,
}

impl<'a> View<'a> {
    pub fn of(entries: &'a [Entry]) -> Self {
        let entries = entries.iter().map(|entry| (entry.path.as_str(), entry));
        Self {
            entries: entries.collect(),
        }
    }

    /// The entry at `path` itself.
    pub fn get(&self, path: &str) -> Option<&'a Entry> {
        self.entries.get(path).copied()
    }

    /// The file or directory that `path` leads to. Nothing when the way ends or goes round.
    pub fn resolve(&self, path: &str) -> Option<&'a Entry> {
        let mut todo: Vec<String> = parts(path);
        todo.reverse();
        let (mut at, mut links) = (String::new(), 0);
        while let Some(part) = todo.pop() {
            if part == ".." {
                at.truncate(at.rfind('/').unwrap_or(0));
                continue;
            }
            let next = format!("{at}/{part}");
            match &self.get(&next)?.what {
                What::Link { target, .. } => {
                    links += 1;
                    if links > LINKS_MAX {
                        return None;
                    }
                    if target.starts_with('/') {
                        at.clear();
                    }
                    todo.extend(parts(target).into_iter().rev());
                }
                _ => at = next,
            }
        }
        let entry = self.get(if at.is_empty() { "/" } else { &at })?;
        match &entry.what {
            What::SameAs { path, .. } => self.get(path),
            _ => Some(entry),
        }
    }

    /// The names in the directory at `path` (no link), sorted, with what they are.
    pub fn children(&self, path: &str) -> Vec<(&'a str, &'a Entry)> {
        let prefix = format!("{}/", path.trim_end_matches('/'));
        let below = self
            .entries
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded));
        below
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter_map(|(path, entry)| Some((path.get(prefix.len()..)?, *entry)))
            .filter(|(name, _)| !name.is_empty() && !name.contains('/'))
            .collect()
    }
}

fn parts(path: &str) -> Vec<String> {
    let parts = path.split('/').filter(|part| !matches!(*part, "" | "."));
    parts.map(String::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_inside_the_root_and_no_further() {
        let from = || "p 1".to_owned();
        let entries = [
            Entry::directory("/"),
            Entry::directory("/usr"),
            Entry::directory("/usr/lib"),
            Entry::link("/lib", "usr/lib", from()),
            Entry::memory("/usr/lib/a.so.1", 0o644, vec![], from()),
            Entry::link("/usr/lib/a.so", "a.so.1", from()),
            Entry::link("/usr/lib/up", "../../../lib/a.so", from()),
            Entry::link("/usr/lib/absolute", "/lib/a.so.1", from()),
            Entry::link("/usr/lib/round", "round", from()),
            Entry::link("/usr/lib/gone", "nothing", from()),
        ];
        let view = View::of(&entries);
        let check = |path: &str, expected: Option<&str>| {
            let found = view.resolve(path).map(|entry| entry.path.as_str());
            assert_eq!(found, expected, "{path}");
        };
        let library = Some("/usr/lib/a.so.1");
        check("/lib/a.so", library);
        check("/usr/lib/up", library);
        check("/lib/absolute", library);
        check("/lib", Some("/usr/lib"));
        check("/", Some("/"));
        check("/..", Some("/"));
        for nothing in [
            "/usr/lib/round",
            "/usr/lib/gone",
            "/none/a",
            "/usr/lib/a.so.1/x",
        ] {
            check(nothing, None);
        }
        let names: Vec<_> = view
            .children("/usr/lib")
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(names, ["a.so", "a.so.1", "absolute", "gone", "round", "up"]);
    }
}
