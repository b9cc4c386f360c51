//! `InRelease`: the list of a suite's indexes with their sizes and digests.
//!
//! **Its OpenPGP signature is not checked in this version.** Whoever serves the file, or sits on the way, decides which
//! packages a new lock names; the reviewer of the lock's change is who can notice. A lock that exists is not touched by
//! this: what it lists is fetched by digest. There is no switch and no return value that says otherwise.

use crate::lock::Digest;

/// What we read of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Of the file as it was served.
    pub sha256: Digest,
    /// The suite's date, as Debian writes it.
    pub date: String,
    codename: String,
    suite: String,
    listed: Vec<(String, Listed)>,
}

/// One index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its size.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

impl Release {
    /// Parses a cleartext-signed file (RFC 9580, section 7) of which the caller has bounded the length. The error says what
    /// is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
        let signed = signed_part(text).ok_or("is not a cleartext-signed file")?;
        let mut release = Self {
            sha256: Digest::of(bytes),
            date: String::new(),
            codename: String::new(),
            suite: String::new(),
            listed: Vec::new(),
        };
        let mut in_list = false;
        for line in signed.lines() {
            if let Some(entry) = line.strip_prefix(' ') {
                if in_list {
                    let bad = || format!("lists `{}`", line.chars().take(80).collect::<String>());
                    release.listed.push(parse_entry(entry).ok_or_else(bad)?);
                }
                continue;
            }
            in_list = line == "SHA256:";
            match line.split_once(": ") {
                Some(("Date", value)) => release.date = plain(value)?,
                Some(("Codename", value)) => release.codename = plain(value)?,
                Some(("Suite", value)) => release.suite = plain(value)?,
                _ => {}
            }
        }
        if release.date.is_empty() {
            return Err("has no date".into());
        }
        Ok(release)
    }

    /// Whether it is about `suite`, by codename or by name: a mirror must not pass another suite off as the one asked for.
    pub fn is_of(&self, suite: &str) -> bool {
        suite == self.codename || suite == self.suite
    }

    /// What it says about the index at `path`, relative to itself.
    pub fn index(&self, path: &str) -> Option<Listed> {
        let found = self.listed.iter().find(|(listed, _)| listed == path);
        found.map(|(_, listed)| *listed)
    }
}

fn signed_part(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----\n")?;
    let (_, rest) = rest.split_once("\n\n")?;
    let (signed, signature) = rest.split_once("\n-----BEGIN PGP SIGNATURE-----\n")?;
    signature
        .trim_end()
        .ends_with("\n-----END PGP SIGNATURE-----")
        .then_some(signed)
}

fn parse_entry(entry: &str) -> Option<(String, Listed)> {
    let mut words = entry.split_ascii_whitespace();
    let sha256 = Digest::parse(words.next()?)?;
    let bytes = words.next()?.parse().ok()?;
    let path = words.next()?.to_owned();
    let end = words.next().is_none();
    end.then_some((path, Listed { bytes, sha256 }))
}

fn plain(value: &str) -> Result<String, String> {
    let odd = value.len() > 100 || value.contains(|c: char| c.is_control());
    let value = value.trim().to_owned();
    (!odd).then_some(value).ok_or("has an odd field".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(body: &str) -> String {
        format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{body}\n-----BEGIN PGP SIGNATURE-----\n\nx\n-----END PGP SIGNATURE-----\n"
        )
    }

    fn body() -> String {
        format!(
            "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nMD5Sum:\n {} 7 main/a\nSHA256:\n {}  9 main/a",
            "0".repeat(32),
            "1".repeat(64)
        )
    }

    #[test]
    fn the_sha256_list_is_read_and_no_other() {
        let release = Release::parse(signed(&body()).as_bytes()).expect("well formed");
        let listed = release.index("main/a").expect("listed");
        assert_eq!((listed.bytes, listed.sha256), (9, Digest([0x11; 32])));
        assert_eq!(release.index("main/b"), None);
        assert!(release.is_of("trixie") && release.is_of("stable") && !release.is_of("sid"));
        assert_eq!(release.date, "Sat, 12 Sep 2026 07:55:41 UTC");
    }

    #[test]
    fn a_malformed_release_is_refused() {
        let whole = signed(&body());
        assert!(Release::parse(body().as_bytes()).is_err(), "unsigned");
        for (from, to) in [
            ("-----END", "----END"),
            ("Date:", "Dat:"),
            ("  9 main/a", "  -9 main/a"),
            ("  9 main/a", "  9 main/a b"),
            ("  9 main/a", ""),
            ("  9 main/a", "  99999999999999999999 main/a"),
            ("1111", "111g"),
        ] {
            assert!(whole.contains(from));
            let bad = whole.replacen(from, to, 1);
            assert!(Release::parse(bad.as_bytes()).is_err(), "{from} -> {to}");
        }
        for end in 0..whole.trim_end().len() {
            assert!(Release::parse(&whole.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
