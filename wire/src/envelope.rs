//! The envelope: what a proxy may read of a job, signed by the payer's session key together with the encapsulated
//! key of the sealed request. A seen voucher or a seen envelope therefore binds no other job (SECURITY.md 12).
//!
//! It carries the terms of the channel that pays. The channel's address is a function of them, and the payer's key is one of them: who
//! can sign an envelope for a channel is decided by the channel alone.

use crate::cbor::{self, Malformed};
use crate::limits::{ENVELOPE_BYTES_MAX, NAME_BYTES_MAX, STATEMENT_BYTES_MAX};
use crate::{Digest, EnvelopeDigest, KeysetDigest, sha256};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use settlement::{Address, Cap, ChannelTerms, Nano, SignedCap, VerifiedCap};
use std::ops::Deref;

const WHAT: &str = "envelope";
const DOMAIN: &str = "chrysalis/envelope/v1";

/// What a job asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Endpoint {
    /// `POST /v1/embeddings`
    #[n(0)]
    Embeddings,
    /// `POST /v1/chat/completions`
    #[n(1)]
    Chat,
    /// `POST /v1/rerank`
    #[n(2)]
    Rerank,
}

impl Endpoint {
    /// All of them.
    pub const ALL: [Endpoint; 3] = [Endpoint::Embeddings, Endpoint::Chat, Endpoint::Rerank];

    /// The path of the request inside the seal.
    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Embeddings => "/v1/embeddings",
            Endpoint::Chat => "/v1/chat/completions",
            Endpoint::Rerank => "/v1/rerank",
        }
    }
}

/// Version 1 of the envelope.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Envelope {
    /// Always 1.
    #[n(0)]
    pub version: u64,
    /// Random, chosen by the client.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub job: [u8; 16],
    /// The keyset this job is sealed to.
    #[n(2)]
    pub keyset: KeysetDigest,
    /// The model's name.
    #[n(3)]
    pub model: String,
    /// The model's root, so that a name cannot be given other weights.
    #[n(4)]
    pub model_root: Digest,
    /// What is asked for.
    #[n(5)]
    pub endpoint: Endpoint,
    /// The most this job may cost.
    #[n(6)]
    #[cbor(with = "crate::cbor::nano")]
    pub cost_max: Nano,
    /// The terms of the payment channel that pays; their payer key signs this envelope.
    #[n(7)]
    #[cbor(with = "crate::cbor::terms")]
    pub terms: ChannelTerms,
    /// The payer's signature over the [`Cap`] of this job, which a charge repeats. Signing fills it in.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub cap_signature: [u8; 64],
    /// Service class; `standard` in this version.
    #[n(9)]
    pub class: String,
    /// The longest the whole answer may take, as a duration.
    #[n(10)]
    pub deadline_ms: u32,
    /// The longest the first token may take, as a duration.
    #[n(11)]
    pub first_token_ms: u32,
    /// Bytes of the sealed request, a padding bucket.
    #[n(12)]
    pub sealed_bytes: u32,
    /// The highest voucher signed for this channel so far, as `SignedVoucher::encode` writes it; absent before the first.
    #[n(13)]
    #[cbor(with = "minicbor::bytes")]
    pub voucher: Option<Vec<u8>>,
}

/// An envelope with the payer's signature, as it travels: u16 length, envelope, 64 bytes of signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedEnvelope {
    bytes: Vec<u8>,
    envelope: Envelope,
    signature: [u8; 64],
}

/// An envelope that its payer signed, with the cap in it. Only [`SignedEnvelope::verify`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedEnvelope<'a> {
    envelope: &'a Envelope,
    cap: VerifiedCap,
}

/// Why an envelope was refused. The payer, or the proxy between, is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum EnvelopeRefused {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(
        "the envelope's signature is not the payer's for this envelope and this sealed request"
    )]
    Signature,
    #[error("the cap's signature is not the payer's for this job and this cost")]
    Cap,
}

impl Envelope {
    /// The channel that pays.
    pub fn channel(&self) -> Address {
        self.terms.address()
    }

    /// What the payer allows this job to cost, with the signature that the envelope carries for it.
    pub fn cap(&self) -> SignedCap {
        SignedCap {
            cap: Cap {
                chain: self.terms.chain,
                channel: self.channel(),
                job: self.job,
                most: self.cost_max,
            },
            signature: self.cap_signature,
        }
    }

    /// Signs the cap, then the envelope together with `enc`, the encapsulated key of the sealed request.
    pub fn sign(mut self, enc: &[u8], payer: &SigningKey) -> SignedEnvelope {
        self.cap_signature = self.cap().cap.sign(payer).signature;
        let bytes = cbor::to_vec(&self);
        let signature = payer.sign(&message(&bytes, enc).0).to_bytes();
        SignedEnvelope {
            bytes,
            envelope: self,
            signature,
        }
    }

