//! A `Packages` index: what a suite has, as far as we need it.
//!
//! Promises that an [`Index`] has only well-formed names, versions and digests, paths below `pool/`, and sizes within
//! [`crate::limits`]. A paragraph that breaks this is passed over and kept in mind ([`Odd`]): whoever needs its package is refused, and
//! is told the line, the package and the field; nobody else is. Dependencies stay text until a solver asks for them: seventy thousand
//! packages are listed and some hundred are looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use super::relation::{Relation, is_architecture};
use super::version::Version;
use super::{is_package_name, relation};
use crate::error::{Error, error};
use crate::formats::compression::xz;
use crate::formats::metered::{Limited, TooLong};
use crate::limits::{
    FILE_BYTES_MAX, INDEX_FIELD_BYTES_MAX, INDEX_LINE_BYTES_MAX, INDEX_ODD_MAX, INDEX_PACKAGES_MAX,
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
    /// What it needs before anything else, then what it needs at all; each group by one of its alternatives.
    pub fn needs(&self) -> Result<Vec<Vec<Relation>>, Error> {
        let read = |at: usize, text: &str| {
            relation::parse_field(text).ok_or_else(|| {
                let (package, field) = (&self.name, FIELDS[at]);
                let value = short(relation::first_malformed(text));
                error!(
                    Mirror,
                    "the dependencies of {package} are malformed: {field} has `{value}`"
                )
            })
        };
        let [first, then] = &self.needs;
        let mut groups = read(PRE_DEPENDS, first)?;
        groups.extend(read(PRE_DEPENDS + 1, then)?);
        Ok(groups)
    }

    /// Names that it stands in for.
    pub fn provides(&self) -> &[(String, Option<Version>)] {
        &self.provides
    }

    /// Whether something odd of the same name is of a suite that is preferred to this one's, or as much.
    pub(super) fn is_behind(&self, odd: &Odd) -> bool {
        odd.rank <= self.rank
    }
}

/// A paragraph of which nothing was taken, or a name in `Provides` that provides nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Odd {
    suite: Arc<str>,
    line: usize,
    /// If it has a name that a package can have.
    package: Option<String>,
    problem: String,
    rank: usize,
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the index ")?;
        if !self.suite.is_empty() {
            write!(f, "of {} ", self.suite)?;
        }
        write!(f, "has, in the paragraph at line {}", self.line)?;
        if let Some(package) = &self.package {
            write!(f, " (package {package})")?;
        }
        write!(f, ", {}", self.problem)
    }
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
    /// Paragraphs that were passed over, in their order.
    odd: Vec<Odd>,
    /// What some `Provides` say that provides nothing, by the beginning of a name.
    ignored: Vec<(String, Odd)>,
}

impl Index {
    /// What is added from now on is of `suite`, which is less preferred than those before.
    pub fn begin_suite(&mut self, suite: &str) {
        self.suites.push(suite.into());
    }

    /// Adds another component's index.
    pub fn add_xz(&mut self, compressed: impl Read) -> Result<(), Error> {
        self.add(xz(compressed, XZ_MEMORY_KIB_MAX))
    }

