//! A `Packages` index: what a suite has, as far as we need it.
//!
//! Promises that an [`Index`] has only well-formed names, versions and digests, paths below `pool/`, and sizes within
//! [`crate::limits`]; a paragraph that breaks this makes the whole index an error, with its line. Dependencies stay text until a
//! solver asks for them: seventy thousand packages are listed and some hundred are looked at.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use lzma_rust2::XzReader;

use super::relation::Relation;
use super::version::Version;
use super::{is_package_name, relation};
use crate::formats::metered::{Limited, TooLong};
use crate::limits::{
    FILE_BYTES_MAX, INDEX_FIELD_BYTES_MAX, INDEX_LINE_BYTES_MAX, INDEX_PACKAGES_MAX,
    INDEX_PROVIDES_MAX, INDEX_UNPACKED_BYTES_MAX, PATH_BYTES_MAX, XZ_MEMORY_KIB_MAX,
};
use crate::lock::is_plain_name;
use registers::Digest32;

/// One package that a suite offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Available {
    /// Its name.
    pub name: String,
    /// The suite that has it.
    pub suite: Arc<str>,
    /// Its version.
    pub version: Version,
    /// `amd64` or `all`.
    pub architecture: String,
    /// Where it lies below the mirror's base URL.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
    /// `Pre-Depends` and `Depends`, as text.
    needs: [String; 2],
    provides: Vec<(String, Option<Version>)>,
    /// Which suite it is of, counted in the order of preference.
    rank: usize,
}

impl Available {
    /// What it needs before anything else, then what it needs at all; each group by one of its alternatives. `None` when a
    /// field is malformed.
    pub fn needs(&self) -> Option<Vec<Vec<Relation>>> {
        let [first, then] = &self.needs;
        let mut groups = relation::parse_field(first)?;
        groups.extend(relation::parse_field(then)?);
        Some(groups)
    }

    /// Names that it stands in for.
    pub fn provides(&self) -> &[(String, Option<Version>)] {
        &self.provides
    }
}

/// Why an index cannot be used. Always the fault of whoever serves it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum IndexError {
    #[error("the index cannot be unpacked: {0}")]
    Broken(String),
    #[error("the index has more than {max} {what}")]
    TooMuch { what: &'static str, max: u64 },
    #[error("the index has, in the paragraph at line {line}, {problem}")]
    Paragraph { line: usize, problem: String },
}

/// All packages of some suites' components.
#[derive(Debug, Default)]
pub struct Index {
    /// Suites so far, the preferred ones first.
    suites: Vec<Arc<str>>,
    /// By name; then the less preferred suites first, and of each suite the earliest version first.
    packages: BTreeMap<String, Vec<Available>>,
    /// From a provided name to who provides it.
    providers: BTreeMap<String, Vec<String>>,
    /// Names provided, counted each time.
    provided: usize,
}

impl Index {
    /// Reads an xz-compressed index.
    pub fn read_xz(compressed: impl Read) -> Result<Self, IndexError> {
        let mut index = Self::default();
        index.add_xz(compressed)?;
        Ok(index)
    }

    /// What is added from now on is of `suite`, which is less preferred than those before.
    pub fn begin_suite(&mut self, suite: &str) {
        self.suites.push(suite.into());
    }

    /// Adds another component's index.
    pub fn add_xz(&mut self, compressed: impl Read) -> Result<(), IndexError> {
        let text = XzReader::new_mem_limit(compressed, true, XZ_MEMORY_KIB_MAX);
        self.add(text)
    }

    /// Reads an index that is plain text.
    pub fn read(text: impl Read) -> Result<Self, IndexError> {
        let mut index = Self::default();
        index.add(text)?;
        Ok(index)
    }

    /// The versions of the real package `name`: the last is the latest of the first suite that has the name, the one to take.
    pub fn versions(&self, name: &str) -> &[Available] {
        self.packages.get(name).map_or(&[], Vec::as_slice)
    }

    /// Suites that were begun, the preferred ones first.
    pub fn suites(&self) -> &[Arc<str>] {
        &self.suites
    }

