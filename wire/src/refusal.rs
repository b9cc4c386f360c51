//! The guest's signed statement that a job was not started (SECURITY.md 14). The guest records the job as seen before it
//! signs, so that the statement stays true. Whatever is not signed means "executed: maybe", and so does a code for which
//! [`RefusalCode::proves_not_started`] is false.

use crate::cbor::{self, Malformed};
use crate::limits::REFUSAL_BYTES_MAX;
use crate::{Digest, sha256};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};

const WHAT: &str = "refusal";
const DOMAIN: &str = "chrysalis/not-started/v1";

/// Why a guest did not start a job. A peer learns the code and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[cbor(index_only)]
#[expect(missing_docs)]
pub enum RefusalCode {
    #[n(0)]
    #[error("the envelope is malformed")]
    Envelope,
    #[n(1)]
    #[error(
        "the envelope's signature is not the payer's for this envelope and this sealed request"
    )]
    EnvelopeSignature,
    #[n(2)]
    #[error("the job is sealed to a keyset that is gone; attest again and seal again")]
    StaleKeyset,
    #[n(3)]
    #[error("this worker does not offer that model with that root")]
    Model,
    #[n(4)]
    #[error("this job was seen before")]
    Replay,
    #[n(5)]
    #[error("the worker's keys have served all jobs they may; attest again later")]
    KeysWorn,
    #[n(6)]
    #[error("the sealed request does not open: it was changed on its way or sealed to another key")]
    Seal,
    #[n(7)]
    #[error("the sealed request was made for another envelope")]
    EnvelopeDigest,
    #[n(8)]
    #[error("the request inside the seal is not one this worker answers")]
    Request,
    #[n(9)]
    #[error("the job may cost more than its envelope allows")]
    CostMax,
    #[n(10)]
    #[error("the channel owes more than this worker's window; pay first")]
    Exposure,
    #[n(11)]
    #[error("the job names another chain than the keyset")]
    Chain,
    #[n(12)]
    #[error("the worker is busy")]
    Busy,
}

impl RefusalCode {
    /// Whether this code, signed for one's own envelope, proves that the job was not started and never will be. A guest
    /// names an envelope only after it has recorded the job, and a replay may have been started the first time.
    pub fn proves_not_started(self) -> bool {
        self != RefusalCode::Replay
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Statement {
    #[n(0)]
    version: u64,
    #[n(1)]
    envelope: Digest,
    #[n(2)]
    code: RefusalCode,
}

/// A refusal with the guest's signature.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct SignedRefusal {
    #[n(0)]
    statement: Statement,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    signature: [u8; 64],
}

impl SignedRefusal {
    /// Signs that the job of this envelope (by digest of the bytes received) was not started.
    pub fn sign(envelope: Digest, code: RefusalCode, receipt_key: &SigningKey) -> Self {
        let statement = Statement {
            version: 1,
            envelope,
            code,
        };
        let signature = receipt_key.sign(&message(&statement).0).to_bytes();
        SignedRefusal {
            statement,
            signature,
        }
    }

    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes; the signature is not checked here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let refusal: SignedRefusal = cbor::from_slice(WHAT, bytes, REFUSAL_BYTES_MAX)?;
        cbor::check(WHAT, refusal.statement.version, &[])?;
        Ok(refusal)
    }

    /// Which envelope the guest refused and why; `None` when the guest did not sign this. A client compares the digest
    /// with its own envelope's: a refusal of another envelope says that the envelope was changed on its way.
    pub fn verify(&self, receipt_key: &[u8; 32]) -> Option<(Digest, RefusalCode)> {
        let key = VerifyingKey::from_bytes(receipt_key).ok()?;
        key.verify_strict(
            &message(&self.statement).0,
            &Signature::from_bytes(&self.signature),
        )
        .ok()?;
        Some((self.statement.envelope, self.statement.code))
    }

    /// The code, unverified: for a proxy's log.
    pub fn unverified_code(&self) -> RefusalCode {
        self.statement.code
    }
}

fn message(statement: &Statement) -> Digest {
    sha256(DOMAIN, &[&cbor::to_vec(statement)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_receipt_key_refuses_and_every_flipped_byte_shows() {
        let key = SigningKey::from_bytes(&[5; 32]);
        let public = key.verifying_key().to_bytes();
        let refusal = SignedRefusal::sign(Digest([6; 32]), RefusalCode::Replay, &key);
        let bytes = refusal.encode();
        let verdict = |bytes: &[u8]| {
            SignedRefusal::decode(bytes)
                .ok()
                .and_then(|r| r.verify(&public))
        };
        assert_eq!(
            verdict(&bytes),
            Some((Digest([6; 32]), RefusalCode::Replay))
        );
        assert_eq!(
            refusal.verify(&SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()),
            None
        );
        for index in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[index] ^= 1;
            assert_eq!(verdict(&flipped), None, "byte {index}");
            assert_eq!(verdict(&bytes[..index]), None, "length {index}");
        }
    }
}