    /// Reads an index that is plain text.
    pub fn read(text: impl Read) -> Result<Self, Error> {
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

    /// Paragraphs that were passed over, in their order.
    pub fn odd(&self) -> &[Odd] {
        &self.odd
    }

    /// What was passed over that is called so.
    pub(super) fn odd_of(&self, name: &str) -> impl Iterator<Item = &Odd> {
        let mut odd = self.odd.iter();
        std::iter::from_fn(move || odd.find(|odd| odd.package.as_deref() == Some(name)))
    }

    /// What was passed over and may be why nothing is called so, or provides that name.
    pub(super) fn blame(&self, name: &str) -> Option<&Odd> {
        let mut ignored = self.ignored.iter();
        let ignored = || ignored.find(|(item, _)| item == name).map(|(_, odd)| odd);
        let nameless = || self.odd.iter().find(|odd| odd.package.is_none());
        self.odd_of(name).next().or_else(ignored).or_else(nameless)
    }

    pub(super) fn add(&mut self, text: impl Read) -> Result<(), Error> {
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
            // One with the line ends of Windows is read as well.
            for end in [b'\n', b'\r'] {
                if line.last() == Some(&end) {
                    line.pop();
                }
            }
            if !line.is_empty() {
                paragraph.take(&line, number);
                continue;
            }
            if !paragraph.is_empty() {
                seen += 1;
                if seen > INDEX_PACKAGES_MAX {
                    return Err(too_much("packages", INDEX_PACKAGES_MAX));
                }
                self.finish(std::mem::take(&mut paragraph))?;
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

    /// Takes what a paragraph says, or keeps in mind that it says nothing that can be used.
    fn finish(&mut self, paragraph: Paragraph) -> Result<(), Error> {
        let (suite, rank) = (
            self.suites.last().cloned(),
            self.suites.len().saturating_sub(1),
        );
        let suite = suite.unwrap_or_default();
        let name = paragraph.values[0]
            .clone()
            .filter(|name| is_package_name(name));
        let odd = |line, problem| Odd {
            suite: Arc::clone(&suite),
            line,
            package: name.clone(),
            problem,
            rank,
        };
        let line = paragraph.line;
        match paragraph.finish() {
            Ok(None) => {}
            Ok(Some((mut package, ignored))) => {
                package.suite = Arc::clone(&suite);
                package.rank = rank;
                let room = INDEX_ODD_MAX.saturating_sub(self.ignored.len());
                for item in ignored.into_iter().take(room) {
                    let end = item.find(|c: char| !c.is_ascii_graphic() || "(|<[:".contains(c));
                    let name = item[..end.unwrap_or(item.len())].to_owned();
                    self.ignored
                        .push((name, odd(line, format!("Provides: {}", short(&item)))));
                }
                self.insert(package)?;
            }
            Err(problem) => {
                self.odd.push(odd(line, problem));
                if self.odd.len() > INDEX_ODD_MAX {
                    let first = self.odd.swap_remove(0);
                    return Err(error!(
                        Mirror,
                        "more than {INDEX_ODD_MAX} paragraphs of the index cannot be read; {first}"
                    ));
                }
            }
        }
        Ok(())
    }

    fn insert(&mut self, package: Available) -> Result<(), Error> {
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

fn is_short(at: usize, value: String) -> Result<String, String> {
    match value.len() <= INDEX_FIELD_BYTES_MAX {
        true => Ok(value),
        false => Err(format!(
            "{}: a field of more than {INDEX_FIELD_BYTES_MAX} bytes",
            FIELDS[at]
        )),
    }
}

fn short(value: &str) -> String {
    value.chars().take(80).collect()
}

/// The fields that we keep, in the order of [`FIELDS`], as they come in.
#[derive(Default)]
struct Paragraph {
    values: [Option<String>; FIELDS.len()],
    /// Its first line; none yet at 0.
    line: usize,
    /// The field that a continuation line belongs to.
    open: Option<usize>,
    /// What was wrong first.
    problem: Option<String>,
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
const PRE_DEPENDS: usize = 6;

impl Paragraph {
    fn is_empty(&self) -> bool {
        self.line == 0
    }

    fn take(&mut self, line: &[u8], number: usize) {
        if let Err(problem) = self.read(line, number) {
            self.problem.get_or_insert(problem);
        }
    }

    /// One line that is not empty: `Name: value`, or a continuation that begins with a space or tab (Debian Policy 5.1). "Field names
    /// are not case-sensitive."
    fn read(&mut self, line: &[u8], number: usize) -> Result<(), String> {
        let first = self.is_empty();
        if first {
            self.line = number;
        }
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if first {
                return Err("a continuation of nothing".into());
            }
            // A dependency that goes on in a second line must not be half read.
            if let Some(at) = self.open
                && let Some(mut value) = self.values[at].take()
            {
                value.push(' ');
                value.push_str(text(at, line)?.trim());
                self.values[at] = Some(is_short(at, value)?);
            }
            return Ok(());
        }
        let colon = line.iter().position(|b| *b == b':');
        let Some(colon) = colon else {
            self.open = None;
            let line = short(&String::from_utf8_lossy(line));
            return Err(format!("a line that is no field: {line}"));
        };
        let (name, value) = line.split_at(colon);
        let of_name = |field: &&str| field.as_bytes().eq_ignore_ascii_case(name);
        self.open = FIELDS.iter().position(of_name);
        if let Some(at) = self.open {
            let value = is_short(at, text(at, &value[1..])?.trim().to_owned())?;
            if self.values[at].replace(value).is_some() {
                return Err(format!("two fields {}", FIELDS[at]));
            }
        }
        Ok(())
    }

    /// The package, and what its `Provides` says that provides nothing; none if it is for another architecture.
    fn finish(self) -> Result<Option<(Available, Vec<String>)>, String> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
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
            Some(value) => Err(format!("{}: {}", FIELDS[at], short(&value))),
            None => Err(format!("no {}", FIELDS[at])),
        };
        let architecture = check(2, architecture, is_architecture)?;
        if !matches!(architecture.as_str(), "amd64" | "all") {
            return Ok(None);
        }
        let name = check(0, name, is_package_name)?;
        let version = check(1, version, |text| Version::parse(text).is_some())?;
        let bytes = check(4, bytes, |text| {
            let size = text.parse::<u64>();
            size.is_ok_and(|size| (1..=FILE_BYTES_MAX).contains(&size))
        })?;
        let sha256 = check(5, sha256, |text| text.parse::<Digest32>().is_ok())?;
        let provides = relation::parse_provides(&provides.unwrap_or_default());
        let provides = provides.ok_or("Provides: too many names")?;
        let package = Available {
            name,
            suite: Arc::default(),
            version: Version::parse(&version).ok_or("no Version")?,
            architecture,
            path: check(3, path, is_pool_path)?,
            bytes: bytes.parse().map_err(|_| "no Size".to_owned())?,
            sha256: sha256.parse().map_err(|_| "no SHA256")?,
            needs: [pre_depends, depends].map(Option::unwrap_or_default),
            provides: provides.names,
            rank: 0,
        };
        Ok(Some((package, provides.ignored)))
    }
}

/// Whether `path` is one of a mirror's pool: plain components and nothing that climbs.
pub fn is_pool_path(path: &str) -> bool {
    // Versions have `+` and `~` in them, and `%3a` for the colon.
    let part = |part: &str| is_plain_name(&part.replace(['+', '~', '%'], "_"));
    path.starts_with("pool/") && path.len() <= PATH_BYTES_MAX && path.split('/').all(part)
}

fn text(at: usize, bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| format!("{}: a field that is not UTF-8", FIELDS[at]))
}

fn too_much(what: &str, max: usize) -> Error {
    error!(Mirror, "the index has more than {max} {what}")
}

fn broken(error: std::io::Error) -> Error {
    match TooLong::is(&error) {
        true => too_much("bytes unpacked", INDEX_UNPACKED_BYTES_MAX as usize),
        false => error!(Mirror, "the index cannot be unpacked: {error}"),
    }
}

#[cfg(test)]
mod tests;