    /// Names of packages with a version that provides `name`, in alphabetical order.
    pub fn providers(&self, name: &str) -> &[String] {
        self.providers.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn add(&mut self, text: impl Read) -> Result<(), IndexError> {
        let text = Limited::new(text, INDEX_UNPACKED_BYTES_MAX);
        let mut lines = BufReader::with_capacity(1 << 16, text);
        let (mut line, mut number, mut seen) = (Vec::new(), 0, 0);
        let mut paragraph = Paragraph::default();
        loop {
            line.clear();
            let mut limited = (&mut lines).take(INDEX_LINE_BYTES_MAX as u64 + 1);
            let got = limited.read_until(b'\n', &mut line).map_err(broken)?;
            number += 1;
            if line.len() > INDEX_LINE_BYTES_MAX {
                return Err(too_much("bytes in a line", INDEX_LINE_BYTES_MAX));
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if !line.is_empty() {
                paragraph.take(&line).map_err(at(number))?;
                continue;
            }
            if !paragraph.is_empty() {
                seen += 1;
                if seen > INDEX_PACKAGES_MAX {
                    return Err(too_much("packages", INDEX_PACKAGES_MAX));
                }
                let package = std::mem::take(&mut paragraph).finish();
                let mut package = package.map_err(at(number))?;
                if let Some(suite) = self.suites.last() {
                    package.suite = Arc::clone(suite);
                    package.rank = self.suites.len() - 1;
                }
                self.insert(package)?;
            }
            if got == 0 {
                break;
            }
        }
        for versions in self.packages.values_mut() {
            versions.sort_by(|a, b| b.rank.cmp(&a.rank).then(a.version.cmp(&b.version)));
        }
        for names in self.providers.values_mut() {
            names.sort();
            names.dedup();
        }
        Ok(())
    }

    fn insert(&mut self, package: Available) -> Result<(), IndexError> {
        self.provided += package.provides.len();
        if self.provided > INDEX_PROVIDES_MAX {
            return Err(too_much("provided names", INDEX_PROVIDES_MAX));
        }
        for (name, _) in &package.provides {
            let providers = self.providers.entry(name.clone()).or_default();
            providers.push(package.name.clone());
        }
        let versions = self.packages.entry(package.name.clone()).or_default();
        versions.push(package);
        Ok(())
    }
}

fn is_short(value: &str) -> Result<(), String> {
    match value.len() <= INDEX_FIELD_BYTES_MAX {
        true => Ok(()),
        false => Err(format!(
            "a field of more than {INDEX_FIELD_BYTES_MAX} bytes"
        )),
    }
}

/// The fields that we keep, in the order of [`FIELDS`], as they come in.
#[derive(Default)]
struct Paragraph {
    values: [Option<String>; FIELDS.len()],
    started: bool,
    /// The field that a continuation line belongs to.
    open: Option<usize>,
}

const FIELDS: [&str; 9] = [
    "Package",
    "Version",
    "Architecture",
    "Filename",
    "Size",
    "SHA256",
    "Pre-Depends",
    "Depends",
    "Provides",
];

impl Paragraph {
    fn is_empty(&self) -> bool {
        !self.started
    }

    /// One line that is not empty: `Name: value`, or a continuation that begins with a space or tab (Debian Policy 5.1).
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let first = !std::mem::replace(&mut self.started, true);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if first {
                return Err("a continuation of nothing".into());
            }
            // A dependency that goes on in a second line must not be half read.
            if let Some(value) = self.open.and_then(|at| self.values[at].as_mut()) {
                value.push(' ');
                value.push_str(text(line)?.trim());
                return is_short(value);
            }
            return Ok(());
        }
        let colon = line.iter().position(|b| *b == b':');
        let (name, value) = line.split_at(colon.ok_or("a line that is no field")?);
        self.open = FIELDS.iter().position(|field| field.as_bytes() == name);
        if let Some(at) = self.open {
            let value = text(&value[1..])?.trim().to_owned();
            is_short(&value)?;
            if self.values[at].replace(value).is_some() {
                return Err(format!("two fields {}", FIELDS[at]));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Available, String> {
        let [
            name,
            version,
            architecture,
            path,
            bytes,
            sha256,
            pre_depends,
            depends,
            provides,
        ] = self.values;
        let check = |at: usize, value: Option<String>, good: fn(&str) -> bool| match value {
            Some(value) if good(&value) => Ok(value),
            Some(value) => Err(format!(
                "{}: {}",
                FIELDS[at],
                value.chars().take(80).collect::<String>()
            )),
            None => Err(format!("no {}", FIELDS[at])),
        };
        let version = check(1, version, |text| Version::parse(text).is_some())?;
        let bytes = check(4, bytes, |text| {
            let size = text.parse::<u64>();
            size.is_ok_and(|size| (1..=FILE_BYTES_MAX).contains(&size))
        })?;
        let sha256 = check(5, sha256, |text| text.parse::<Digest32>().is_ok())?;
        let provides = provides.unwrap_or_default();
        Ok(Available {
            name: check(0, name, is_package_name)?,
            suite: Arc::default(),
            version: Version::parse(&version).ok_or("no Version")?,
            architecture: check(2, architecture, |text| matches!(text, "amd64" | "all"))?,
            path: check(3, path, is_pool_path)?,
            bytes: bytes.parse().map_err(|_| "no Size".to_owned())?,
            sha256: sha256.parse().map_err(|_| "no SHA256")?,
            needs: [pre_depends, depends].map(Option::unwrap_or_default),
            provides: relation::parse_provides(&provides)
                .ok_or_else(|| "a malformed Provides".to_owned())?,
            rank: 0,
        })
    }
}

/// Whether `path` is one of a mirror's pool: plain components and nothing that climbs.
pub fn is_pool_path(path: &str) -> bool {
    // Versions have `+` and `~` in them, and `%3a` for the colon.
    let part = |part: &str| is_plain_name(&part.replace(['+', '~', '%'], "_"));
    path.starts_with("pool/") && path.len() <= PATH_BYTES_MAX && path.split('/').all(part)
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "a field that is not UTF-8".into())
}

fn at(line: usize) -> impl Fn(String) -> IndexError {
    move |problem| IndexError::Paragraph { line, problem }
}

fn too_much(what: &'static str, max: usize) -> IndexError {
    let max = max as u64;
    IndexError::TooMuch { what, max }
}

fn broken(error: std::io::Error) -> IndexError {
    if TooLong::is(&error) {
        return too_much("bytes unpacked", INDEX_UNPACKED_BYTES_MAX as usize);
    }
    IndexError::Broken(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::RELATIONS_MAX;

    fn paragraph(name: &str) -> String {
        format!(
            "Package: {name}\nVersion: 1:2-3\nArchitecture: all\nDepends: a1,\n b2 | c3\nProvides: v1 (= 4), v2\n\
             Description: x\n long\nFilename: pool/main/a/{name}_2-3_all.deb\nSize: 7\nSHA256: {}\n",
            "1".repeat(64)
        )
    }

    #[test]
    fn a_paragraph_is_read_with_its_continued_lines() {
        let index = Index::read(format!("\n{}\n\n{}", paragraph("p2"), paragraph("p1")).as_bytes());
        let index = index.expect("well formed");
        let package = &index.versions("p1")[0];
        assert_eq!(package.version.as_str(), "1:2-3");
        let needs = package.needs().expect("well formed");
        assert_eq!(needs.len(), 2);
        assert_eq!(needs[1][1].name, "c3");
        assert_eq!(index.providers("v1"), ["p1", "p2"]);
        assert!(index.versions("v1").is_empty());
    }

    #[test]
    fn a_malformed_paragraph_is_refused_with_its_line() {
        let whole = paragraph("p1");
        // One field in many lines, each of them short.
        let many_lines = format!("Depends: {}", "a1,\n ".repeat(INDEX_FIELD_BYTES_MAX / 4));
        for (from, to, expected) in [
            ("Package: p1", "Package: P1", "Package: P1"),
            ("Package: p1\n", "", "no Package"),
            ("Version: 1:2-3", "Version: x:2", "Version: x:2"),
            ("Architecture: all", "Architecture: arm64", "Architecture"),
            ("pool/main", "../main", "Filename"),
            ("pool/main", "pool/../main", "Filename"),
            ("pool/main", "pool//main", "Filename"),
            ("Size: 7", "Size: 0", "Size: 0"),
            ("Size: 7", "Size: 99999999999999999999", "Size: 9"),
            ("Size: 7", "Size: 7\nSize: 8", "two fields Size"),
            ("SHA256: 11", "SHA256: g1", "SHA256"),
            ("Provides: v1 (= 4)", "Provides: v1 (>= 4)", "Provides"),
            ("Description: x", "Description", "no field"),
            ("Package: p1", " Package: p1", "continuation of nothing"),
            ("Depends: a1,", &many_lines, "a field of more than"),
            (
                "Provides: v1",
                &format!("Provides: {}v1", "v3, ".repeat(RELATIONS_MAX)),
                "Provides",
            ),
        ] {
            assert!(whole.contains(from), "the case needs `{from}`");
            let error = Index::read(whole.replacen(from, to, 1).as_bytes()).expect_err(to);
            assert!(error.to_string().contains(expected), "{to}: {error}");
            assert!(
                error.to_string().contains("paragraph at line "),
                "{to}: {error}"
            );
        }
    }

    #[test]
    fn an_index_with_any_byte_changed_is_an_error_or_an_index() {
        let whole = format!("{}\n{}", paragraph("p1"), paragraph("p2")).into_bytes();
        for at in 0..whole.len() {
            for bit in [1, 0x10, 0x80] {
                let mut bytes = whole.clone();
                bytes[at] ^= bit;
                if let Ok(index) = Index::read(&bytes[..]) {
                    for package in index.packages.values().flatten() {
                        let _ = package.needs();
                    }
                }
            }
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let endless = std::io::repeat(b'a');
        assert_eq!(
            Index::read(endless).expect_err("endless"),
            too_much("bytes in a line", INDEX_LINE_BYTES_MAX)
        );
    }

    #[test]
    fn an_endless_index_is_refused() {
        let line = format!("Tag: {}\n", "a".repeat(INDEX_LINE_BYTES_MAX - 10));
        let lines = INDEX_UNPACKED_BYTES_MAX as usize / line.len() + 2;
        let endless = (0..lines).fold(Box::new(std::io::empty()) as Box<dyn Read>, |before, _| {
            Box::new(before.chain(line.as_bytes()))
        });
        assert_eq!(
            Index::read(endless).expect_err("endless"),
            too_much("bytes unpacked", INDEX_UNPACKED_BYTES_MAX as usize)
        );
    }
}
