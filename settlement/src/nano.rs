//! An amount of money, in billionths of a TON.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// An amount in nanoTON. Arithmetic is checked; nothing wraps or saturates. In JSON it is a decimal string, since a JSON number
/// loses digits above 2^53.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nano(pub u64);

/// Why a text is not an amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum NanoError {
    #[error("an amount in nanoTON is a plain decimal number without sign or leading zero")]
    NotDecimal,
    #[error("expected an amount in TON such as 0.5, with at most nine decimals")]
    NotTon,
    #[error("the amount is above 18446744073709551615 nanoTON")]
    TooLarge,
}

impl Nano {
    /// Nothing.
    pub const ZERO: Nano = Nano(0);
    /// One TON.
    pub const TON: Nano = Nano(1_000_000_000);

    /// The sum, or `None` above the maximum.
    pub fn checked_add(self, other: Nano) -> Option<Nano> {
        self.0.checked_add(other.0).map(Nano)
    }

    /// The difference, or `None` below zero.
    pub fn checked_sub(self, other: Nano) -> Option<Nano> {
        self.0.checked_sub(other.0).map(Nano)
    }

    /// The product, or `None` above the maximum.
    pub fn checked_mul(self, times: u64) -> Option<Nano> {
        self.0.checked_mul(times).map(Nano)
    }

    /// For people: TON with nine decimals, such as `1.500000000 TON`.
    pub fn in_ton(self) -> String {
        format!("{}.{:09} TON", self.0 / Nano::TON.0, self.0 % Nano::TON.0)
    }

    /// Reads an amount in TON with at most nine decimals, such as `0.5`: what people write in a command.
    pub fn from_ton(text: &str) -> Result<Nano, NanoError> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
            return Err(NanoError::NotTon);
        }
        let padded = format!("{whole}{fraction:0<9}");
        match padded.trim_start_matches('0') {
            "" => Ok(Nano::ZERO),
            plain => plain.parse(),
        }
    }
}

impl fmt::Display for Nano {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for Nano {
    type Err = NanoError;

    fn from_str(text: &str) -> Result<Nano, NanoError> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !plain || (text.len() > 1 && text.starts_with('0')) {
            return Err(NanoError::NotDecimal);
        }
        text.parse().map(Nano).map_err(|_| NanoError::TooLarge)
    }
}

impl Serialize for Nano {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Nano {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nano, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_amounts_in_ton() {
        for (text, nano) in [
            ("0.5", 500_000_000),
            ("2", 2_000_000_000),
            ("0", 0),
            ("0.000000001", 1),
            ("010.5", 10_500_000_000),
        ] {
            assert_eq!(Nano::from_ton(text), Ok(Nano(nano)), "{text}");
        }
        for bad in ["", ".5", "-1", "1e3", "0.0000000001", "1.5 TON"] {
            assert_eq!(Nano::from_ton(bad), Err(NanoError::NotTon), "{bad}");
        }
        assert_eq!(Nano::from_ton("18446744074"), Err(NanoError::TooLarge));
    }

    #[test]
    fn only_plain_decimals_are_amounts() {
        for (text, expected) in [
            ("0", Ok(Nano(0))),
            ("18446744073709551615", Ok(Nano(u64::MAX))),
            ("18446744073709551616", Err(NanoError::TooLarge)),
            ("", Err(NanoError::NotDecimal)),
            ("+1", Err(NanoError::NotDecimal)),
            ("-1", Err(NanoError::NotDecimal)),
            ("01", Err(NanoError::NotDecimal)),
            ("1.5", Err(NanoError::NotDecimal)),
            (" 1", Err(NanoError::NotDecimal)),
        ] {
            assert_eq!(text.parse::<Nano>(), expected, "{text:?}");
        }
    }

    #[test]
    fn json_amounts_are_strings_and_numbers_are_refused() {
        assert_eq!(
            serde_json::to_string(&Nano(7)).expect("serializes"),
            "\"7\""
        );
        assert_eq!(
            serde_json::from_str::<Nano>("\"7\"").expect("parses"),
            Nano(7)
        );
        assert!(serde_json::from_str::<Nano>("7").is_err());
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(Nano(u64::MAX).checked_add(Nano(1)), None);
        assert_eq!(Nano(0).checked_sub(Nano(1)), None);
        assert_eq!(Nano(u64::MAX).checked_mul(2), None);
        assert_eq!(Nano(1_500_000_001).in_ton(), "1.500000001 TON");
    }
}
