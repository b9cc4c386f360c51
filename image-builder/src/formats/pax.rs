//! The extended header of a tar entry (POSIX.1-2001, pax, "pax Header Block"): records `LENGTH KEY=VALUE\n` that say what the old
//! header has no room for. Debian's own packages have none; a package that carries extended attributes or capabilities does.

use std::collections::BTreeMap;

use crate::limits::{DEB_ATTRIBUTE_BYTES_MAX, DEB_ATTRIBUTES_MAX};

/// What an extended header says of the entry that follows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    /// Its path, instead of the header's.
    pub path: Option<Vec<u8>>,
    /// Its link's target, instead of the header's.
    pub link: Option<Vec<u8>>,
    /// Its extended attributes.
    pub attributes: BTreeMap<String, Vec<u8>>,
}

/// The key that star, GNU tar and bsdtar put before the name of an extended attribute.
const ATTRIBUTE: &[u8] = b"SCHILY.xattr.";
/// Keys that say what an image shows of nobody, or what the old header says as well.
const PASSED_OVER: [&[u8]; 6] = [b"mtime", b"atime", b"ctime", b"uname", b"gname", b"comment"];

impl Extended {
    /// Reads the records of one header. A key that is not known is refused: it could change what the entry means.
    pub fn parse(mut bytes: &[u8]) -> Result<Self, &'static str> {
        let mut extended = Self::default();
        while !bytes.is_empty() {
            let (record, rest) = record(bytes).ok_or("is malformed")?;
            bytes = rest;
            let at = record.iter().position(|byte| *byte == b'=');
            let (key, value) = record.split_at(at.ok_or("is malformed")?);
            let value = value.get(1..).unwrap_or_default().to_vec();
            match key {
                b"path" => extended.path = Some(value),
                b"linkpath" => extended.link = Some(value),
                key if PASSED_OVER.contains(&key) => {}
                key => {
                    let name = key.strip_prefix(ATTRIBUTE).and_then(attribute_name);
                    let name = name.ok_or("has a key that is not known")?;
                    let max = DEB_ATTRIBUTES_MAX;
                    if value.len() > DEB_ATTRIBUTE_BYTES_MAX || extended.attributes.len() >= max {
                        return Err("has too many or too long attributes");
                    }
                    extended.attributes.insert(name, value);
                }
            }
        }
        Ok(extended)
    }
}

/// The first record without its length and line feed, and what follows. The length counts itself.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let (digits, _) = bytes.split_at(space);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length: usize = std::str::from_utf8(digits).ok()?.parse().ok()?;
    let (record, rest) = bytes.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    Some((record, rest))
}

/// A name of one of the spaces that a read-only file system keeps: `security.capability`, `user.note`.
fn attribute_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let space = ["security.", "user.", "trusted."];
    let known = space.iter().any(|space| {
        let rest = name.strip_prefix(space);
        rest.is_some_and(|rest| !rest.is_empty())
    });
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
    (known && plain && name.len() <= 255).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(key: &str, value: &[u8]) -> Vec<u8> {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let digits = (body.len() + 2).to_string().len();
        let length = body.len() + digits;
        [length.to_string().as_bytes(), &body].concat()
    }

    #[test]
    fn records_say_path_link_and_attributes() {
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\n=\0\0\0\0\0\0\0";
        let bytes = [
            one("path", b"./usr/bin/ping"),
            one("mtime", b"1700000000.5"),
            one("SCHILY.xattr.security.capability", capability),
            one("linkpath", b"../x"),
        ];
        let extended = Extended::parse(&bytes.concat()).expect("good records");
        assert_eq!(extended.path.as_deref(), Some(&b"./usr/bin/ping"[..]));
        assert_eq!(extended.link.as_deref(), Some(&b"../x"[..]));
        assert_eq!(extended.attributes["security.capability"], capability);
        assert_eq!(extended.attributes.len(), 1);
        assert_eq!(Extended::parse(b""), Ok(Extended::default()));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = one("path", b"a");
        for at in 0..good.len() {
            assert!(Extended::parse(&good[..at]).is_err() || at == 0, "{at}");
        }
        let long = vec![0; DEB_ATTRIBUTE_BYTES_MAX + 1];
        for bad in [
            one("size", b"9"),
            one("uid", b"9"),
            one("GNU.sparse.map", b"0"),
            one("SCHILY.xattr.system.posix_acl_access", b"x"),
            one("SCHILY.xattr.user.", b"x"),
            one("SCHILY.xattr.user.a", &long),
            b"9 path=a\n\n".to_vec(),
            b"999999999 path=a\n".to_vec(),
            b"+9 path=a\n".to_vec(),
            b" path=a\n".to_vec(),
            b"7 path\n".to_vec(),
        ] {
            assert!(Extended::parse(&bad).is_err(), "{bad:?}");
        }
        let many: Vec<u8> = (0..=DEB_ATTRIBUTES_MAX)
            .flat_map(|number| one(&format!("SCHILY.xattr.user.{number}"), b""))
            .collect();
        assert!(Extended::parse(&many).is_err());
    }
}
