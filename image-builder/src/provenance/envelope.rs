//! DSSE, the Dead Simple Signing Envelope (secure-systems-lab/dsse, version 1): bytes, their type, and signatures over both.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde::{Deserialize, Serialize};

use super::key::{PublicKey, SecretKey};
use crate::limits::{ENVELOPE_BYTES_MAX, ENVELOPE_SIGNATURES_MAX};

/// What the content of our envelopes is.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A signed statement. Its content is out of reach until [`Envelope::open`] has checked a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Signature {
    key: String,
    bytes: Vec<u8>,
}

/// As it lies in a file. Fields that we do not know are passed over, as the specification has it: nothing outside of the payload
/// is believed anyway.
#[derive(Serialize, Deserialize)]
struct File {
    #[serde(rename = "payloadType")]
    payload_type: String,
    payload: String,
    signatures: Vec<FileSignature>,
}

#[derive(Serialize, Deserialize)]
struct FileSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

/// Why an envelope tells nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum EnvelopeError {
    #[error("the envelope has {got} bytes, more than the {ENVELOPE_BYTES_MAX} allowed")]
    TooLong { got: usize },
    #[error("the envelope does not parse: {0}")]
    Syntax(String),
    #[error("the envelope's {0} is not base64")]
    Base64(&'static str),
    #[error("the envelope holds `{got}`, not a statement of type {PAYLOAD_TYPE}")]
    Type { got: String },
    #[error("the envelope has {got} signatures, more than the {ENVELOPE_SIGNATURES_MAX} allowed")]
    Signatures { got: usize },
    #[error(
        "none of the envelope's {signatures} signatures is by the key {key} over these bytes: it was changed, or somebody else \
         signed it"
    )]
    NotSigned { signatures: usize, key: String },
}

impl Envelope {
    /// Signs a statement.
    pub fn sign(payload: Vec<u8>, key: &SecretKey) -> Self {
        let signature = key.sign(&pre_authentication_encoding(PAYLOAD_TYPE, &payload));
        let key = key.public().id();
        let bytes = signature.to_vec();
        Self {
            payload,
            signatures: vec![Signature { key, bytes }],
        }
    }

    /// Reads an envelope, and believes nothing yet.
    pub fn from_json(text: &[u8]) -> Result<Self, EnvelopeError> {
        if text.len() > ENVELOPE_BYTES_MAX {
            return Err(EnvelopeError::TooLong { got: text.len() });
        }
        let file: File = serde_json::from_slice(text)
            .map_err(|error| EnvelopeError::Syntax(error.to_string()))?;
        if file.payload_type != PAYLOAD_TYPE {
            let got = file.payload_type.chars().take(80).collect();
            return Err(EnvelopeError::Type { got });
        }
        if file.signatures.len() > ENVELOPE_SIGNATURES_MAX {
            let got = file.signatures.len();
            return Err(EnvelopeError::Signatures { got });
        }
        let payload = decode(&file.payload).ok_or(EnvelopeError::Base64("payload"))?;
        let mut signatures = Vec::new();
        for signature in file.signatures {
            // Others may sign with other algorithms: what is no signature of ours fits no key of ours.
            let bytes = decode(&signature.sig).ok_or(EnvelopeError::Base64("signature"))?;
            let key = signature.keyid;
            signatures.push(Signature { key, bytes });
        }
        Ok(Self {
            payload,
            signatures,
        })
    }

    /// The file: one value, one text.
    pub fn to_json(&self) -> Vec<u8> {
        let signature = |signature: &Signature| FileSignature {
            keyid: signature.key.clone(),
            sig: STANDARD.encode(&signature.bytes),
        };
        let file = File {
            payload_type: PAYLOAD_TYPE.into(),
            payload: STANDARD.encode(&self.payload),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        let mut text = serde_json::to_vec(&file).expect("texts and lists have a JSON form");
        text.push(b'\n');
        text
    }

    /// The content, if `key` signed it. Names of keys in the envelope are not signed and decide nothing.
    pub fn open(&self, key: &PublicKey) -> Result<&[u8], EnvelopeError> {
        let message = pre_authentication_encoding(PAYLOAD_TYPE, &self.payload);
        let signed = |signature: &Signature| key.verifies(&message, &signature.bytes);
        match self.signatures.iter().any(signed) {
            true => Ok(&self.payload),
            false => Err(EnvelopeError::NotSigned {
                signatures: self.signatures.len(),
                key: key.id(),
            }),
        }
    }

    /// The content, whoever signed it or nobody. To compare with and to show, never to believe.
    pub fn insecure_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Names of keys, as whoever signed wrote them. Not signed themselves.
    pub fn insecure_key_ids(&self) -> impl Iterator<Item = &str> {
        self.signatures
            .iter()
            .map(|signature| signature.key.as_str())
    }
}

/// What is signed (DSSE protocol, "PAE"): lengths in decimal keep type and content apart.
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    [head.as_bytes(), payload].concat()
}

