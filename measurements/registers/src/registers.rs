//! The five registers of a TDX guest and how an event extends one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha384};

/// A SHA-384 digest: the value of a register, or of what extends one. Written as 96 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest48(pub [u8; 48]);

/// What a guest measured to: the build-time register MRTD and the four run-time registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "RegistersJson", from = "RegistersJson")]
pub struct Registers {
    /// The initial memory of the guest: its firmware.
    pub mrtd: Digest48,
    /// RTMR0 (firmware configuration), RTMR1 (kernel), RTMR2 (command line, initrd), RTMR3 (the application).
    pub rtmr: [Digest48; 4],
}

/// One thing a guest measured into RTMR3 after boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeEvent {
    /// What was measured, for people.
    pub name: String,
    /// The digest that extended the register.
    pub digest: Digest48,
}

/// The value of a register that started at zero and was extended by these events, in order: `r = SHA384(r || digest)`.
pub fn replay(events: &[RuntimeEvent]) -> Digest48 {
    events.iter().fold(Digest48::ZERO, |register, event| {
        register.extended_by(&event.digest)
    })
}

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

impl Digest48 {
    /// A register before its first event.
    pub const ZERO: Digest48 = Digest48([0; 48]);

    /// SHA-384 of some bytes.
    pub fn of(bytes: &[u8]) -> Digest48 {
        Digest48(Sha384::digest(bytes).into())
    }

    /// This register after one more event.
    pub fn extended_by(&self, event: &Digest48) -> Digest48 {
        Digest48(
            Sha384::new()
                .chain_update(self.0)
                .chain_update(event.0)
                .finalize()
                .into(),
        )
    }
}

impl fmt::Display for Digest48 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest48 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest48({self})")
    }
}

impl FromStr for Digest48 {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        lower_hex(text).map(Digest48)
    }
}

impl Serialize for Digest48 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest48 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// One spelling for one value: upper-case hex is refused, so that text and bytes are one to one.
pub(crate) fn lower_hex<const N: usize>(text: &str) -> Result<[u8; N], DigestError> {
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistersJson {
    mrtd: Digest48,
    rtmr0: Digest48,
    rtmr1: Digest48,
    rtmr2: Digest48,
    rtmr3: Digest48,
}

impl From<Registers> for RegistersJson {
    fn from(r: Registers) -> Self {
        let [rtmr0, rtmr1, rtmr2, rtmr3] = r.rtmr;
        RegistersJson {
            mrtd: r.mrtd,
            rtmr0,
            rtmr1,
            rtmr2,
            rtmr3,
        }
    }
}

impl From<RegistersJson> for Registers {
    fn from(j: RegistersJson) -> Self {
        Registers {
            mrtd: j.mrtd,
            rtmr: [j.rtmr0, j.rtmr1, j.rtmr2, j.rtmr3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_of_nothing_is_zero() {
        assert_eq!(replay(&[]), Digest48::ZERO);
    }

    // Expected value: python3, hashlib.sha384(bytes(48) + hashlib.sha384(b"agent").digest()).
    #[test]
    fn replay_matches_another_implementation() {
        let event = |name: &str| RuntimeEvent {
            name: name.into(),
            digest: Digest48::of(name.as_bytes()),
        };
        assert_eq!(replay(&[event("agent")]).to_string(), AGENT_ONLY);
        assert_eq!(
            replay(&[event("agent"), event("config")]).to_string(),
            AGENT_THEN_CONFIG
        );
        assert_ne!(
            replay(&[event("config"), event("agent")]).to_string(),
            AGENT_THEN_CONFIG
        );
    }

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

    const AGENT_ONLY: &str = "82a140b4b2ccd3c1c13c23daaebd6fa3cc2588cc8cdc3decefd3cf754821199fd1f2ad72b3f663468bb2a4edd81fc813";
    const AGENT_THEN_CONFIG: &str = "37438dc63d92dbbb82df674b4a2872683a012938d1bea9f8964b68d6993d1b19b8d8fa63f949c467e237e0242407c7f1";
}
