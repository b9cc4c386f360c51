//! The guest's signed statement that a job was not started (SECURITY.md 14). The guest records the job as seen before it
//! signs, so that the statement stays true. Whatever is not signed means "executed: maybe", and so does what
//! [`RefusalCode::proves_not_started`] says no to.
//!
//! A refusal names its subject by kind: an envelope whose payer signed it, or bytes that are none. Bytes that a host cut from a true
//! envelope and sent alone are refused as bytes, and that says nothing of the envelope.

use crate::cbor::{self, Malformed};
use crate::limits::REFUSAL_BYTES_MAX;
use crate::{Digest, EnvelopeDigest, UnreadDigest, sha256};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use minicbor::{Decode, Encode};
use settlement::Nano;

const WHAT: &str = "refusal";
const DOMAIN: &str = "chrysalis/not-started/v1";

/// What is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Subject {
    /// The job of an envelope that its payer signed.
    #[n(0)]
    Envelope(#[n(0)] EnvelopeDigest),
    /// Bytes that came as an envelope and are none, or that nobody is known to have signed.
    #[n(1)]
    Unread(#[n(0)] UnreadDigest),
}

/// Why a guest did not start a job. It travels in the clear, so it holds nothing that was inside the seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, thiserror::Error)]
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
    #[error(
        "the channel owes {owed} nanoTON and jobs that run may cost more; at most {max} are lent, so pay first"
    )]
    Exposure {
        #[n(0)]
        #[cbor(with = "crate::cbor::nano")]
        owed: Nano,
        #[n(1)]
        #[cbor(with = "crate::cbor::nano")]
        max: Nano,
    },
    #[n(11)]
    #[error("the channel is on another chain than the keyset")]
    Chain,
    #[n(12)]
    #[error("the worker is busy")]
    Busy,
    #[n(13)]
    #[error("the channel pays another payee than the keyset names")]
    Payee,
    #[n(14)]
    #[error("the channel's close delay is {got_s} s; {min_s} to {max_s} are accepted")]
    CloseDelay {
        #[n(0)]
        got_s: u32,
        #[n(1)]
        min_s: u32,
        #[n(2)]
        max_s: u32,
    },
    #[n(15)]
    #[error("the voucher is not the payer's for this channel")]
    Voucher,
    #[n(16)]
    #[error(
        "{max} jobs of this channel were refused after the worker had opened them; it opens no more of them under these keys"
    )]
    Quota {
        #[n(0)]
        max: u64,
    },
    #[n(17)]
    #[error("the worker's keys serve no more jobs of channels that have paid nothing under them")]
    Unpaid,
    #[n(18)]
    #[error("its client cancelled the job before it started")]
    Cancelled,
}

impl RefusalCode {
    /// Whether this code, signed for one's own envelope by the receipt key of the keyset that it names, proves that the job
    /// was not started and never will be: the guest has recorded the job, or the reason lies in the envelope. A replay may have been started the first time, and what a quota kept out was not
    /// recorded: it may be let in later.
    pub fn proves_not_started(self) -> bool {
        !matches!(
            self,
            RefusalCode::Replay | RefusalCode::Quota { .. } | RefusalCode::Unpaid
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct Statement {
    #[n(0)]
    version: u64,
    #[n(1)]
    subject: Subject,
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
    /// Signs that this was not started.
    pub fn sign(subject: Subject, code: RefusalCode, receipt_key: &SigningKey) -> Self {
        let statement = Statement {
            version: 1,
            subject,
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

    /// What the guest refused and why; `None` when the guest did not sign this. A client compares the subject with its own envelope:
    /// a refusal of anything else says that the envelope was changed on its way.
    pub fn verify(&self, receipt_key: &[u8; 32]) -> Option<(Subject, RefusalCode)> {
        let key = VerifyingKey::from_bytes(receipt_key).ok()?;
        key.verify_strict(
            &message(&self.statement).0,
            &Signature::from_bytes(&self.signature),
        )
        .ok()?;
        Some((self.statement.subject, self.statement.code))
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
        let owed = RefusalCode::Exposure {
            owed: Nano(7),
            max: Nano(u64::MAX),
        };
        for (subject, code) in [
            (
                Subject::Envelope(EnvelopeDigest([6; 32])),
                RefusalCode::Replay,
            ),
            (Subject::Unread(UnreadDigest([6; 32])), owed),
        ] {
            let refusal = SignedRefusal::sign(subject, code, &key);
            let bytes = refusal.encode();
            let verdict = |bytes: &[u8]| {
                SignedRefusal::decode(bytes)
                    .ok()
                    .and_then(|r| r.verify(&public))
            };
            assert_eq!(verdict(&bytes), Some((subject, code)));
            let other = SigningKey::from_bytes(&[7; 32]).verifying_key();
            assert_eq!(refusal.verify(&other.to_bytes()), None);
            for index in 0..bytes.len() {
                let mut flipped = bytes.clone();
                flipped[index] ^= 1;
                assert_eq!(verdict(&flipped), None, "byte {index}");
                assert_eq!(verdict(&bytes[..index]), None, "length {index}");
            }
        }
    }
}
