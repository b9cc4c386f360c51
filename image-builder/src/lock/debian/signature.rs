//! The signature of an `InRelease`, verified against pinned keys.
//!
//! Trusts the keys that a recipe pins by fingerprint, and the caller's clock. Promises that a [`Signed`] holds exactly the bytes
//! that one of these keys signed, with a hash that is not broken, at a time at which the key was good and which is past. The
//! packets are read by rPGP, out of a frame that we took apart and within limits; what counts is decided here.
//!
//! Sources: RFC 9580, sections 5.2 (signatures), 7 (cleartext framework) and 10.1 (certificates).

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType, SignatureVersion};
use pgp::packet::{Subpacket, SubpacketData};

use super::certificate::{Certificate, Unfit};
use super::cleartext::Cleartext;
use super::date::Date;
use crate::limits::{CLOCK_SKEW_S_MAX, SIGNATURES_MAX};
use crate::lock::recipe::Fingerprint;

/// A text that somebody of the pinned keys signed. Only [`Signed::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    text: String,
    by: Fingerprint,
    at: Date,
}

/// Why a file counts as unsigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SignatureError {
    #[error("is not plain text in UTF-8")]
    NotText,
    #[error("is not a whole cleartext-signed message")]
    NotSigned,
    #[error("has text before its signed message")]
    TextBefore,
    #[error("has text after its signature")]
    TextAfter,
    #[error("has several signed messages where one is expected")]
    SeveralMessages,
    #[error("has a header other than `Hash` in its signed message")]
    Header,
    #[error("has a line in its signed message that begins with a dash")]
    Dash,
    #[error("has a signature block of more than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    #[error("has a signature block that cannot be decoded")]
    Armour,
    #[error("has something in its signature block that is no signature: {0}")]
    Packets(String),
    #[error("has more than {max} signatures")]
    TooMany { max: usize },
    #[error("is not signed by a key that the recipe pins; its signatures are by {signers}")]
    NoPinnedKey { signers: String },
    #[error("has a wrong signature: it is not {by} that signed these bytes")]
    Wrong { by: Fingerprint },
    #[error("has a signature by {by} that is no OpenPGP signature of version 4 over a text")]
    Kind { by: Fingerprint },
    #[error("has a signature by {by} over {hash}, which is broken or too short")]
    WeakHash { by: Fingerprint, hash: String },
    #[error("has a signature by {by} with terms that this program does not know")]
    Terms { by: Fingerprint },
    #[error("has a signature by {by} of {at}, which is in the future; it is {now}")]
    Future {
        by: Fingerprint,
        at: Date,
        now: Date,
    },
    #[error("has a signature by {by} that was good until {until}; it is {now}")]
    Expired {
        by: Fingerprint,
        until: Date,
        now: Date,
    },
    #[error("is signed by {by} at {at}, when that key {why}")]
    Key {
        by: Fingerprint,
        at: Date,
        why: Unfit,
    },
}

