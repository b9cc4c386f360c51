//! What a guest shows to be trusted, and the bundle in which a proxy carries it.

use crate::cbor::{self, Malformed};
use crate::limits::{
    BUNDLE_BYTES_MAX, COLLATERAL_BYTES_MAX, EVENTS_MAX, EVIDENCE_BYTES_MAX, KEYSET_BYTES_MAX,
    NAME_BYTES_MAX, QUOTE_BYTES_MAX,
};
use crate::{Digest, GpuCollateral, GpuReport, KeysetDigest, sha256};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use settlement::ChainId;

/// The guest's answer to a nonce.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    /// 1, or 2 with a GPU.
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
    /// What the guest's GPU signed for this keyset; the report data binds it.
    #[n(4)]
    pub gpu: Option<GpuReport>,
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
    /// 1, or 2 with a delegated endorsement; 3 about a guest with a GPU, however it is endorsed.
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
    /// NVIDIA's signed statements about the guest's GPU.
    #[n(4)]
    pub gpu: Option<GpuCollateral>,
}

/// The stake owner's word that a keyset is its own (SECURITY.md 18). On the wire it is a byte string: 64 bytes of a signature, or
/// 164 bytes of a delegation and a signature, in bundles of version 2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endorsement {
    /// Signed by the payee's own key.
    Direct([u8; 64]),
    /// Signed by a key that the payee's key vouches for, so that the payee's key need not be where the proxy is.
    Delegated {
        /// The payee's word for the key.
        delegation: Delegation,
        /// Of that key.
        signature: [u8; 64],
    },
}

/// The payee's word that another key may endorse keysets until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delegation {
    /// The public key.
    pub endorser: [u8; 32],
    /// The last second in which it may.
    pub until_unix_s: u32,
    /// Of the payee's key, over `H(chrysalis/delegation/v1; chain, endorser, until)`.
    pub signature: [u8; 64],
}

impl Delegation {
    /// Bytes of its encoding: key, moment (big endian), signature.
    pub const BYTES: usize = 32 + 4 + 64;

    /// Signs with the payee's key, for one chain.
    pub fn sign(endorser: [u8; 32], until_unix_s: u32, chain: ChainId, payee: &SigningKey) -> Self {
        let signed = delegated(&endorser, until_unix_s, chain);
        Delegation {
            endorser,
            until_unix_s,
            signature: payee.sign(&signed.0).to_bytes(),
        }
    }

    /// Whether `payee_key` vouches for the endorser on this chain at this moment.
    pub fn holds(&self, payee_key: &[u8; 32], chain: ChainId, now_unix_s: u64) -> bool {
        let signed = delegated(&self.endorser, self.until_unix_s, chain);
        now_unix_s <= self.until_unix_s.into() && verifies(payee_key, &signed, &self.signature)
    }

    /// As bytes, one form per value.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..32].copy_from_slice(&self.endorser);
        bytes[32..36].copy_from_slice(&self.until_unix_s.to_be_bytes());
        bytes[36..].copy_from_slice(&self.signature);
        bytes
    }

    /// From those bytes; nothing is verified here.
    pub fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let (endorser, rest) = bytes.split_first_chunk().expect("100 bytes");
        let (until, rest) = rest.split_first_chunk().expect("68 bytes");
        Delegation {
            endorser: *endorser,
            until_unix_s: u32::from_be_bytes(*until),
            signature: *rest.first_chunk().expect("64 bytes"),
        }
    }
}

impl Endorsement {
    /// Signs a keyset's digest with the payee's key.
    pub fn sign(keyset: KeysetDigest, payee: &SigningKey) -> Self {
        Endorsement::Direct(payee.sign(&endorsed(keyset).0).to_bytes())
    }

    /// Signs a keyset's digest with the key that the payee delegated to.
    pub fn sign_delegated(
        keyset: KeysetDigest,
        delegation: Delegation,
        endorser: &SigningKey,
    ) -> Self {
        Endorsement::Delegated {
            delegation,
            signature: endorser.sign(&endorsed(keyset).0).to_bytes(),
        }
    }

