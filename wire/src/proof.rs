//! A proof of one job in one file: the evidence of its worker, the receipt, and the voucher that pays for it.
//!
//! Everything in it is signed by somebody, or is the challenge that somebody signed. [`Proof::verify`] (feature `client`)
//! holds the receipt against the keyset that the evidence commits to. Prompt and answer are not in it: a receipt commits
//! to them under a salt that only the two sides of the job have.

use crate::cbor::{self, Malformed};
use crate::limits::{
    BUNDLE_BYTES_MAX, LOG_RECEIPT_BYTES_MAX, PROOF_BYTES_MAX, RECEIPT_BYTES_MAX,
    STATEMENT_BYTES_MAX,
};
use crate::{
    AnswerClaims, Keyset, LogReceipt, Receipt, ReceiptCore, ReceiptRefused, RequestClaims,
};
use minicbor::{Decode, Encode};
use std::ops::Deref;

const WHAT: &str = "proof";

/// A proof. Version 2 has a log receipt, version 1 none; a new field means a new version.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Proof {
    /// 1 or 2.
    #[n(0)]
    pub version: u64,
    /// [`crate::Bundle::encode`], at most [`BUNDLE_BYTES_MAX`] bytes.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub bundle: Vec<u8>,
    /// The challenge that the evidence answers.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub nonce: [u8; 32],
    /// [`Receipt::encode`], at most [`RECEIPT_BYTES_MAX`] bytes.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub receipt: Vec<u8>,
    /// The payer's session key, which signed the cap in the receipt and the voucher.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub payer_key: [u8; 32],
    /// The voucher that pays, if this job promised anything: `SignedVoucher::encode`.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub voucher: Option<Vec<u8>>,
    /// That the provider's log has the receipt's charge: [`crate::LogReceipt::encode`].
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub log: Option<Vec<u8>>,
}

/// A receipt that a keyset's key signed for a payer. Nobody held it against a prompt or an answer: where that was done,
/// there is a [`crate::VerifiedReceipt`]. Only [`Receipt::verify_alone`] makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedReceipt(ReceiptCore);

impl Deref for SignedReceipt {
    type Target = ReceiptCore;

    fn deref(&self) -> &ReceiptCore {
        &self.0
    }
}

impl Receipt {
    /// Checks all that can be checked without the job: the signature, the worker's offer and prices, the charge, and the
    /// cap that the payer signed. What only the job's two sides know is taken from the receipt itself.
    pub fn verify_alone(
        &self,
        keyset: &Keyset,
        payer_key: [u8; 32],
    ) -> Result<SignedReceipt, ReceiptRefused> {
        let core = self.unverified();
        let claims = RequestClaims {
            envelope: core.envelope,
            cap: self.charge().charge.cap,
            payer_key,
            request: core.request,
            answer: AnswerClaims::Cut { most: core.usage },
        };
        let verified = self.verify(keyset, &claims)?;
        Ok(SignedReceipt(verified.core().clone()))
    }
}

impl Proof {
    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// The same with a receipt of the provider's log.
    pub fn with_log(self, log: &LogReceipt) -> Self {
        Proof {
            version: 2,
            log: Some(log.encode()),
            ..self
        }
    }

    /// Decodes and checks sizes. Nothing is verified here.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let proof: Proof = cbor::from_slice(WHAT, bytes, PROOF_BYTES_MAX)?;
        let bytes = |field: &Option<Vec<u8>>| field.as_ref().map_or(0, Vec::len);
        let (voucher, log) = (bytes(&proof.voucher), bytes(&proof.log));
        let version = match proof.log {
            None => 1,
            Some(_) => 2,
        };
        if proof.version != version {
            return Err(Malformed::Version {
                what: WHAT,
                got: proof.version,
            });
        }
        let fields = [
            ("bundle", proof.bundle.len() <= BUNDLE_BYTES_MAX),
            ("receipt", proof.receipt.len() <= RECEIPT_BYTES_MAX),
            ("voucher", voucher <= STATEMENT_BYTES_MAX),
            ("log", log <= LOG_RECEIPT_BYTES_MAX),
        ];
        cbor::check(WHAT, 1, &fields)?;
        Ok(proof)
    }
}

