//! Debian's archive in a recipe: mirrors, suites, whose signatures stand for them, and packages by name.

use std::fmt;

use serde::Deserialize;

use super::form::{FILE, NAME, URL, bad, many, one, unique};
use crate::error::{Error, cut};
use crate::lock::debian::is_package_name;
use crate::lock::{base_url, is_plain_name};

/// A Debian archive.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Debian {
    /// Its base URL.
    pub mirror: String,
    /// The base URL of an archive of all that Debian ever had, by time, for packages that every mirror has dropped.
    pub snapshot: Option<String>,
    /// Its suites, the preferred ones first.
    pub suites: Vec<Suite>,
}

/// One suite.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// `trixie`, or `trixie-backports`.
    pub name: String,
    /// `main` and the like.
    pub components: Vec<String>,
    /// Who may sign its `InRelease`: one good signature by any of them is enough.
    pub keys: Vec<Key>,
}

/// An OpenPGP certificate that may sign a suite.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Its file, in ASCII armour, relative to the recipe's directory.
    pub file: String,
    /// Its fingerprint: what is believed. A file with another certificate is refused.
    pub fingerprint: Fingerprint,
}

/// The fingerprint of an OpenPGP certificate of version 4; 40 hex digits as text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Fingerprint(pub [u8; 20]);

/// A package by name, as a recipe asks for it: `linux-image-cloud-amd64`, or `linux-image-cloud-amd64/trixie-backports`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Choice {
    /// The package.
    pub name: String,
    /// The suite that it is taken from; without one, the first of the recipe that has the name.
    pub suite: Option<String>,
}

impl Debian {
    /// The suite called `name`.
    pub fn suite(&self, name: &str) -> Option<&Suite> {
        self.suites.iter().find(|suite| suite.name == name)
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        one("debian.mirror", &self.mirror, URL)?;
        if let Some(snapshot) = &self.snapshot {
            one("debian.snapshot", snapshot, URL)?;
        }
        unique(
            "debian.suites",
            1,
            self.suites.iter().map(|suite| &*suite.name),
        )?;
        self.suites.iter().try_for_each(Suite::check)
    }

    /// One form for one URL: without a slash at its end.
    pub(super) fn settle(&mut self) {
        for url in [Some(&mut self.mirror), self.snapshot.as_mut()] {
            if let Some(url) = url
                && let Some(base) = base_url(url)
            {
                *url = base.to_owned();
            }
        }
    }

    pub(super) fn has_suite_of(&self, key: &str, choice: &Choice) -> Result<(), Error> {
        match &choice.suite {
            Some(suite) if self.suite(suite).is_none() => {
                let form = "a package of a suite among debian.suites";
                Err(bad(key, &choice.to_string(), form))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn choices(&self, key: &str, choices: &[Choice]) -> Result<(), Error> {
        unique(key, 0, choices.iter().map(|choice| &*choice.name))?;
        let mut choices = choices.iter();
        choices.try_for_each(|choice| self.has_suite_of(key, choice))
    }
}

impl Suite {
    fn check(&self) -> Result<(), Error> {
        one("debian.suites' name", &self.name, NAME)?;
        many("debian.suites' components", &self.components, 1, NAME)?;
        for key in &self.keys {
            one("debian.suites' keys' file", &key.file, FILE)?;
        }
        let prints: Vec<_> = self.keys.iter().map(|key| key.fingerprint).collect();
        let prints: Vec<_> = prints.iter().map(Fingerprint::to_string).collect();
        unique("debian.suites' keys", 1, prints.iter().map(String::as_str))
    }
}

impl TryFrom<String> for Choice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (name, suite) = match text.split_once('/') {
            Some((name, suite)) => (name, Some(suite)),
            None => (text.as_str(), None),
        };
        if !is_package_name(name) || !suite.is_none_or(is_plain_name) {
            let text = cut(&text);
            return Err(format!(
                "`{text}` is not the name of a Debian package, with or without /SUITE"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            suite: suite.map(str::to_owned),
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match &self.suite {
            Some(suite) => write!(f, "/{suite}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let mut bytes = [0; 20];
        let decoded = hex::decode_to_slice(&text, &mut bytes);
        decoded.map_err(|_| {
            let text = cut(&text);
            format!("`{text}` is not the fingerprint of an OpenPGP key, which has 40 hex digits")
        })?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode_upper(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}
