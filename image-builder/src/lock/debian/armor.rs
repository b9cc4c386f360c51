//! ASCII armour (RFC 9580, section 6): bytes as text that begins and ends with a line of dashes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The bytes of an armoured block that is all of `text`, but for empty lines at its end. `None` when it is anything else. The
/// headers say nothing that counts and are passed over; so is the checksum, which guards against accidents only.
pub(super) fn decode(text: &str, kind: &str) -> Option<Vec<u8>> {
    let rest = text
        .strip_prefix("-----BEGIN PGP ")?
        .strip_prefix(kind)?
        .strip_prefix("-----\n")?;
    let rest = rest.trim_end_matches('\n');
    let rest = rest.strip_suffix("-----")?.strip_suffix(kind)?;
    let body = rest.strip_suffix("\n-----END PGP ")?;
    let mut lines = body.split('\n');
    // Headers end with an empty line; without headers the empty line comes at once.
    let header = |line: &str| line.is_empty() || line.contains(": ");
    loop {
        let line = lines.next()?;
        if !header(line) {
            return None;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut lines: Vec<_> = lines.collect();
    let checksum = |line: &&str| line.len() == 5 && line.starts_with('=');
    lines.pop_if(|line| checksum(&&**line));
    STANDARD.decode(lines.concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn a_block_is_decoded_and_anything_else_is_not() {
        let good = "-----BEGIN PGP X-----\nVersion: 1\n\naGVs\nbG8=\n=abcd\n-----END PGP X-----\n";
        let check = |from: &str, to: &str, expected: Option<&[u8]>| {
            assert!(good.contains(from), "the case needs `{from}`");
            let got = decode(&good.replacen(from, to, 1), "X");
            assert_eq!(got.as_deref(), expected, "{from:?} -> {to:?}");
        };
        check("Version: 1\n", "", Some(b"hello"));
        check("=abcd\n", "", Some(b"hello"));
        check("Version: 1\n\n", "\n\n", Some(b"hello"));
        check(
            "-----END PGP X-----\n",
            "-----END PGP X-----\n\n\n",
            Some(b"hello"),
        );
        check(
            "-----END PGP X-----\n",
            "-----END PGP X-----",
            Some(b"hello"),
        );
        check("-----END PGP X-----\n", "-----END PGP X-----\na", None);
        check("-----END PGP X-----\n", "-----END PGP Y-----\n", None);
        check("-----BEGIN", "a\n-----BEGIN", None);
        check("-----BEGIN", "----BEGIN", None);
        check("Version: 1", "Version 1", None);
        check("\n\n", "\n", None);
        check("aGVs", "aGV", None);
        check("aGVs", "a Vs", None);
        check("=abcd", "=abcde", None);
        for end in 0..good.len() - 1 {
            assert_eq!(decode(&good[..end], "X"), None, "cut at {end}");
        }
    }
}
