//! OpenPGP certificates that a recipe pins: a key, its subkeys, and what it says of itself.
//!
//! The fingerprint is what is believed. It covers the primary key only, so everything else in the file, names, subkeys, dates,
//! revocations, counts as far as the primary key signed it.

use std::fmt;

use pgp::composed::{Deserializable, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{RevocationCode, Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};

use super::armor;
use super::date::Date;
use super::signature::{ends_at, is_strong, made_at};
use crate::limits::CERTIFICATE_BYTES_MAX;
use crate::lock::recipe::Fingerprint;

/// A certificate whose fingerprint is the pinned one.
#[derive(Debug, Clone)]
pub struct Certificate {
    key: SignedPublicKey,
    fingerprint: Fingerprint,
}

/// Why a file is not the certificate that a recipe pins.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum KeyError {
    #[error("has more than {bytes_max} bytes")]
    TooLong { bytes_max: usize },
    #[error("is not an OpenPGP certificate in ASCII armour: {0}")]
    Broken(String),
    #[error("has the fingerprint {got} where the recipe pins {expected}")]
    Other { got: String, expected: Fingerprint },
    #[error("has a key of the kind {kind}, which signs nothing here")]
    Kind { kind: String },
}

/// Why a key must not have signed at that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It did not exist.
    NotYet,
    /// Its time was over.
    Expired(Date),
    /// Its owner had revoked it.
    Revoked,
    /// Its owner did not allow it to sign.
    NotForSigning,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet => f.write_str("did not exist yet"),
            Self::Expired(at) => write!(f, "was expired, since {at}"),
            Self::Revoked => f.write_str("was revoked"),
            Self::NotForSigning => f.write_str("was not allowed to sign"),
        }
    }
}

impl Certificate {
    /// Reads a certificate and holds it against its pin.
    pub fn parse(text: &str, pinned: Fingerprint) -> Result<Self, KeyError> {
        if text.len() > CERTIFICATE_BYTES_MAX {
            return Err(KeyError::TooLong {
                bytes_max: CERTIFICATE_BYTES_MAX,
            });
        }
        let bytes = armor::decode(text, "PUBLIC KEY BLOCK");
        let bytes = bytes.ok_or_else(|| KeyError::Broken("the armour".into()))?;
        let key = SignedPublicKey::from_bytes(&bytes[..])
            .map_err(|error| KeyError::Broken(error.to_string()))?;
        let got = key.fingerprint();
        if got.as_bytes() != pinned.0 {
            return Err(KeyError::Other {
                got: format!("{got:X}"),
                expected: pinned,
            });
        }
        let certificate = Self {
            key,
            fingerprint: pinned,
        };
        let kinds = certificate.key.public_subkeys.iter();
        let kinds = kinds
            .map(|subkey| subkey.algorithm())
            .chain([certificate.key.algorithm()]);
        match kinds.into_iter().find(|kind| is_forbidden(*kind)) {
            Some(kind) => Err(KeyError::Kind {
                kind: format!("{kind:?}"),
            }),
            None => Ok(certificate),
        }
    }

    /// Of its primary key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether the signature says that it is by this certificate. That is a hint where to look, and nothing more.
    pub(super) fn is_named_by(&self, signature: &Signature) -> bool {
        names(signature, &self.key.primary_key) || self.subkey_of(signature).is_some()
    }

    /// Whether the key that the signature names made it over these bytes.
    pub(super) fn made(&self, signature: &Signature, hashed: &str) -> bool {
        let bytes = hashed.as_bytes();
        match self.subkey_of(signature) {
            Some(subkey) => signature.verify(&subkey.key, bytes).is_ok(),
            None => signature.verify(&self.key.primary_key, bytes).is_ok(),
        }
    }

    /// Whether the key that the signature names was good for that at the time `at`.
    pub(super) fn fit_to_sign(&self, signature: &Signature, at: Date) -> Result<(), Unfit> {
        let primary = self.primary_at(at)?;
        match self.subkey_of(signature) {
            None if primary.key_flags().sign() => Ok(()),
            None => Err(Unfit::NotForSigning),
            Some(subkey) => self.subkey_at(subkey, at),
        }
    }

    fn subkey_of(&self, signature: &Signature) -> Option<&SignedPublicSubKey> {
        let mut subkeys = self.key.public_subkeys.iter();
        subkeys.find(|subkey| names(signature, &subkey.key))
    }

