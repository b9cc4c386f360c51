//! Inputs that no closure brings, and files of them that go into the root.

use serde::Deserialize;

use super::Choice;
use super::form::{Form, NAME, URL, is_plain_path};
use crate::error::cut;
use crate::limits::{FILE_BYTES_MAX, NAME_BYTES_MAX};
use crate::lock::is_plain_name;
use registers::Digest32;

/// Something that is locked beside Debian's packages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Line")]
pub struct Input {
    /// What the recipe calls it.
    pub name: String,
    /// What it is.
    pub source: Source,
}

/// Where an input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A wheel of a project on PyPI.
    Pypi {
        /// The project.
        project: String,
        /// Its exact version.
        version: String,
        /// Which of the version's wheels; none when it has only one that runs here.
        file: Option<String>,
    },
    /// A file on the web. Its digest is in the recipe: nobody signs a URL.
    Url {
        /// Where.
        url: String,
        /// Its exact size.
        bytes: u64,
        /// Its digest.
        sha256: Digest32,
    },
    /// A Debian package that is taken alone: neither what it depends on nor anything that its scripts would do comes along.
    Deb {
        /// Which.
        package: Choice,
    },
    /// A file or directory beside the recipe.
    Path {
        /// Where, relative to the recipe's directory.
        path: String,
    },
}

/// A file of an input that goes into the root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootFile {
    /// Which input.
    pub input: String,
    /// Its path there.
    pub from: String,
    /// Its path in the root.
    pub to: String,
}

/// An input as it is written: one of `pypi`, `url`, `deb` and `path` says which kind it is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    name: String,
    pypi: Option<String>,
    deb: Option<Choice>,
    version: Option<String>,
    file: Option<String>,
    url: Option<String>,
    bytes: Option<u64>,
    sha256: Option<Digest32>,
    path: Option<String>,
}

impl TryFrom<Line> for Input {
    type Error = String;

    fn try_from(line: Line) -> Result<Self, String> {
        let name = line.name;
        let check = |key: &str, value: String, (form, holds): Form| match holds(&value) {
            true => Ok(value),
            false => Err(format!(
                "the {key} of an input is `{}`, which is not {form}",
                cut(&value)
            )),
        };
        let name = check("name", name, NAME)?;
        let alone = line.version.is_none()
            && line.file.is_none()
            && line.bytes.is_none()
            && line.sha256.is_none();
        let source = match (line.pypi, line.url, line.deb, line.path) {
            (None, None, Some(package), None) if alone => Source::Deb { package },
            (Some(project), None, None, None) if line.bytes.is_none() && line.sha256.is_none() => {
                let version = line.version;
                let version = version.ok_or(format!("the input {name} has no version"))?;
                let file = line.file.map(|file| check("file", file, WHEEL));
                Source::Pypi {
                    project: check("pypi", project, PROJECT)?,
                    version: check("version", version, PYTHON_VERSION)?,
                    file: file.transpose()?,
                }
            }
            (None, Some(url), None, None) if line.version.is_none() && line.file.is_none() => {
                let (Some(bytes), Some(sha256)) = (line.bytes, line.sha256) else {
                    return Err(format!(
                        "the input {name} has a url and lacks bytes or sha256"
                    ));
                };
                if !(1..=FILE_BYTES_MAX).contains(&bytes) {
                    return Err(format!(
                        "the input {name} has {bytes} bytes; sizes are from 1 to {FILE_BYTES_MAX}"
                    ));
                }
                Source::Url {
                    url: check("url", url, FILE_URL)?,
                    bytes,
                    sha256,
                }
            }
            (None, None, None, Some(path)) if alone => Source::Path {
                path: check("path", path, super::FILE)?,
            },
            _ => {
                return Err(format!(
                    "the input {name} is none of: pypi with version and perhaps file; url with bytes and sha256; deb; path"
                ));
            }
        };
        Ok(Self { name, source })
    }
}

/// The name that a project goes by: PyPI takes `A_b.c` and `a-b-c` for the same ("Names and normalization" of the packaging
/// specifications).
pub(crate) fn normalised(project: &str) -> String {
    let mut name = String::new();
    for c in project.chars() {
        match c {
            '-' | '_' | '.' if name.ends_with('-') => {}
            '-' | '_' | '.' => name.push('-'),
            c => name.push(c.to_ascii_lowercase()),
        }
    }
    name
}

/// Whether a wheel's file name is of this project and version ("Binary distribution format" of the packaging specifications:
/// `project-version[-build]-python-abi-platform.whl`).
pub(crate) fn is_wheel_of(file: &str, project: &str, version: &str) -> bool {
    let Some(stem) = file.strip_suffix(".whl") else {
        return false;
    };
    let parts: Vec<_> = stem.split('-').collect();
    (5..=6).contains(&parts.len())
        && normalised(parts[0]) == normalised(project)
        && parts[1] == version
}

const PROJECT: Form = ("the name of a project on PyPI", |text| {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_plain_name(text) && end(text.chars().next()) && end(text.chars().last())
});
const PYTHON_VERSION: Form = ("one exact version", |text| {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'!' | b'+' | b'_');
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
});
const WHEEL: Form = ("the file name of a wheel", |text| {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+' | b'_');
    text.len() <= NAME_BYTES_MAX
        && text.ends_with(".whl")
        && text.bytes().all(plain)
        && !text.starts_with('.')
});
const FILE_URL: Form = ("an http or https URL of a file with a plain name", |text| {
    (URL.1)(text) && file_of(text).is_some()
});

/// The last part of a URL's path.
pub(crate) fn file_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let (_, path) = rest.split_once('/')?;
    let file = path.rsplit('/').next()?;
    (is_plain_path(file) && !url.ends_with('/')).then_some(file)
}