/// The specification allows both alphabets.
fn decode(text: &str) -> Option<Vec<u8>> {
    let standard = STANDARD.decode(text);
    standard.or_else(|_| URL_SAFE.decode(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use zeroize::Zeroizing;

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    #[test]
    fn what_is_signed_is_the_example_of_the_specification() {
        // DSSE protocol.md, "Test Vectors".
        let encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world");
        assert_eq!(
            encoded,
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn only_the_key_that_signed_opens_an_envelope() {
        let envelope = Envelope::sign(b"{}".to_vec(), &key(1));
        assert_eq!(envelope.open(&key(1).public()), Ok(&b"{}"[..]));
        assert!(matches!(
            envelope.open(&key(2).public()),
            Err(EnvelopeError::NotSigned { signatures: 1, .. })
        ));
        let text = envelope.to_json();
        assert_eq!(Envelope::from_json(&text), Ok(envelope.clone()));
        assert_eq!(Envelope::sign(b"{}".to_vec(), &key(1)), envelope);
    }

    #[test]
    fn a_second_signature_and_the_other_alphabet_do_no_harm() {
        let envelope = Envelope::sign(vec![0xfb, 0xff, 0xbe], &key(1));
        let text = String::from_utf8(envelope.to_json()).expect("JSON");
        let url_safe = text.replace("+/++", "-_--");
        assert_ne!(text, url_safe, "the content needs the signs that differ");
        let opened = Envelope::from_json(url_safe.as_bytes()).expect("reads");
        assert!(opened.open(&key(1).public()).is_ok());
        let more = text.replace(
            "\"signatures\":[",
            "\"extra\":1,\"signatures\":[{\"sig\":\"AAAA\"},",
        );
        let opened = Envelope::from_json(more.as_bytes()).expect("reads");
        assert!(opened.open(&key(1).public()).is_ok());
        assert!(opened.open(&key(2).public()).is_err());
    }

    #[test]
    fn an_envelope_with_any_byte_changed_says_the_same_or_nothing() {
        let payload = b"{\"a statement\": \"of some length\"}".to_vec();
        let text = Envelope::sign(payload.clone(), &key(3)).to_json();
        for at in 0..text.len() {
            for bit in [1, 2, 0x20, 0x80] {
                let mut changed = text.clone();
                changed[at] ^= bit;
                if let Ok(envelope) = Envelope::from_json(&changed)
                    && let Ok(opened) = envelope.open(&key(3).public())
                {
                    assert_eq!(opened, payload, "byte {at}");
                }
            }
            assert!(Envelope::from_json(&text[..at.min(text.len() - 2)]).is_err());
        }
    }

    #[test]
    fn a_bad_envelope_is_refused_with_its_reason() {
        let text = String::from_utf8(Envelope::sign(b"{}".to_vec(), &key(1)).to_json());
        let text = text.expect("JSON");
        let check = |from: &str, to: &str| {
            assert!(text.contains(from), "{from}");
            Envelope::from_json(text.replace(from, to).as_bytes()).expect_err(to)
        };
        let got = "application/json".to_owned();
        assert_eq!(check(PAYLOAD_TYPE, &got), EnvelopeError::Type { got });
        assert_eq!(check("e30=", "e3"), EnvelopeError::Base64("payload"));
        assert_eq!(
            check("\"sig\":\"", "\"sig\":\"?"),
            EnvelopeError::Base64("signature")
        );
        assert!(matches!(
            check("{\"payloadType", "[{\"payloadType"),
            EnvelopeError::Syntax(_)
        ));
        let many = "{\"sig\":\"\"},".repeat(ENVELOPE_SIGNATURES_MAX);
        assert_eq!(
            check("\"signatures\":[", &format!("\"signatures\":[{many}")),
            EnvelopeError::Signatures {
                got: ENVELOPE_SIGNATURES_MAX + 1
            }
        );
        let long = vec![b' '; ENVELOPE_BYTES_MAX + 1];
        assert_eq!(
            Envelope::from_json(&long),
            Err(EnvelopeError::TooLong { got: long.len() })
        );
    }
}
