//! A time-stamping authority of the tests: a root, a signer under it, and tokens of RFC 3161 that say whatever is wanted.

use p384::ecdsa::signature::Signer;
use p384::ecdsa::{DerSignature, SigningKey};
use sha2::{Digest, Sha256};

/// An authority. Its certificates hold from 2020 to 2040.
#[derive(Clone)]
pub struct Authority {
    /// Its root, in DER.
    pub root: Vec<u8>,
    signer: Vec<u8>,
    key: SigningKey,
}

/// What of a token is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "several tests use this file, and not each of them all"
)]
pub enum Flaw {
    None,
    /// The signature is over other attributes.
    Signature,
    /// The attributes are about another content.
    Digest,
    /// They name another certificate.
    Certificate,
    /// It says that it is something else.
    Kind,
    /// It brings no certificate.
    Alone,
}

/// Tag, length, content.
pub fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = match content.len() {
        short @ 0..=0x7f => vec![short as u8],
        long @ 0x80..=0xff => vec![0x81, long as u8],
        longer => vec![0x82, (longer >> 8) as u8, longer as u8],
    };
    [&[tag], &length[..], &content].concat()
}

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const ECDSA_SHA384: &[u8] = &[0x30, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3];
const SHA256: &[u8] = &[0x30, 11, 6, 9, 0x60, 0x86, 0x48, 0x01, 0x65, 3, 4, 2, 1];
const P384: &[u8] = &[
    0x30, 16, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 5, 0x2b, 0x81, 4, 0, 0x22,
];
const PKCS7: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1];

fn oid(last: &[u8]) -> Vec<u8> {
    der(6, &[PKCS7, last])
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed; 48]).unwrap()
}

fn sign(key: &SigningKey, message: &[u8]) -> Vec<u8> {
    let signature: DerSignature = key.sign(message);
    signature.as_bytes().to_vec()
}

fn name(common: &str) -> Vec<u8> {
    let common = der(
        SEQUENCE,
        &[&[6, 3, 0x55, 4, 3], &der(0x0c, &[common.as_bytes()])],
    );
    der(SEQUENCE, &[&der(SET, &[&common])])
}

/// A certificate of version 3 for a key, with one extension, which is critical.
fn certificate(
    (issuer, issuers): (&str, &SigningKey),
    (subject, key): (&str, &SigningKey),
    extension: &[u8],
) -> Vec<u8> {
    let point = key.verifying_key().to_sec1_point(false);
    let bits = der(3, &[&[0], point.as_bytes()]);
    let validity = der(
        SEQUENCE,
        &[
            &der(0x17, &[b"200101000000Z"]),
            &der(0x17, &[b"400101000000Z"]),
        ],
    );
    let body = der(
        SEQUENCE,
        &[
            &der(0xa0, &[&[2, 1, 2]]),
            &[2, 1, 7],
            ECDSA_SHA384,
            &name(issuer),
            &validity,
            &name(subject),
            &der(SEQUENCE, &[P384, &bits]),
            &der(0xa3, &[&der(SEQUENCE, &[extension])]),
        ],
    );
    let signature = der(3, &[&[0], &sign(issuers, &body)]);
    der(SEQUENCE, &[&body, ECDSA_SHA384, &signature])
}

fn extension(id: &[u8], value: &[u8]) -> Vec<u8> {
    der(
        SEQUENCE,
        &[&der(6, &[id]), &[1, 1, 0xff], &der(4, &[value])],
    )
}

impl Authority {
    /// The authority of a number, with a signer for time-stamps.
    pub fn new(number: u8) -> Self {
        Self::for_purpose(number, 8)
    }

    /// One whose signer is for this purpose of RFC 5280 4.2.1.12: 8 is time-stamping.
    pub fn for_purpose(number: u8, purpose: u8) -> Self {
        let (root_key, signer_key) = (key(number), key(number + 100));
        let (root, signer) = ("test root", "test authority");
        let is_authority = extension(&[0x55, 0x1d, 19], &[0x30, 3, 1, 1, 0xff]);
        let purpose = [0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, purpose];
        let purpose = extension(&[0x55, 0x1d, 37], &purpose);
        Authority {
            root: certificate((root, &root_key), (root, &root_key), &is_authority),
            signer: certificate((root, &root_key), (signer, &signer_key), &purpose),
            key: signer_key,
        }
    }

    /// An answer with a token.
    pub fn response(&self, digest: &[u8; 32], time: &str) -> Vec<u8> {
        let granted = der(SEQUENCE, &[&[2, 1, 0]]);
        der(SEQUENCE, &[&granted, &self.token(digest, time, Flaw::None)])
    }

    /// A token for a digest at a time such as `20260102030405Z`.
    pub fn token(&self, digest: &[u8; 32], time: &str, flaw: Flaw) -> Vec<u8> {
        let imprint = der(SEQUENCE, &[SHA256, &der(4, &[digest])]);
        let info = der(
            SEQUENCE,
            &[
                &[2, 1, 1],
                &[6, 3, 0x2a, 3, 4],
                &imprint,
                &[2, 2, 0x12, 0x34],
                &der(0x18, &[time.as_bytes()]),
            ],
        );
        let attributes = self.attributes(&info, flaw);
        let signed = match flaw {
            Flaw::Signature => der(SET, &[&attributes, &attributes]),
            _ => der(SET, &[&attributes]),
        };
        let signer = der(
            SEQUENCE,
            &[
                &[2, 1, 1],
                &der(SEQUENCE, &[&name("test root"), &[2, 1, 7]]),
                SHA256_OF_SIGNER,
                &der(0xa0, &[&attributes]),
                ECDSA_SHA384,
                &der(4, &[&sign(&self.key, &signed)]),
            ],
        );
        let certificates = match flaw {
            Flaw::Alone => Vec::new(),
            _ => der(0xa0, &[&self.signer]),
        };
        let content = der(0xa0, &[&der(4, &[&info])]);
        let data = der(
            SEQUENCE,
            &[
                &[2, 1, 3],
                &der(SET, &[SHA256]),
                &der(SEQUENCE, &[&oid(&[9, 16, 1, 4]), &content]),
                &certificates,
                &der(SET, &[&signer]),
            ],
        );
        der(SEQUENCE, &[&oid(&[7, 2]), &der(0xa0, &[&data])])
    }

    fn attributes(&self, info: &[u8], flaw: Flaw) -> Vec<u8> {
        let about = match flaw {
            Flaw::Digest => b"something else",
            _ => info,
        };
        let named = match flaw {
            Flaw::Certificate => &self.root,
            _ => &self.signer,
        };
        let kind: &[u8] = match flaw {
            Flaw::Kind => &[7, 1],
            _ => &[9, 16, 1, 4],
        };
        let hash = der(4, &[&Sha256::digest(named)]);
        let signer = der(SEQUENCE, &[&der(SEQUENCE, &[&der(SEQUENCE, &[&hash])])]);
        let one = |id: &[u8], value: &[u8]| der(SEQUENCE, &[&oid(id), &der(SET, &[value])]);
        [
            one(&[9, 3], &oid(kind)),
            one(&[9, 4], &der(4, &[&Sha256::digest(about)])),
            one(&[9, 16, 2, 47], &signer),
        ]
        .concat()
    }
}

/// The digest of the content.
const SHA256_OF_SIGNER: &[u8] = SHA256;
