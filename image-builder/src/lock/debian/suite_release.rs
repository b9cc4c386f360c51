//! `InRelease`: the list of a suite's indexes with their sizes and digests.
//!
//! Trusts who signed it, which is one of the keys that a recipe pins ([`super::signature`]), about which packages the suite has.
//! Promises that a [`Release`] comes from the signed text and from nothing beside it, names its suite, has a date that is not in
//! the future and no end that is past. A mirror can still show an older one that was good in its time, where the archive gives
//! its suites no end (`Valid-Until`), as Debian's stable suites have none; [`Release::refuse_older`] is against that.

use super::certificate::Certificate;
use super::date::Date;
use super::signature::{SignatureError, Signed};
use crate::limits::CLOCK_SKEW_S_MAX;
use crate::lock::recipe::Fingerprint;
use registers::Digest32;

/// What we read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Of the file as it was served.
    pub sha256: Digest32,
    /// The pinned key that signed it.
    pub signed_by: Fingerprint,
    /// The suite's date, as Debian writes it.
    pub date: String,
    /// The same.
    pub dated: Date,
    suites: [Option<String>; 2],
    valid_until: Option<Date>,
    by_hash: bool,
    listed: Vec<(String, Listed)>,
}

/// One index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest32,
}

/// Why a file does not tell what a suite has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum ReleaseError {
    #[error(transparent)]
    Signature(#[from] SignatureError),
    #[error("{0}")]
    Malformed(String),
    #[error("is about {got} and not about {expected}")]
    OtherSuite { got: String, expected: String },
    #[error(
        "was valid until {until}, and it is {now}: this mirror is behind, or shows what is past"
    )]
    Expired { until: Date, now: Date },
    #[error("has the date {date}, which is in the future; it is {now}")]
    Future { date: Date, now: Date },
    #[error(
        "is of {date}, older than the lock's of {locked}: this mirror is behind, or shows what is past"
    )]
    Older { date: Date, locked: Date },
}

impl Release {
    /// Reads a file of which the caller has bounded the length: verifies its signature with `keys`, and holds its dates against
    /// `now`.
    pub fn read(bytes: &[u8], keys: &[Certificate], now: Date) -> Result<Self, ReleaseError> {
        let signed = Signed::verify(bytes, keys, now)?;
        let mut release = Self::insecure_from_text(signed.text())?;
        release.sha256 = Digest32::of(bytes);
        release.signed_by = signed.by();
        let date = release.dated;
        if date.unix_s > now.unix_s + CLOCK_SKEW_S_MAX {
            return Err(ReleaseError::Future { date, now });
        }
        match release.valid_until {
            Some(until) if until < now => Err(ReleaseError::Expired { until, now }),
            _ => Ok(release),
        }
    }

