//! Digests as types: one spelling for one value, in text and in JSON.

use sha2::{Digest, Sha256, Sha384};

/// Text that is not a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected {expected_digits} lower-case hex digits, got {got_bytes} bytes of something else"
)]
pub struct DigestError {
    /// How many hex digits were wanted.
    pub expected_digits: usize,
    /// How many bytes of text there were.
    pub got_bytes: usize,
}

/// Makes a type of a fixed number of bytes that is written, read and serialised as lower-case hex digits. The caller's
/// crate depends on `serde` and `hex`.
#[macro_export]
macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $bytes]);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::DigestError;
            fn from_str(text: &str) -> Result<Self, $crate::DigestError> {
                $crate::lower_hex(text).map($name)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type!(
    /// A SHA-256 digest, or other 32 bytes that files carry as text. Written as 64 lower-case hex digits.
    Digest32,
    32
);
digest_type!(
    /// A SHA-384 digest: the value of a register, or of what extends one. Written as 96 lower-case hex digits.
    Digest48,
    48
);

impl Digest32 {
    /// SHA-256 of some bytes.
    pub fn of(bytes: &[u8]) -> Digest32 {
        Digest32(Sha256::digest(bytes).into())
    }
}

impl Digest48 {
    /// A register before its first event.
    pub const ZERO: Digest48 = Digest48([0; 48]);

    /// SHA-384 of some bytes.
    pub fn of(bytes: &[u8]) -> Digest48 {
        Digest48(Sha384::digest(bytes).into())
    }

    /// This register after one more event: `SHA384(register || event)`.
    pub fn extended_by(&self, event: &Digest48) -> Digest48 {
        let extended = Sha384::new().chain_update(self.0).chain_update(event.0);
        Digest48(extended.finalize().into())
    }
}

/// Bytes from hex digits. Upper-case digits are refused, so that text and bytes are one to one.
pub fn lower_hex<const N: usize>(text: &str) -> Result<[u8; N], DigestError> {
    let wrong = DigestError {
        expected_digits: 2 * N,
        got_bytes: text.len(),
    };
    let mut bytes = [0; N];
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(wrong);
    }
    hex::decode_to_slice(text, &mut bytes).map_err(|_| wrong)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let text = "ab".repeat(48);
        assert_eq!(
            text.parse::<Digest48>().map(|d| d.to_string()),
            Ok(text.clone())
        );
        for bad in [
            text.to_uppercase(),
            text[1..].into(),
            format!("{text}0"),
            "zz".repeat(48),
            format!("0x{}", &text[2..]),
        ] {
            assert!(bad.parse::<Digest48>().is_err(), "{bad}");
        }
    }
}
