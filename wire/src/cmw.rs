//! Evidence and verdict for verifiers of other makes: a RATS Conceptual Message Wrapper (RFC 9999), in CBOR or in JSON (feature `client`).
//!
//! It is a collection of one or two records: the evidence bundle with the challenge that it answers, and what its sender made of it.
//! It protects nothing. Evidence is judged by whoever reads it, by [`crate::attest`]; a verdict that comes in a file is not believed.

use crate::cbor::Malformed;
use crate::limits::{BUNDLE_BYTES_MAX, CMW_BYTES_MAX, CMW_RESULT_BYTES_MAX};
use crate::{EAT_CBOR, EAT_JSON};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use minicbor::data::Type;
use minicbor::{Decoder, Encoder};
use serde::{Deserialize, Serialize};

const WHAT: &str = "conceptual message wrapper";
/// The media type of a wrapper in CBOR (RFC 9999).
pub const CMW_CBOR: &str = "application/cmw+cbor";
/// The collection's type.
const COLLECTION: &str = "urn:chrysalis:cmw:v1";
/// What [`crate::Bundle::encode`] makes; the challenge follows as a parameter, 64 hexadecimal digits.
const BUNDLE: &str = "application/vnd.chrysalis.bundle; nonce=";
const TYPE: &str = "__cmwc_t";
const EVIDENCE: &str = "evidence";
const RESULT: &str = "result";
/// Indicators: evidence (4) with the endorsements that it is judged by (2), and attestation results (8).
const OF_EVIDENCE: u32 = 4 | 2;
const OF_RESULT: u32 = 8;

/// What a wrapper holds. Nothing of it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cmw {
    /// [`crate::Bundle::encode`], at most [`BUNDLE_BYTES_MAX`] bytes.
    pub bundle: Vec<u8>,
    /// The challenge that the evidence answers.
    pub nonce: [u8; 32],
    /// What its sender made of it: an EAT in the encoding of the wrapper, at most [`CMW_RESULT_BYTES_MAX`] bytes.
    pub result: Option<Vec<u8>>,
}

/// A record of a collection: media type, value, indicator.
struct Item {
    kind: String,
    value: Vec<u8>,
    indicator: Option<u32>,
}

impl Cmw {
    /// The CBOR collection, deterministic.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut e = Encoder::new(&mut bytes);
        self.write(&mut e).expect("a Vec takes every write");
        bytes
    }

    fn write(
        &self,
        e: &mut Encoder<&mut Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>> {
        e.map(2 + u64::from(self.result.is_some()))?;
        // The order of deterministic encoding: shorter names first.
        if let Some(result) = &self.result {
            e.str(RESULT)?.array(3)?.str(EAT_CBOR)?;
            e.bytes(result)?.u32(OF_RESULT)?;
        }
        e.str(TYPE)?.str(COLLECTION)?;
        e.str(EVIDENCE)?.array(3)?.str(&self.bundle_type())?;
        e.bytes(&self.bundle)?.u32(OF_EVIDENCE)?.ok()
    }

    /// The JSON collection.
    pub fn to_json(&self) -> String {
        let record = |kind: String, value: &[u8], indicator| {
            JsonRecord::Three(kind, BASE64_URL_SAFE_NO_PAD.encode(value), indicator)
        };
        let result = self.result.as_ref();
        let collection = JsonCollection {
            kind: COLLECTION.into(),
            evidence: record(self.bundle_type(), &self.bundle, OF_EVIDENCE),
            result: result.map(|result| record(EAT_JSON.into(), result, OF_RESULT)),
        };
        serde_json::to_string(&collection).expect("strings and numbers")
    }

    fn bundle_type(&self) -> String {
        format!("{BUNDLE}{}", hex::encode(self.nonce))
    }

    /// Reads a collection of ours, or its evidence as a record alone, in either encoding. The order of a collection does not matter.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (got, max) = (bytes.len(), CMW_BYTES_MAX);
        if got > max {
            return Err(Malformed::TooLong {
                what: WHAT,
                got,
                max,
            });
        }
        let undecodable = Malformed::NotDecodable { what: WHAT };
        // RFC 9999, section 3.5: one byte tells what it is.
        let (evidence, result, eat) = match bytes.first() {
            Some(b'[' | b'{') => {
                let (evidence, result) = from_json(bytes).ok_or(undecodable)?;
                (evidence, result, EAT_JSON)
            }
            _ => {
                let (evidence, result) = from_cbor(bytes).ok_or(undecodable)?;
                (evidence, result, EAT_CBOR)
            }
        };
        let nonce = evidence
            .kind
            .strip_prefix(BUNDLE)
            .filter(|digits| digits.bytes().all(|byte| !byte.is_ascii_uppercase()));
        let mut challenge = [0; 32];
        let named =
            nonce.is_some_and(|digits| hex::decode_to_slice(digits, &mut challenge).is_ok());
        let is_result =
            |item: &Item| item.kind == eat && item.indicator.is_none_or(|bits| bits == OF_RESULT);
        let fields = [
            ("the evidence's media type", named),
            (
                "the evidence's indicator",
                evidence.indicator.is_none_or(|bits| bits == OF_EVIDENCE),
            ),
            ("evidence", evidence.value.len() <= BUNDLE_BYTES_MAX),
            (
                "the result's media type",
                result.as_ref().is_none_or(is_result),
            ),
            (
                "result",
                result
                    .as_ref()
                    .is_none_or(|item| item.value.len() <= CMW_RESULT_BYTES_MAX),
            ),
        ];
        crate::cbor::check(WHAT, 1, &fields)?;
        Ok(Cmw {
            bundle: evidence.value,
            nonce: challenge,
            result: result.map(|item| item.value),
        })
    }
}

