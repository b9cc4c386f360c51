//! What a guest shows to be trusted, and the bundle in which a proxy carries it.

use crate::cbor::{self, Malformed};
use crate::limits::{
    BUNDLE_BYTES_MAX, COLLATERAL_BYTES_MAX, EVENTS_MAX, EVIDENCE_BYTES_MAX, KEYSET_BYTES_MAX,
    NAME_BYTES_MAX, QUOTE_BYTES_MAX,
};
use crate::{Digest, KeysetDigest, sha256};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};

/// The guest's answer to a nonce.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// Always 1.
    #[n(0)]
    pub version: u64,
    /// [`crate::Keyset::encode`].
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub keyset: Vec<u8>,
    /// A TDX quote whose report data binds the keyset and the nonce.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub quote: Vec<u8>,
    /// What RTMR3 was extended with, in order.
    #[n(3)]
    pub events: Vec<Event>,
}

/// One runtime event of RTMR3.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Event {
    /// What was measured, for people.
    #[n(0)]
    pub name: String,
    /// The SHA-384 digest that was extended.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub digest: [u8; 48],
}

/// Evidence with what the proxy adds: nothing of it is believed unsigned.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Bundle {
    /// Always 1.
    #[n(0)]
    pub version: u64,
    /// [`Evidence::encode`].
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub evidence: Vec<u8>,
    /// The payee's signature over the keyset.
    #[n(2)]
    pub endorsement: Endorsement,
    /// Intel's signed statements about the platform (TCB info, QE identity, CRLs), as JSON.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub collateral: Vec<u8>,
}

/// The stake owner's word that a keyset is its own (SECURITY.md 18).
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Endorsement(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub [u8; 64],
);

impl Endorsement {
    /// Signs a keyset's digest with the payee's key.
    pub fn sign(keyset: KeysetDigest, payee: &SigningKey) -> Self {
        Endorsement(payee.sign(&endorsed(keyset).0).to_bytes())
    }

    /// Whether `payee_key` signed this keyset's digest.
    pub fn holds(&self, keyset: KeysetDigest, payee_key: &[u8; 32]) -> bool {
        VerifyingKey::from_bytes(payee_key)
            .and_then(|key| key.verify_strict(&endorsed(keyset).0, &Signature::from_bytes(&self.0)))
            .is_ok()
    }
}

fn endorsed(keyset: KeysetDigest) -> Digest {
    sha256("chrysalis/endorsement/v1", &[&keyset.0])
}

impl Evidence {
    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes and checks sizes. Nothing is verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "evidence";
        let evidence: Evidence = cbor::from_slice(WHAT, bytes, EVIDENCE_BYTES_MAX)?;
        let names = evidence.events.iter().map(|event| event.name.len());
        let events = evidence.events.len() <= EVENTS_MAX;
        let fields = [
            ("keyset", evidence.keyset.len() <= KEYSET_BYTES_MAX),
            ("quote", evidence.quote.len() <= QUOTE_BYTES_MAX),
            ("events", events && names.max() <= Some(NAME_BYTES_MAX)),
        ];
        cbor::check(WHAT, evidence.version, &fields)?;
        Ok(evidence)
    }
}

impl Bundle {
    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes and checks sizes. Nothing is verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "evidence bundle";
        let bundle: Bundle = cbor::from_slice(WHAT, bytes, BUNDLE_BYTES_MAX)?;
        let collateral = bundle.collateral.len() <= COLLATERAL_BYTES_MAX;
        cbor::check(WHAT, bundle.version, &[("collateral", collateral)])?;
        Ok(bundle)
    }
}