    /// Reads a text that nobody signed. For tests and fuzzing of the reader alone.
    pub fn insecure_from_text(text: &str) -> Result<Self, ReleaseError> {
        let mut fields = Fields::default();
        let mut listed = Vec::new();
        let mut in_list = false;
        for line in text.trim_end_matches('\n').split('\n') {
            if let Some(entry) = line.strip_prefix([' ', '\t']) {
                if in_list {
                    let entry = parse_entry(entry);
                    listed.push(entry.ok_or_else(|| malformed("lists", line))?);
                }
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .ok_or_else(|| malformed("has a line that is no field:", line))?;
            in_list = name.eq_ignore_ascii_case("SHA256");
            fields.take(name, value.trim())?;
        }
        let [date, codename, suite, until, by_hash] = fields.values;
        let date = date.ok_or_else(|| ReleaseError::Malformed("has no date".into()))?;
        let read = |field: &str, text: &str| {
            let wrong = |why| ReleaseError::Malformed(format!("has {field} `{text}`, {why}"));
            Date::parse(text).map_err(wrong)
        };
        Ok(Self {
            sha256: Digest32::of(text.as_bytes()),
            signed_by: Fingerprint([0; 20]),
            dated: read("a date", &date)?,
            date,
            suites: [codename, suite],
            valid_until: until.map(|until| read("Valid-Until", &until)).transpose()?,
            // As apt reads a truth.
            by_hash: by_hash.is_some_and(|value| {
                let yes = ["yes", "true", "with", "on", "enable", "1"];
                yes.iter().any(|yes| yes.eq_ignore_ascii_case(&value))
            }),
            listed,
        })
    }

    /// Refuses one that is not about `suite`, by codename or by name: a mirror must not pass another suite off as the one asked
    /// for.
    pub fn refuse_other_suite(&self, suite: &str) -> Result<(), ReleaseError> {
        let mut names = self.suites.iter().flatten();
        if names.clone().any(|name| name == suite) {
            return Ok(());
        }
        Err(ReleaseError::OtherSuite {
            got: names.next().map_or("no suite", String::as_str).to_owned(),
            expected: suite.to_owned(),
        })
    }

    /// Refuses one that is older than what was seen before.
    pub fn refuse_older(&self, locked: Date) -> Result<(), ReleaseError> {
        let date = self.dated;
        match date < locked {
            true => Err(ReleaseError::Older { date, locked }),
            false => Ok(()),
        }
    }

    /// Until when its archive stands by it, if it says.
    pub fn valid_until(&self) -> Option<Date> {
        self.valid_until
    }

    /// Where the index at `path` lies, relative to itself, the places in which to look first: by its digest, if the archive keeps them
    /// so (`Acquire-By-Hash`). Under its name lies whatever the mirror got last.
    pub fn places(&self, path: &str, listed: Listed) -> Vec<String> {
        let directory = path.rfind('/').map_or("", |slash| &path[..=slash]);
        let by_hash = format!("{directory}by-hash/SHA256/{}", listed.sha256);
        let by_hash = self.by_hash.then_some(by_hash);
        by_hash.into_iter().chain([path.to_owned()]).collect()
    }

    /// What it says about the index at `path`, relative to itself.
    pub fn index(&self, path: &str) -> Option<Listed> {
        let found = self.listed.iter().find(|(listed, _)| listed == path);
        found.map(|(_, listed)| *listed)
    }
}

/// The values of single fields, in the order of [`FIELDS`].
#[derive(Default)]
struct Fields {
    values: [Option<String>; FIELDS.len()],
    listed: bool,
}

const FIELDS: [&str; 5] = [
    "Date",
    "Codename",
    "Suite",
    "Valid-Until",
    "Acquire-By-Hash",
];

impl Fields {
    /// One that is there twice says nothing: who reads the first would believe otherwise than who reads the last.
    fn take(&mut self, name: &str, value: &str) -> Result<(), ReleaseError> {
        let twice = || Err(malformed("has two fields", name));
        if name.eq_ignore_ascii_case("SHA256") && std::mem::replace(&mut self.listed, true) {
            return twice();
        }
        let Some(at) = FIELDS
            .iter()
            .position(|field| field.eq_ignore_ascii_case(name))
        else {
            return Ok(());
        };
        if value.is_empty() || value.len() > 100 || value.contains(char::is_control) {
            return Err(malformed("has an odd field", name));
        }
        match self.values[at].replace(value.to_owned()) {
            Some(_) => twice(),
            None => Ok(()),
        }
    }
}

fn malformed(what: &str, text: &str) -> ReleaseError {
    let text: String = text.chars().take(80).collect();
    ReleaseError::Malformed(format!("{what} `{text}`"))
}

fn parse_entry(entry: &str) -> Option<(String, Listed)> {
    let mut words = entry.split_ascii_whitespace();
    let sha256 = words.next()?.parse().ok()?;
    let bytes = words.next()?.parse().ok()?;
    let path = words.next()?.to_owned();
    let end = words.next().is_none();
    end.then_some((path, Listed { bytes, sha256 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text() -> String {
        format!(
            "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nMD5Sum:\n {} 7 main/a\nSHA256:\n {}  9 main/a\nOther: x",
            "0".repeat(32),
            "1".repeat(64)
        )
    }

    #[test]
    fn the_sha256_list_is_read_and_no_other() {
        let release = Release::insecure_from_text(&text()).expect("well formed");
        let listed = release.index("main/a").expect("listed");
        assert_eq!((listed.bytes, listed.sha256), (9, Digest32([0x11; 32])));
        assert_eq!(release.index("main/b"), None);
        for suite in ["trixie", "stable"] {
            assert_eq!(release.refuse_other_suite(suite), Ok(()));
        }
        let error = release
            .refuse_other_suite("sid")
            .expect_err("another suite");
        assert_eq!(error.to_string(), "is about trixie and not about sid");
        assert_eq!(release.date, "Sat, 12 Sep 2026 07:55:41 UTC");
        assert_eq!(release.valid_until(), None);
    }

    #[test]
    fn fields_are_read_whatever_their_case() {
        let lower = text()
            .replace("SHA256", "sha256")
            .replace("Date", "date")
            .replace("Codename", "CODENAME");
        let (mut one, mut other) = (
            Release::insecure_from_text(&text()),
            Release::insecure_from_text(&lower),
        );
        for release in [&mut one, &mut other].into_iter().flatten() {
            release.sha256 = Digest32([0; 32]);
        }
        assert!(one.is_ok() && one == other, "{other:?}");
        for twice in ["date: Sat, 12 Sep 2026 07:55:41 UTC\n", "sha256:\n"] {
            assert!(Release::insecure_from_text(&format!("{twice}{}", text())).is_err());
        }
        assert!(Release::insecure_from_text(&(text() + "\n\n")).is_ok());
    }

    #[test]
    fn an_index_is_looked_for_by_its_digest_where_the_archive_says_so() {
        let places = |line: &str| {
            let release = Release::insecure_from_text(&(line.to_owned() + &text())).expect(line);
            release.places("main/a", release.index("main/a").expect("listed"))
        };
        let digest = "1".repeat(64);
        for yes in [
            "Acquire-By-Hash: yes\n",
            "acquire-by-hash: True\n",
            "Acquire-By-Hash: 1\n",
        ] {
            assert_eq!(
                places(yes),
                [format!("main/by-hash/SHA256/{digest}"), "main/a".into()]
            );
        }
        for no in ["", "Acquire-By-Hash: no\n", "Acquire-By-Hash: maybe\n"] {
            assert_eq!(places(no), ["main/a"]);
        }
    }

    #[test]
    fn a_date_that_is_none_is_told_with_its_field_and_why() {
        for (line, expected) in [
            (
                "Valid-Until: Tue, 30 Nov 2038 00:00:00 JST\n",
                "has Valid-Until `Tue, 30 Nov 2038 00:00:00 JST`, whose time zone",
            ),
            (
                "Valid-Until: tomorrow\n",
                "has Valid-Until `tomorrow`, which has not the form",
            ),
        ] {
            let error = Release::insecure_from_text(&(line.to_owned() + &text())).expect_err(line);
            assert!(error.to_string().contains(expected), "{error}");
        }
        let odd = text().replace("Sat, 12 Sep 2026", "Mon, Jan 08 2024");
        let error = Release::insecure_from_text(&odd)
            .expect_err("an odd date")
            .to_string();
        assert!(
            error.contains("has a date `Mon, Jan 08 2024 07:55:41 UTC`, which has not"),
            "{error}"
        );
        let none =
            Release::insecure_from_text(&text().replace("Date: ", "Dates: ")).expect_err("none");
        assert_eq!(none.to_string(), "has no date");
    }

    #[test]
    fn a_malformed_release_is_refused() {
        let whole = text();
        for (from, to) in [
            ("Date:", "Dat:"),
            ("Date: Sat", "Date: Sa"),
            ("Date:", "Date: Sat, 12 Sep 2026 07:55:41 UTC\nDate:"),
            ("Codename:", "Codename: sid\nCodename:"),
            ("Codename: trixie", "Codename:"),
            ("Suite: stable", "Suite: stable\nSHA256:"),
            ("Suite: stable", "Valid-Until: tomorrow"),
            ("Suite: stable", "\n"),
            ("Suite: stable", "Suite"),
            ("  9 main/a", "  -9 main/a"),
            ("  9 main/a", "  9 main/a b"),
            ("  9 main/a", ""),
            ("  9 main/a", "  99999999999999999999 main/a"),
            ("1111", "111g"),
        ] {
            assert!(whole.contains(from));
            let bad = Release::insecure_from_text(&whole.replacen(from, to, 1));
            assert!(
                matches!(bad, Err(ReleaseError::Malformed(_))),
                "{from} -> {to}"
            );
        }
    }

    #[test]
    fn a_release_that_is_older_than_the_locks_is_refused() {
        let release = Release::insecure_from_text(&text()).expect("well formed");
        let later = |seconds| Date {
            unix_s: release.dated.unix_s + seconds,
        };
        assert_eq!(release.refuse_older(later(0)), Ok(()));
        assert_eq!(release.refuse_older(later(-1)), Ok(()));
        let error = release.refuse_older(later(1)).expect_err("older");
        assert!(
            error.to_string().contains("2026-09-12 07:55:42 UTC"),
            "{error}"
        );
    }
}