/// Evidence and result of a CBOR collection, or of a record.
fn from_cbor(bytes: &[u8]) -> Option<(Item, Option<Item>)> {
    let mut d = Decoder::new(bytes);
    let (mut kind, mut evidence, mut result) = (None, None, None);
    match d.datatype().ok()? {
        Type::Array => (kind, evidence) = (Some(COLLECTION), Some(item(&mut d)?)),
        _ => {
            for _ in 0..d.map().ok()?? {
                match d.str().ok()? {
                    TYPE if kind.is_none() => kind = Some(d.str().ok()?),
                    EVIDENCE if evidence.is_none() => evidence = Some(item(&mut d)?),
                    RESULT if result.is_none() => result = Some(item(&mut d)?),
                    _ => return None,
                }
            }
        }
    }
    let whole = d.position() == bytes.len() && kind == Some(COLLECTION);
    whole.then_some((evidence?, result))
}

fn item(d: &mut Decoder<'_>) -> Option<Item> {
    let parts @ 2..=3 = d.array().ok()?? else {
        return None;
    };
    let (kind, value) = (d.str().ok()?.to_owned(), d.bytes().ok()?.to_vec());
    let indicator = match parts {
        2 => None,
        _ => Some(d.u32().ok()?),
    };
    Some(Item {
        kind,
        value,
        indicator,
    })
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonCollection {
    #[serde(rename = "__cmwc_t")]
    kind: String,
    evidence: JsonRecord,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    result: Option<JsonRecord>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum JsonRecord {
    Three(String, String, u32),
    Two(String, String),
}

impl JsonRecord {
    fn item(self) -> Option<Item> {
        let (kind, value, indicator) = match self {
            JsonRecord::Three(kind, value, indicator) => (kind, value, Some(indicator)),
            JsonRecord::Two(kind, value) => (kind, value, None),
        };
        let value = BASE64_URL_SAFE_NO_PAD.decode(value).ok()?;
        Some(Item {
            kind,
            value,
            indicator,
        })
    }
}

/// The same in JSON.
fn from_json(bytes: &[u8]) -> Option<(Item, Option<Item>)> {
    if bytes.first() == Some(&b'[') {
        let record: JsonRecord = serde_json::from_slice(bytes).ok()?;
        return Some((record.item()?, None));
    }
    let collection: JsonCollection = serde_json::from_slice(bytes).ok()?;
    let result = match collection.result {
        Some(record) => Some(record.item()?),
        None => None,
    };
    (collection.kind == COLLECTION).then_some((collection.evidence.item()?, result))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cmw(result: Option<&[u8]>) -> Cmw {
        Cmw {
            bundle: vec![0xa4; 300],
            nonce: [0x5a; 32],
            result: result.map(<[u8]>::to_vec),
        }
    }

    #[test]
    fn what_was_wrapped_is_unwrapped_in_both_encodings_and_in_any_order() {
        for cmw in [cmw(None), cmw(Some(b"{}"))] {
            assert_eq!(Cmw::decode(&cmw.encode()), Ok(cmw.clone()));
            assert_eq!(Cmw::decode(cmw.to_json().as_bytes()), Ok(cmw.clone()));
        }
        let value: serde_json::Value = serde_json::from_str(&cmw(Some(b"{}")).to_json()).unwrap();
        // Sorted by another program, and the evidence alone.
        let sorted = format!(
            r#"{{"result":{},"evidence":{},"__cmwc_t":{}}}"#,
            value["result"], value["evidence"], value["__cmwc_t"]
        );
        assert_eq!(Cmw::decode(sorted.as_bytes()), Ok(cmw(Some(b"{}"))));
        let alone = value["evidence"].to_string();
        assert_eq!(Cmw::decode(alone.as_bytes()), Ok(cmw(None)));
        let bytes = cmw(None).encode();
        let at = bytes
            .windows(8)
            .position(|part| part == EVIDENCE.as_bytes());
        assert_eq!(Cmw::decode(&bytes[at.unwrap() + 8..]), Ok(cmw(None)));
    }

    #[test]
    fn what_is_not_ours_is_refused() {
        // The example of RFC 9999 in both encodings.
        let example = b"[\"application/vnd.example.rats-conceptual-msg\",\"I0faVQ\"]";
        let mut record = vec![0x82, 0x78, 0x2b];
        record.extend(b"application/vnd.example.rats-conceptual-msg");
        record.extend([0x44, 0x23, 0x47, 0xda, 0x55]);
        let field = "the evidence's media type";
        for foreign in [&example[..], &record] {
            assert_eq!(
                Cmw::decode(foreign),
                Err(Malformed::Field { what: WHAT, field })
            );
        }
        let text = cmw(Some(b"{}")).to_json();
        for (from, to) in [
            ("cmw:v1", "cmw:v2"),
            ("evidence", "evidense"),
            ("eat-ucs+json", "eat-ucs+cbor"),
            (",6]", ",4]"),
            (",8]", ",9]"),
            ("5a5a", "5A5a"),
            ("pKSk", "pK=k"),
            ("nonce=5a", "nonce="),
            ("{\"__cmwc_t\"", "{\"more\":1,\"__cmwc_t\""),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            assert!(Cmw::decode(changed.as_bytes()).is_err(), "{to}");
        }
        let long = vec![0; CMW_BYTES_MAX + 1];
        assert!(matches!(Cmw::decode(&long), Err(Malformed::TooLong { .. })));
        for empty in [&b""[..], b"[", b"{", b"\xa0", b"\x80", b"\xbf\xff"] {
            assert!(Cmw::decode(empty).is_err());
        }
    }

    /// A flip makes an error, or another value of the same wrapper; a cut or an extra byte an error.
    #[test]
    fn no_byte_flipped_cut_or_added_makes_it_panic_or_read_the_same() {
        let cmw = cmw(Some(b"{\"eat_profile\":\"x\"}"));
        for bytes in [cmw.encode(), cmw.to_json().into_bytes()] {
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    assert_ne!(
                        Cmw::decode(&flipped),
                        Ok(cmw.clone()),
                        "byte {at}, bit {bit}"
                    );
                }
                assert!(Cmw::decode(&bytes[..at]).is_err(), "cut at {at}");
            }
            assert!(Cmw::decode(&[&bytes[..], b"x"].concat()).is_err());
        }
    }
}