    /// Whether `payee_key`, or a key that it vouches for on this chain at this moment, signed this keyset's digest.
    pub fn holds(
        &self,
        keyset: KeysetDigest,
        payee_key: &[u8; 32],
        chain: ChainId,
        now_unix_s: u64,
    ) -> bool {
        let signed = endorsed(keyset);
        match self {
            Endorsement::Direct(signature) => verifies(payee_key, &signed, signature),
            Endorsement::Delegated {
                delegation,
                signature,
            } => {
                delegation.holds(payee_key, chain, now_unix_s)
                    && verifies(&delegation.endorser, &signed, signature)
            }
        }
    }

    /// The key that signed the keyset's digest, where `payee_key` is the payee's.
    pub fn key(&self, payee_key: &[u8; 32]) -> [u8; 32] {
        match self {
            Endorsement::Direct(_) => *payee_key,
            Endorsement::Delegated { delegation, .. } => delegation.endorser,
        }
    }
}

impl<C> Encode<C> for Endorsement {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        match self {
            Endorsement::Direct(signature) => encoder.bytes(signature)?,
            Endorsement::Delegated {
                delegation,
                signature,
            } => encoder.bytes(&[&delegation.encode()[..], signature].concat())?,
        };
        Ok(())
    }
}

impl<'b, C> Decode<'b, C> for Endorsement {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        _: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        let bytes = decoder.bytes()?;
        if let Ok(signature) = bytes.try_into() {
            return Ok(Endorsement::Direct(signature));
        }
        let parts = bytes.split_first_chunk::<{ Delegation::BYTES }>();
        match parts.map(|(delegation, rest)| (delegation, rest.try_into())) {
            Some((delegation, Ok(signature))) => Ok(Endorsement::Delegated {
                delegation: Delegation::decode(delegation),
                signature,
            }),
            _ => Err(minicbor::decode::Error::message(
                "an endorsement has 64 or 164 bytes",
            )),
        }
    }
}

fn verifies(key: &[u8; 32], signed: &Digest, signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(&signed.0, &Signature::from_bytes(signature)))
        .is_ok()
}

fn delegated(endorser: &[u8; 32], until_unix_s: u32, chain: ChainId) -> Digest {
    let (chain, until) = (chain.0.to_be_bytes(), until_unix_s.to_be_bytes());
    sha256("chrysalis/delegation/v1", &[&chain, endorser, &until])
}

fn endorsed(keyset: KeysetDigest) -> Digest {
    sha256("chrysalis/endorsement/v1", &[&keyset.0])
}

/// Refuses another version than that of what is in it.
fn check_version(what: &'static str, got: u64, has: u64) -> Result<(), Malformed> {
    match got == has {
        true => Ok(()),
        false => Err(Malformed::Version { what, got }),
    }
}

impl Evidence {
    /// Evidence of the version that it has.
    pub fn new(
        keyset: Vec<u8>,
        quote: Vec<u8>,
        events: Vec<Event>,
        gpu: Option<GpuReport>,
    ) -> Self {
        let mut evidence = Evidence {
            version: 0,
            keyset,
            quote,
            events,
            gpu,
        };
        evidence.version = evidence.version_it_has();
        evidence
    }

    fn version_it_has(&self) -> u64 {
        1 + u64::from(self.gpu.is_some())
    }

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
        let gpu = evidence.gpu.as_ref().is_none_or(GpuReport::fits);
        let fields = [
            ("keyset", evidence.keyset.len() <= KEYSET_BYTES_MAX),
            ("quote", evidence.quote.len() <= QUOTE_BYTES_MAX),
            ("events", events && names.max() <= Some(NAME_BYTES_MAX)),
            ("gpu", gpu),
        ];
        check_version(WHAT, evidence.version, evidence.version_it_has())?;
        cbor::check(WHAT, 1, &fields)?;
        Ok(evidence)
    }
}

impl Bundle {
    /// A bundle of the version that it has.
    pub fn new(
        evidence: Vec<u8>,
        endorsement: Endorsement,
        collateral: Vec<u8>,
        gpu: Option<GpuCollateral>,
    ) -> Self {
        let mut bundle = Bundle {
            version: 0,
            evidence,
            endorsement,
            collateral,
            gpu,
        };
        bundle.version = bundle.version_it_has();
        bundle
    }

