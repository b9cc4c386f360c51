//! A signed statement, in the form in which OpenSSF Model Signing keeps it: a DSSE envelope in a Sigstore bundle, with a key and
//! without a transparency log.
//!
//! Source: `bundle/v0.3` of sigstore/protobuf-specs, in the JSON that the Python package `model-signing` 1.1.1 writes and reads. That
//! package takes ECDSA keys; one of P-256 makes a file that it verifies. With Ed25519 it is one only for us.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::{Signer as _, Verifier as _};
use p256::ecdsa::{DerSignature, SigningKey, VerifyingKey};
use p256::pkcs8::{DecodePrivateKey, DecodePublicKey, EncodePublicKey, LineEnding};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::error::{Error, error};
use crate::limits::ENVELOPE_SIGNATURES_MAX;
use crate::provenance::{
    KeyError, PAYLOAD_TYPE, PublicKey, SecretKey, pre_authentication_encoding,
};
use ::model::limits::DESCRIPTION_BYTES_MAX;

/// A key that signs a statement about a model.
pub enum ModelSigner {
    /// RFC 8032.
    Ed25519(SecretKey),
    /// ECDSA with SHA-256, its nonces those of RFC 6979: the same statement has the same signature.
    P256(SigningKey),
}

/// A key that such signatures are checked with.
#[derive(Debug, Clone)]
pub enum ModelVerifier {
    /// See [`ModelSigner`].
    Ed25519(PublicKey),
    /// See [`ModelSigner`].
    P256(VerifyingKey),
}

impl ModelSigner {
    /// Reads `PRIVATE KEY` (PKCS#8 in PEM), as OpenSSL's `genpkey` writes it.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let ed25519 = SecretKey::from_pem(text);
        let Err(KeyError::Kind) = ed25519 else {
            return ed25519.map(Self::Ed25519);
        };
        let text = std::str::from_utf8(text).map_err(|_| KeyError::Kind)?;
        let p256 = SigningKey::from_pkcs8_pem(text).map_err(|_| KeyError::Kind)?;
        Ok(Self::P256(p256))
    }

    /// The other half.
    pub fn verifier(&self) -> ModelVerifier {
        match self {
            Self::Ed25519(key) => ModelVerifier::Ed25519(key.public()),
            Self::P256(key) => ModelVerifier::P256(*key.verifying_key()),
        }
    }

    /// A statement with its signature.
    pub fn sign(&self, statement: &[u8]) -> Vec<u8> {
        let message = pre_authentication_encoding(PAYLOAD_TYPE, statement);
        let signature = match self {
            Self::Ed25519(key) => key.sign(&message).to_vec(),
            Self::P256(key) => {
                let signature: DerSignature = key.sign(&message);
                signature.as_bytes().to_vec()
            }
        };
        let bundle = Bundle {
            media_type: MEDIA_TYPE.into(),
            verification_material: Material {
                public_key: Hint {
                    hint: self.verifier().hint(),
                },
                tlog_entries: [],
            },
            dsse_envelope: Envelope {
                payload: STANDARD.encode(statement),
                payload_type: PAYLOAD_TYPE.into(),
                signatures: vec![Signature {
                    sig: STANDARD.encode(signature),
                    keyid: String::new(),
                }],
            },
        };
        let mut text = serde_json::to_vec_pretty(&bundle).expect("text has a JSON form");
        text.push(b'\n');
        text
    }
}

impl ModelVerifier {
    /// Reads `PUBLIC KEY` (PEM), as OpenSSL's `pkey -pubout` writes it.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let ed25519 = PublicKey::from_pem(text);
        let Err(KeyError::Kind) = ed25519 else {
            return ed25519.map(Self::Ed25519);
        };
        let text = std::str::from_utf8(text).map_err(|_| KeyError::Kind)?;
        let p256 = VerifyingKey::from_public_key_pem(text).map_err(|_| KeyError::Kind)?;
        Ok(Self::P256(p256))
    }

    /// SHA-256 of the key's PEM file, in hex: how the bundle names it. It helps to find a key and proves nothing.
    pub fn hint(&self) -> String {
        let pem = match self {
            Self::Ed25519(key) => key.to_pem(),
            Self::P256(key) => key
                .to_public_key_pem(LineEnding::LF)
                .expect("a point of the curve has a PEM form"),
        };
        hex::encode(Sha256::digest(pem))
    }

    fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Ed25519(key) => key.verifies(message, signature),
            Self::P256(key) => DerSignature::from_bytes(signature)
                .is_ok_and(|signature| key.verify(message, &signature).is_ok()),
        }
    }
}

/// The statement of a file that is a bundle, and whether a key signed it. What is in a bundle beside that is not signed and not
/// believed. `None` if the file is no bundle.
pub(super) fn open(text: &[u8], key: Option<&ModelVerifier>) -> Result<Option<Vec<u8>>, Error> {
    let refuse = |problem| error!(Volume, "the statement about the files {problem}");
    if text.len() > DESCRIPTION_BYTES_MAX {
        return Err(refuse("is too long"));
    }
    let Ok(bundle) = serde_json::from_slice::<Bundle>(text) else {
        return Ok(None);
    };
    let Envelope {
        payload,
        payload_type,
        signatures,
    } = bundle.dsse_envelope;
    if bundle.media_type != MEDIA_TYPE || payload_type != PAYLOAD_TYPE {
        return Err(refuse("is in a bundle or an envelope of another type"));
    }
    if signatures.len() > ENVELOPE_SIGNATURES_MAX {
        return Err(refuse("has too many signatures"));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| refuse("is not base64"));
    let payload = decode(&payload)?;
    let message = pre_authentication_encoding(PAYLOAD_TYPE, &payload);
    let mut signed = key.is_none();
    for signature in &signatures {
        let signature = decode(&signature.sig)?;
        signed |= key.is_some_and(|key| key.verifies(&message, &signature));
    }
    match signed {
        true => Ok(Some(payload)),
        false => Err(refuse("is not signed by this key")),
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: Hint,
    tlog_entries: [(); 0],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Hint {
    hint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: String,
    #[serde(default)]
    keyid: String,
}

const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