    /// What the primary key said of itself last, before `at`.
    fn primary_at(&self, at: Date) -> Result<&Signature, Unfit> {
        let primary = &self.key.primary_key;
        let details = &self.key.details;
        for revocation in &details.revocation_signatures {
            refuse_revoked(revocation, revocation.verify_key(primary).is_ok(), at)?;
        }
        let certified = details.users.iter().flat_map(|user| {
            let by_itself = |signature: &&Signature| {
                signature
                    .verify_certification(primary, Tag::UserId, &user.id)
                    .is_ok()
            };
            let own: Vec<_> = user.signatures.iter().filter(by_itself).collect();
            let revoked = own
                .iter()
                .any(|signature| signature.typ() == Some(SignatureType::CertRevocation));
            if revoked { Vec::new() } else { own }
        });
        let direct = details.direct_signatures.iter();
        let direct = direct.filter(|signature| {
            let kind = signature.typ() == Some(SignatureType::Key);
            kind && signature.verify_key(primary).is_ok()
        });
        let latest = latest(certified.chain(direct), at).ok_or(Unfit::NotForSigning)?;
        refuse_out_of_time(primary, latest, at)?;
        Ok(latest)
    }

    fn subkey_at(&self, subkey: &SignedPublicSubKey, at: Date) -> Result<(), Unfit> {
        let primary = &self.key.primary_key;
        let of_kind = |kind| {
            let signatures = subkey.signatures.iter();
            signatures.filter(move |signature| signature.typ() == Some(kind))
        };
        let by_primary = |signature: &Signature| {
            signature
                .verify_subkey_binding(primary, &subkey.key)
                .is_ok()
        };
        for revocation in of_kind(SignatureType::SubkeyRevocation) {
            refuse_revoked(revocation, by_primary(revocation), at)?;
        }
        let bound = of_kind(SignatureType::SubkeyBinding).filter(|binding| by_primary(binding));
        let binding = latest(bound, at).ok_or(Unfit::NotForSigning)?;
        // Without the subkey's own word anybody could claim somebody else's key, and with it that key's signatures.
        let agreed = binding.embedded_signature().is_some_and(|back| {
            let strong = back.hash_alg().is_some_and(is_strong);
            strong
                && back
                    .verify_primary_key_binding(&subkey.key, primary)
                    .is_ok()
        });
        if !binding.key_flags().sign() || !agreed {
            return Err(Unfit::NotForSigning);
        }
        refuse_out_of_time(&subkey.key, binding, at)
    }
}

/// Whether the signature says that it is by `key`.
fn names(signature: &Signature, key: &impl KeyDetails) -> bool {
    let prints = signature.issuer_fingerprint();
    // A key ID has 64 bits, of which anybody can make another key; a fingerprint beside it decides.
    if !prints.is_empty() {
        return prints.iter().any(|print| **print == key.fingerprint());
    }
    let ids = signature.issuer_key_id();
    ids.iter().any(|id| **id == key.legacy_key_id())
}

/// The latest of signatures that were good at the time `at`.
fn latest<'a>(signatures: impl Iterator<Item = &'a Signature>, at: Date) -> Option<&'a Signature> {
    let good = signatures.filter_map(|signature| {
        let strong = signature.hash_alg().is_some_and(is_strong);
        let made = made_at(signature).filter(|made| strong && *made <= at)?;
        let over = ends_at(signature, made).is_some_and(|end| end <= at);
        (!over).then_some((made, signature))
    });
    good.max_by_key(|(made, _)| *made)
        .map(|(_, signature)| signature)
}

/// A revocation counts from the beginning unless it says that the key was merely replaced. One that cannot be verified counts
/// too: a file that pretends a revocation is not a file to trust.
fn refuse_revoked(revocation: &Signature, verified: bool, at: Date) -> Result<(), Unfit> {
    let replaced = matches!(
        revocation.revocation_reason_code(),
        Some(RevocationCode::KeySuperseded | RevocationCode::KeyRetired)
    );
    let later = made_at(revocation).is_some_and(|made| made > at);
    match verified && replaced && later {
        true => Ok(()),
        false => Err(Unfit::Revoked),
    }
}

/// Holds the time against the key's beginning, and against the end that `said` gives it.
fn refuse_out_of_time(key: &impl KeyDetails, said: &Signature, at: Date) -> Result<(), Unfit> {
    let begin = i64::from(key.created_at().as_secs());
    if at.unix_s < begin {
        return Err(Unfit::NotYet);
    }
    let seconds = said
        .key_expiration_time()
        .map_or(0, |seconds| seconds.as_secs());
    let end = Date {
        unix_s: begin + i64::from(seconds),
    };
    match seconds > 0 && end <= at {
        true => Err(Unfit::Expired(end)),
        false => Ok(()),
    }
}

/// DSA and ElGamal are older than the rest of this; what is not known cannot be believed.
fn is_forbidden(kind: PublicKeyAlgorithm) -> bool {
    !matches!(
        kind,
        PublicKeyAlgorithm::RSA
            | PublicKeyAlgorithm::RSASign
            | PublicKeyAlgorithm::EdDSALegacy
            | PublicKeyAlgorithm::Ed25519
            | PublicKeyAlgorithm::ECDSA
            // For encryption; it cannot sign and harms nobody.
            | PublicKeyAlgorithm::ECDH
            | PublicKeyAlgorithm::X25519
    )
}