    fn version_it_has(&self) -> u64 {
        match (&self.gpu, &self.endorsement) {
            (Some(_), _) => 3,
            (None, Endorsement::Direct(_)) => 1,
            (None, Endorsement::Delegated { .. }) => 2,
        }
    }

    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes and checks sizes. Nothing is verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        const WHAT: &str = "evidence bundle";
        let bundle: Bundle = cbor::from_slice(WHAT, bytes, BUNDLE_BYTES_MAX)?;
        let collateral = bundle.collateral.len() <= COLLATERAL_BYTES_MAX;
        let gpu = bundle.gpu.as_ref().is_none_or(GpuCollateral::fits);
        check_version(WHAT, bundle.version, bundle.version_it_has())?;
        cbor::check(WHAT, 1, &[("collateral", collateral), ("gpu", gpu)])?;
        Ok(bundle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: ChainId = ChainId::EMBEDDED;

    #[test]
    fn a_delegated_endorsement_holds_for_its_payee_chain_keyset_and_time_alone() {
        let [payee, endorser, other] = [1, 2, 3].map(|n| SigningKey::from_bytes(&[n; 32]));
        let public = |key: &SigningKey| key.verifying_key().to_bytes();
        let keyset = KeysetDigest::of(b"keyset");
        let delegation = Delegation::sign(public(&endorser), 1_000, CHAIN, &payee);
        let good = Endorsement::sign_delegated(keyset, delegation, &endorser);
        let holds = |endorsement: &Endorsement, payee: &SigningKey, chain, now| {
            endorsement.holds(keyset, &public(payee), chain, now)
        };
        assert!(holds(&good, &payee, CHAIN, 1_000));
        assert!(!holds(&good, &payee, CHAIN, 1_001));
        assert!(!holds(&good, &payee, ChainId::TESTNET, 1_000));
        assert!(!holds(&good, &other, CHAIN, 1_000));
        assert!(!good.holds(KeysetDigest::of(b"another"), &public(&payee), CHAIN, 1));
        let stranger = Endorsement::sign_delegated(keyset, delegation, &other);
        assert!(!holds(&stranger, &payee, CHAIN, 1));
        // Nobody lends itself the payee's name.
        let own = Delegation::sign(public(&other), 1_000, CHAIN, &other);
        let own = Endorsement::sign_delegated(keyset, own, &other);
        assert!(!holds(&own, &payee, CHAIN, 1));
        // The endorser is no payee: alone it endorses nothing.
        let alone = Endorsement::sign(keyset, &endorser);
        assert!(!holds(&alone, &payee, CHAIN, 1));
    }

    #[test]
    fn a_bundle_has_the_version_of_its_endorsement() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let keyset = KeysetDigest::of(b"keyset");
        let delegation = Delegation::sign([2; 32], 1_000, CHAIN, &key);
        assert_eq!(Delegation::decode(&delegation.encode()), delegation);
        let direct = Endorsement::sign(keyset, &key);
        let delegated = Endorsement::sign_delegated(keyset, delegation, &key);
        for (endorsement, own, other) in [(direct, 1, 2), (delegated, 2, 1)] {
            let bundle = |version| Bundle {
                version,
                evidence: vec![1],
                endorsement: endorsement.clone(),
                collateral: vec![2],
                gpu: None,
            };
            assert_eq!(Bundle::decode(&bundle(own).encode()), Ok(bundle(own)));
            for version in [0, other, 3] {
                assert!(Bundle::decode(&bundle(version).encode()).is_err());
            }
        }
        let bytes =
            |length: usize| minicbor::to_vec(minicbor::bytes::ByteVec::from(vec![7; length]));
        for length in [0, 63, 65, 100, 163, 165] {
            let bytes = bytes(length).expect("encoded");
            assert!(minicbor::decode::<Endorsement>(&bytes).is_err(), "{length}");
        }
    }
}