#[cfg(feature = "client")]
pub use verified::{NotProven, ProvenJob};

#[cfg(feature = "client")]
mod verified {
    use super::{Proof, SignedReceipt};
    use crate::{
        AttestedWorker, Expected, LogReceipt, Logged, NotLogged, NotTrusted, Receipt,
        ReceiptRefused, attest,
    };
    use ::attest::{Policy, Root};
    use settlement::{SignedVoucher, VerifiedVoucher};

    /// A job that an attested worker signed for. Only [`Proof::verify`] makes it.
    #[derive(Debug, Clone)]
    pub struct ProvenJob {
        worker: AttestedWorker,
        receipt: SignedReceipt,
        payer_key: [u8; 32],
        voucher: Option<VerifiedVoucher>,
        logged: Option<Logged>,
    }

    /// Why a proof is refused.
    #[derive(Debug, Clone, PartialEq, thiserror::Error)]
    #[expect(missing_docs)]
    pub enum NotProven {
        #[error("the evidence is refused: {0}")]
        Evidence(#[from] NotTrusted),
        #[error("the receipt is refused: {0}")]
        Receipt(#[from] ReceiptRefused),
        #[error("the voucher is refused: {0}")]
        Voucher(String),
        #[error("the log receipt is refused: {0}")]
        Log(#[from] NotLogged),
    }

    impl Proof {
        /// Verifies the evidence at `now_unix_s`, then the receipt under the keyset that it commits to, then, if there are such, that the
        /// voucher is the payer's and names this answer, and that the log receipt is the endorser's and names this charge. A pure
        /// function.
        pub fn verify(
            &self,
            policy: &Policy,
            root: &Root,
            expected: &Expected,
            now_unix_s: u64,
        ) -> Result<ProvenJob, NotProven> {
            let worker = attest(
                &self.bundle,
                &self.nonce,
                policy,
                root,
                expected,
                now_unix_s,
            )?;
            let receipt = Receipt::decode(&self.receipt)?;
            let charge = *receipt.charge();
            let receipt = receipt.verify_alone(worker.keyset(), self.payer_key)?;
            let logged = match &self.log {
                None => None,
                Some(bytes) => {
                    let log = LogReceipt::decode(bytes).map_err(NotLogged::from)?;
                    Some(log.verify(&charge, &worker.keyset().payee, worker.endorsing_key())?)
                }
            };
            let voucher = match &self.voucher {
                None => None,
                Some(bytes) => Some(self.voucher_for(bytes, &receipt)?),
            };
            Ok(ProvenJob {
                worker,
                receipt,
                payer_key: self.payer_key,
                voucher,
                logged,
            })
        }

        fn voucher_for(
            &self,
            bytes: &[u8],
            receipt: &SignedReceipt,
        ) -> Result<VerifiedVoucher, NotProven> {
            let refuse = |reason: &str| NotProven::Voucher(reason.into());
            let voucher = SignedVoucher::decode(bytes).map_err(|e| refuse(&e.to_string()))?;
            let voucher = voucher
                .verify(&self.payer_key)
                .map_err(|e| refuse(&e.to_string()))?;
            let same = [
                ("chain", voucher.chain == receipt.chain),
                ("channel", voucher.channel == receipt.channel),
                ("usage root", voucher.usage_root == receipt.frames.0),
                ("amount", voucher.cumulative >= receipt.cost),
            ];
            match same.iter().find(|(_, same)| !same) {
                Some((field, _)) => Err(refuse(&format!("its {field} is not the receipt's"))),
                None => Ok(voucher),
            }
        }
    }

    impl ProvenJob {
        /// The worker that answered, attested when the evidence was made.
        pub fn worker(&self) -> &AttestedWorker {
            &self.worker
        }

        /// What it signed.
        pub fn receipt(&self) -> &SignedReceipt {
            &self.receipt
        }

        /// The key that signed the cap in the receipt.
        pub fn payer_key(&self) -> &[u8; 32] {
            &self.payer_key
        }

        /// Where it stands in the provider's log, if the proof says.
        pub fn logged(&self) -> Option<&Logged> {
            self.logged.as_ref()
        }

        /// What the payer promised for it.
        pub fn voucher(&self) -> Option<&VerifiedVoucher> {
            self.voucher.as_ref()
        }
    }
}
