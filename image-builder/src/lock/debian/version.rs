//! Version numbers and their order.
//!
//! The algorithm is Debian Policy 5.6.12's: epoch as a number, then upstream version and revision, each as alternating parts
//! without and with digits; `~` sorts before everything, even the end.

use std::cmp::Ordering;
use std::fmt;

/// A checked version, `[epoch:]upstream[-revision]`. `1.0` and `1.0-0` are equal, though they are not spelt alike.
#[derive(Clone)]
pub struct Version(String);

const BYTES_MAX: usize = 256;

impl Version {
    /// Checks the form: an optional epoch of digits, and characters that policy allows. A version has to begin with a digit by
    /// policy; a few packages of the archive do not obey, and their order is defined all the same.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, rest) = split_epoch(text);
        let plain = |b: u8| b.is_ascii_alphanumeric() || b".+-~:".contains(&b);
        let number = (1..=9).contains(&epoch.len()) && epoch.bytes().all(|b| b.is_ascii_digit());
        let whole =
            number && !rest.is_empty() && text.len() <= BYTES_MAX && rest.bytes().all(plain);
        whole.then(|| Self(text.to_owned()))
    }

    /// The text as it was.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str, &str) {
        let (epoch, rest) = split_epoch(&self.0);
        // "The absence of a debian_revision is equivalent to a debian_revision of 0", which compares as empty.
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch, upstream, revision)
    }
}

fn split_epoch(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or(("0", text))
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((a_epoch, a_upstream, a_revision), (b_epoch, b_upstream, b_revision)) =
            (self.parts(), other.parts());
        compare_numbers(a_epoch.as_bytes(), b_epoch.as_bytes())
            .then_with(|| compare(a_upstream.as_bytes(), b_upstream.as_bytes()))
            .then_with(|| compare(a_revision.as_bytes(), b_revision.as_bytes()))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Version({})", self.0)
    }
}

fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = a.split_at(length(a, |b| !b.is_ascii_digit()));
        let (b_text, b_rest) = b.split_at(length(b, |b| !b.is_ascii_digit()));
        let (a_number, a_after) = a_rest.split_at(length(a_rest, |b| b.is_ascii_digit()));
        let (b_number, b_after) = b_rest.split_at(length(b_rest, |b| b.is_ascii_digit()));
        let order = compare_text(a_text, b_text).then_with(|| compare_numbers(a_number, b_number));
        if order != Ordering::Equal {
            return order;
        }
        (a, b) = (a_after, b_after);
    }
    Ordering::Equal
}

/// "All the letters sort earlier than all the non-letters and … a tilde sorts before anything, even the end of a part."
fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(letter) if letter.is_ascii_alphabetic() => i32::from(*letter),
        Some(other) => i32::from(*other) + 256,
    };
    let orders = (0..a.len().max(b.len())).map(|at| weight(a.get(at)).cmp(&weight(b.get(at))));
    let mut differing = orders.filter(|order| *order != Ordering::Equal);
    differing.next().unwrap_or(Ordering::Equal)
}

/// As numbers of any length: without leading zeros, the longer one is greater. No digits count as zero.
fn compare_numbers(a: &[u8], b: &[u8]) -> Ordering {
    let a = &a[length(a, |b| b == b'0')..];
    let b = &b[length(b, |b| b == b'0')..];
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn length(bytes: &[u8], of: impl Fn(u8) -> bool) -> usize {
    let end = bytes.iter().position(|b| !of(*b));
    end.unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &str, expected: Ordering, b: &str) {
        let parse = |text| Version::parse(text).expect(text);
        assert_eq!(parse(a).cmp(&parse(b)), expected, "{a} and {b}");
        assert_eq!(parse(a) == parse(b), expected.is_eq(), "{a} and {b}");
        assert_eq!(parse(b).cmp(&parse(a)), expected.reverse(), "{b} and {a}");
    }

    #[test]
    fn versions_sort_as_dpkg_sorts_them() {
        use Ordering::{Equal, Less};
        // The answers of `dpkg --compare-versions`, the first group being policy 5.6.12's own example.
        for pair in ["~~", "~~a", "~", "", "a"].windows(2) {
            check(&format!("1{}", pair[0]), Less, &format!("1{}", pair[1]));
        }
        check("1.0", Equal, "1.0-0");
        check("1.0", Equal, "0:1.0");
        check("1.0-1", Less, "1.0-1+b1");
        check("1.0-1", Less, "1:0.1");
        check("9.9", Less, "10.0");
        check("1.09", Equal, "1.9");
        check("1.0~rc1-1", Less, "1.0-1");
        check("2.41-12", Less, "2.41-12+deb13u1");
        check("1.0-1~bpo12+1", Less, "1.0-1");
        check("1.0a", Less, "1.0+a");
        check("1.0.", Less, "1.0.1");
        check("1-1-1", Less, "1-1-2");
        check("1:10.0.13+ds~", Less, "1:10.0.13+ds-0+deb13u1");
        check("1.2.3-1", Less, "1.2.3-1.1");
        check("20240101", Less, "99999999999999999999999999999999");
        check("0", Less, "1");
        check("1.0-a", Less, "1.0-+");
    }

    #[test]
    fn what_is_no_version_is_refused() {
        for text in [
            "",
            ":",
            "1:",
            ":1",
            "a:1",
            "1 2",
            "1_2",
            "1/2",
            "-1:2",
            "1\u{e9}",
            "9999999999:1",
        ] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        assert_eq!(Version::parse(&"1".repeat(BYTES_MAX + 1)), None);
    }
}
