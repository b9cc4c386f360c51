//! Text that is signed and can be read as it is (RFC 9580, section 7).
//!
//! A reader of such a file has to be sure that what it reads is what was signed. So this is stricter than the standard: the file
//! is one such message, all of it, in UTF-8 with line ends of one kind; and what comes out is not the file's text but exactly what
//! goes into the hash, without dash escapes and without spaces at the ends of lines, which no signature covers.

use super::signature::SignatureError;
use crate::limits::SIGNATURE_BYTES_MAX;

/// The parts of a cleartext-signed message. Nothing here has been verified.
#[derive(Debug)]
pub(super) struct Cleartext {
    /// What the signatures are over, with line feeds.
    pub(super) text: String,
    /// The signature packets.
    pub(super) signatures: Vec<u8>,
}

impl Cleartext {
    pub(super) fn split(bytes: &[u8]) -> Result<Self, SignatureError> {
        let text = std::str::from_utf8(bytes).map_err(|_| SignatureError::NotText)?;
        // Line ends may be those of Windows, all of them. Any other carriage return is a line end to some and a letter to others;
        // nothing needs one, nor any other control character.
        let (ends, windows) = (text.matches('\n').count(), text.matches("\r\n").count());
        let unix = (ends > 0 && ends == windows).then(|| text.replace("\r\n", "\n"));
        let text = unix.as_deref().unwrap_or(text);
        if text.contains(|c: char| c.is_control() && !matches!(c, '\n' | '\t')) {
            return Err(SignatureError::NotText);
        }
        match text.matches(BEGIN).count() {
            0 => return Err(SignatureError::NotSigned),
            1 => {}
            _ => return Err(SignatureError::SeveralMessages),
        }
        let rest = text.strip_prefix(BEGIN).ok_or(SignatureError::TextBefore)?;
        let mut lines = rest.strip_prefix('\n').unwrap_or_default().split('\n');
        loop {
            let line = lines.next().ok_or(SignatureError::NotSigned)?;
            match line.strip_prefix("Hash: ") {
                // What is said here is not signed, so it is not believed; the signature itself names its hash.
                Some(_) => {}
                None if line.is_empty() => break,
                None => return Err(SignatureError::Header),
            }
        }
        let mut signed = String::with_capacity(text.len());
        loop {
            let line = lines.next().ok_or(SignatureError::NotSigned)?;
            if line == SIGNATURE {
                break;
            }
            let line = match (line.strip_prefix("- "), line.starts_with('-')) {
                (Some(line), _) => line,
                (None, false) => line,
                (None, true) => return Err(SignatureError::Dash),
            };
            signed.push_str(line.trim_end_matches([' ', '\t']));
            signed.push('\n');
        }
        // The line end before the signature belongs to the frame.
        signed.pop();
        let rest: Vec<_> = lines.collect();
        let end = rest.iter().position(|line| *line == END);
        let end = end.ok_or(SignatureError::NotSigned)?;
        if rest[end + 1..].iter().any(|line| !line.is_empty()) {
            return Err(SignatureError::TextAfter);
        }
        let armour = [&[SIGNATURE], &rest[..=end]].concat().join("\n");
        if armour.len() > SIGNATURE_BYTES_MAX {
            return Err(SignatureError::TooLong {
                bytes_max: SIGNATURE_BYTES_MAX,
            });
        }
        let signatures = super::armor::decode(&armour, "SIGNATURE");
        Ok(Self {
            text: signed,
            signatures: signatures.ok_or(SignatureError::Armour)?,
        })
    }

    /// The bytes that are hashed: with carriage returns and line feeds, and none at the end.
    pub(super) fn hashed(&self) -> String {
        self.text.replace('\n', "\r\n")
    }
}

const BEGIN: &str = "-----BEGIN PGP SIGNED MESSAGE-----";
const SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----";
const END: &str = "-----END PGP SIGNATURE-----";

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\na \t\n- -b\n\nc\n-----BEGIN PGP SIGNATURE-----\n\naGVs\n\
                        -----END PGP SIGNATURE-----\n";

    #[test]
    fn what_comes_out_is_what_is_hashed() {
        let split = Cleartext::split(GOOD.as_bytes()).expect("well formed");
        assert_eq!(split.text, "a\n-b\n\nc");
        assert_eq!(split.hashed(), "a\r\n-b\r\n\r\nc");
        assert_eq!(split.signatures, b"hel");
        let windows = Cleartext::split(GOOD.replace('\n', "\r\n").as_bytes()).expect("well formed");
        assert_eq!(windows.text, split.text);
        assert_eq!(windows.signatures, split.signatures);
        let bare = Cleartext::split(GOOD.replace("Hash: SHA256\n", "").as_bytes());
        assert_eq!(bare.expect("no header is needed").text, "a\n-b\n\nc");
    }

    #[test]
    fn what_is_not_one_whole_message_is_refused_by_name() {
        use SignatureError as E;
        let check = |from: &str, to: &str, expected: SignatureError| {
            assert!(GOOD.contains(from), "the case needs `{from}`");
            let got = Cleartext::split(GOOD.replacen(from, to, 1).as_bytes());
            assert_eq!(got.expect_err(to), expected, "{from:?} -> {to:?}");
        };
        check(
            "-----BEGIN PGP SIGNED",
            "x\n-----BEGIN PGP SIGNED",
            E::TextBefore,
        );
        check(
            "-----BEGIN PGP SIGNED",
            "\n-----BEGIN PGP SIGNED",
            E::TextBefore,
        );
        check("E-----\n", "E----- \n", E::NotSigned);
        check("NATURE-----\n\naGVs", "NATURE-----\nx", E::Armour);
        check(
            "END PGP SIGNATURE-----\n",
            "END PGP SIGNATURE-----\nx",
            E::TextAfter,
        );
        check(
            "END PGP SIGNATURE-----\n",
            "END PGP SIGNATURE----- \n",
            E::NotSigned,
        );
        check("- -b", "-b", E::Dash);
        check("- -b", "-----BEGIN PGP SIGNATURE----- ", E::Dash);
        check("a \t", "a\r", E::NotText);
        check("a \t\n", "a\r\n", E::NotText);
        check("a \t", "a\0", E::NotText);
        check("a \t", "a\u{85}", E::NotText);
        check("Hash: SHA256", "Charset: x", E::Header);
        check("Hash: SHA256\n\n", "Hash: SHA256\n", E::Header);
        check("-----BEGIN PGP SIGNED MESSAGE-----\n", "", E::NotSigned);
        check("aGVs", "aGV", E::Armour);
        assert_eq!(
            Cleartext::split(format!("{GOOD}{GOOD}").as_bytes()).expect_err("two"),
            E::SeveralMessages
        );
        assert_eq!(Cleartext::split(b"\xff").expect_err("no UTF-8"), E::NotText);
        let long = GOOD.replace("aGVs", &"aGVs".repeat(SIGNATURE_BYTES_MAX / 4));
        assert!(matches!(
            Cleartext::split(long.as_bytes()),
            Err(E::TooLong { .. })
        ));
        for end in 0..GOOD.len() - 1 {
            assert!(Cleartext::split(&GOOD.as_bytes()[..end]).is_err(), "{end}");
        }
    }
}