impl Signed {
    /// Verifies a cleartext-signed message: it has to be all of `bytes`, and one of its signatures has to be good. Others may be
    /// by strangers; that is how archives change their keys.
    pub fn verify(bytes: &[u8], keys: &[Certificate], now: Date) -> Result<Self, SignatureError> {
        let message = Cleartext::split(bytes)?;
        let signatures = read(&message.signatures)?;
        let hashed = message.hashed();
        let mut refused = None;
        for signature in &signatures {
            let mut named = keys.iter().filter(|key| key.is_named_by(signature));
            let Some(key) = named.next() else {
                continue;
            };
            match check(signature, &hashed, key, now) {
                Ok(at) => {
                    return Ok(Self {
                        text: message.text,
                        by: key.fingerprint(),
                        at,
                    });
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| SignatureError::NoPinnedKey {
            signers: signers(&signatures),
        }))
    }

    /// What was signed, and nothing else of the file.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The pinned key that signed it.
    pub fn by(&self) -> Fingerprint {
        self.by
    }

    /// When, as the signature says.
    pub fn at(&self) -> Date {
        self.at
    }
}

fn read(packets: &[u8]) -> Result<Vec<Signature>, SignatureError> {
    let mut signatures = Vec::new();
    for packet in PacketParser::new(packets) {
        match packet {
            Ok(Packet::Signature(signature)) => signatures.push(signature),
            Ok(_) => return Err(SignatureError::Packets("another packet".into())),
            Err(error) => return Err(SignatureError::Packets(error.to_string())),
        }
        if signatures.len() > SIGNATURES_MAX {
            return Err(SignatureError::TooMany {
                max: SIGNATURES_MAX,
            });
        }
    }
    Ok(signatures)
}

/// When the signature was made, if it is good.
fn check(
    signature: &Signature,
    hashed: &str,
    key: &Certificate,
    now: Date,
) -> Result<Date, SignatureError> {
    let by = key.fingerprint();
    let version = signature.version() == SignatureVersion::V4;
    if !version || signature.typ() != Some(SignatureType::Text) {
        return Err(SignatureError::Kind { by });
    }
    let hash = signature.hash_alg();
    if !hash.is_some_and(is_strong) {
        let hash = hash.map_or_else(String::new, |hash| hash.to_string());
        return Err(SignatureError::WeakHash { by, hash });
    }
    // First of all whether it is real: nothing that it says counts before.
    if !key.made(signature, hashed) {
        return Err(SignatureError::Wrong { by });
    }
    let at = made_at(signature).ok_or(SignatureError::Terms { by })?;
    if at.unix_s > now.unix_s + CLOCK_SKEW_S_MAX {
        return Err(SignatureError::Future { by, at, now });
    }
    if let Some(until) = ends_at(signature, at)
        && until <= now
    {
        return Err(SignatureError::Expired { by, until, now });
    }
    key.fit_to_sign(signature, at)
        .map_err(|why| SignatureError::Key { by, at, why })?;
    Ok(at)
}

/// The time in the signed part of a signature, if that part has nothing that must be understood and is not.
pub(super) fn made_at(signature: &Signature) -> Option<Date> {
    let config = signature.config()?;
    let mut times = Vec::new();
    for Subpacket {
        is_critical, data, ..
    } in config.hashed_subpackets()
    {
        match data {
            SubpacketData::SignatureCreationTime(time) => times.push(time.as_secs()),
            SubpacketData::Notation(_)
            | SubpacketData::Experimental(..)
            | SubpacketData::Other(..)
            | SubpacketData::RegularExpression(_)
                if *is_critical =>
            {
                return None;
            }
            _ => {}
        }
    }
    match times[..] {
        [time] => Some(Date {
            unix_s: time.into(),
        }),
        _ => None,
    }
}

/// When a signature made at `at` ends by itself, if ever.
pub(super) fn ends_at(signature: &Signature, at: Date) -> Option<Date> {
    let seconds = signature.signature_expiration_time()?.as_secs();
    (seconds > 0).then(|| Date {
        unix_s: at.unix_s + i64::from(seconds),
    })
}

/// Whether nobody can find two texts with one value of this hash.
pub(super) fn is_strong(hash: HashAlgorithm) -> bool {
    matches!(
        hash,
        HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512
    )
}

fn signers(signatures: &[Signature]) -> String {
    let name = |signature: &Signature| {
        let prints = signature.issuer_fingerprint();
        let print = prints.first().map(|print| format!("{print:X}"));
        let ids = signature.issuer_key_id();
        print.or_else(|| ids.first().map(|id| id.to_string()))
    };
    let names: Vec<_> = signatures
        .iter()
        .map(|signature| name(signature).unwrap_or_else(|| "nobody".into()))
        .collect();
    match names.is_empty() {
        true => "nobody".into(),
        false => names.join(", "),
    }
}