    fn check(&self) -> Result<(), Malformed> {
        let voucher = self.voucher.as_ref().map_or(0, Vec::len);
        let fields = [
            ("model", self.model.len() <= NAME_BYTES_MAX),
            ("class", self.class == "standard"),
            ("voucher", voucher <= STATEMENT_BYTES_MAX),
        ];
        cbor::check(WHAT, self.version, &fields)
    }
}

impl SignedEnvelope {
    /// The bytes that travel.
    pub fn encode(&self) -> Vec<u8> {
        let length = u16::try_from(self.bytes.len())
            .expect("an envelope is at most 1 KiB: its fields are bounded");
        [&length.to_be_bytes()[..], &self.bytes, &self.signature].concat()
    }

    /// Reads a signed envelope from the front of `bytes` and returns what follows it. The signature is not checked here.
    pub fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let cut = Malformed::NotDecodable { what: WHAT };
        let (length, rest) = bytes.split_at_checked(2).ok_or_else(|| cut.clone())?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > ENVELOPE_BYTES_MAX {
            return Err(Malformed::TooLong {
                what: WHAT,
                got: length,
                max: ENVELOPE_BYTES_MAX,
            });
        }
        let (body, rest) = rest.split_at_checked(length).ok_or_else(|| cut.clone())?;
        let (signature, rest) = rest.split_first_chunk::<64>().ok_or(cut)?;
        let envelope: Envelope = cbor::from_slice(WHAT, body, ENVELOPE_BYTES_MAX)?;
        envelope.check()?;
        Ok((
            SignedEnvelope {
                bytes: body.to_vec(),
                envelope,
                signature: *signature,
            },
            rest,
        ))
    }

    /// Decodes a signed envelope that fills `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match Self::decode_prefix(bytes)? {
            (envelope, []) => Ok(envelope),
            _ => Err(Malformed::NotCanonical { what: WHAT }),
        }
    }

    /// Checks that the payer of the channel signed this envelope with `enc`, and the cap in it.
    pub fn verify(&self, enc: &[u8]) -> Result<VerifiedEnvelope<'_>, EnvelopeRefused> {
        let payer_key = &self.envelope.terms.payer_key;
        VerifyingKey::from_bytes(payer_key)
            .and_then(|key| {
                key.verify_strict(
                    &message(&self.bytes, enc).0,
                    &Signature::from_bytes(&self.signature),
                )
            })
            .map_err(|_| EnvelopeRefused::Signature)?;
        let cap = self.envelope.cap().verify(payer_key);
        Ok(VerifiedEnvelope {
            envelope: &self.envelope,
            cap: cap.ok_or(EnvelopeRefused::Cap)?,
        })
    }

    /// The content, signature unchecked: for proxies, who route by it and trust nothing in it.
    pub fn unverified(&self) -> &Envelope {
        &self.envelope
    }

    /// The digest that travels inside the seal, too.
    pub fn digest(&self) -> EnvelopeDigest {
        EnvelopeDigest::of(&self.bytes)
    }
}

impl VerifiedEnvelope<'_> {
    /// What this job may cost, by its payer's word.
    pub fn cap(&self) -> VerifiedCap {
        self.cap
    }

    /// The channel that pays.
    pub fn channel(&self) -> Address {
        self.cap.channel
    }
}

impl Deref for VerifiedEnvelope<'_> {
    type Target = Envelope;

    fn deref(&self) -> &Envelope {
        self.envelope
    }
}

fn message(envelope: &[u8], enc: &[u8]) -> Digest {
    sha256(DOMAIN, &[envelope, enc])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal::tests::envelope;

    #[test]
    fn a_cap_that_the_payer_did_not_sign_is_refused_in_an_envelope_that_it_did() {
        let payer = SigningKey::from_bytes(&[9; 32]);
        let good = envelope(&payer).sign(b"enc", &payer);
        assert_eq!(*good.verify(b"enc").unwrap(), *good.unverified());
        // A chain would find no payer behind the charge, after the work was done.
        let mut envelope = good.unverified().clone();
        envelope.cap_signature = [0; 64];
        let bytes = cbor::to_vec(&envelope);
        let signature = payer.sign(&message(&bytes, b"enc").0).to_bytes();
        let forged = SignedEnvelope {
            bytes,
            envelope,
            signature,
        };
        let decoded = SignedEnvelope::decode(&forged.encode()).unwrap();
        assert_eq!(decoded.verify(b"enc"), Err(EnvelopeRefused::Cap));
    }
}
