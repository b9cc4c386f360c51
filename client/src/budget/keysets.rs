//! Keysets that were verified, so that receipts can be checked later without the worker.

use super::{Budget, BudgetError, signed, storage};
use rusqlite::{OptionalExtension, params};
use settlement::{Nano, SignedVoucher};
use wire::{Keyset, KeysetDigest, Proof, ReceiptDigest};

/// A keyset that belonged to an attested worker when it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKeyset {
    /// The keyset.
    pub keyset: Keyset,
    /// The root that the worker's quote led to: `intel` or `insecure-test`.
    pub root: String,
    /// When it was verified first, by this machine's clock.
    pub verified_at_unix_s: u64,
}

/// The evidence that a keyset was verified by, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvidence {
    /// `wire::Bundle::encode`.
    pub bundle: Vec<u8>,
    /// The challenge that it answers.
    pub nonce: [u8; 32],
}

impl KeptEvidence {
    /// The proof of a receipt of this keyset, without its voucher.
    pub fn proof_of(self, receipt: &wire::Receipt, payer_key: [u8; 32]) -> Proof {
        Proof {
            version: 1,
            bundle: self.bundle,
            nonce: self.nonce,
            receipt: receipt.encode().to_vec(),
            payer_key,
            voucher: None,
            log: None,
        }
    }
}

/// Why the books have no proof of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum NoProof {
    #[error(transparent)]
    Books(#[from] BudgetError),
    #[error("no receipt of that id is on file")]
    Receipt,
    #[error(
        "the evidence of keyset {0} is not on file; it is kept of the newest {EVIDENCE_MAX} keysets"
    )]
    Evidence(KeysetDigest),
}

/// Evidence on file, of the newest keysets: 2,048 of some 40 KiB, 80 MiB, which is six weeks around the clock with two an hour. What
/// no receipt needs goes earlier.
const EVIDENCE_MAX: u32 = 2048;
/// Evidence of keysets that no receipt names: those of jobs that run, and a few more.
const UNUSED_MAX: u32 = 16;
/// Keysets on file: a year around the clock with two an hour. The oldest go first.
const KEYSETS_MAX: u32 = 16_384;

impl Budget {
    /// Writes down the keyset of a worker that was verified.
    pub(crate) fn remember(
        &self,
        known: &KnownKeyset,
        evidence: &KeptEvidence,
    ) -> Result<(), BudgetError> {
        let connection = self.lock();
        let at = signed(Nano(known.verified_at_unix_s))?;
        let (digest, keyset) = (known.keyset.digest().0, known.keyset.encode());
        connection
            .execute(
                "INSERT OR IGNORE INTO keysets VALUES (?1, ?2, ?3, ?4)",
                params![digest, keyset, known.root, at],
            )
            .map_err(storage)?;
        connection
            .execute(
                "DELETE FROM keysets WHERE digest NOT IN
                 (SELECT digest FROM keysets ORDER BY at_unix_s DESC, rowid DESC LIMIT ?1)",
                [KEYSETS_MAX],
            )
            .map_err(storage)?;
        connection
            .execute(
                "INSERT OR IGNORE INTO evidence VALUES (?1, ?2, ?3)",
                params![digest, evidence.bundle, evidence.nonce],
            )
            .map_err(storage)?;
        connection
            .execute(
                "DELETE FROM evidence WHERE keyset <> ?2 AND (keyset NOT IN
                 (SELECT digest FROM keysets ORDER BY at_unix_s DESC, rowid DESC LIMIT ?1)
                 OR (keyset NOT IN (SELECT keyset FROM receipts UNION SELECT keyset FROM offences) AND keyset NOT IN
                 (SELECT digest FROM keysets ORDER BY at_unix_s DESC, rowid DESC LIMIT ?3)))",
                params![EVIDENCE_MAX, digest, UNUSED_MAX],
            )
            .map(drop)
            .map_err(storage)
    }

    /// The evidence of a keyset that was verified.
    pub fn evidence(&self, digest: &KeysetDigest) -> Result<Option<KeptEvidence>, BudgetError> {
        self.lock()
            .query_row(
                "SELECT bundle, nonce FROM evidence WHERE keyset = ?1",
                [digest.0],
                |row| {
                    Ok(KeptEvidence {
                        bundle: row.get(0)?,
                        nonce: row.get(1)?,
                    })
                },
            )
            .optional()
            .map_err(storage)
    }

    /// The proof of a job that was paid. It is verified by whoever reads it, not here.
    pub fn proof(&self, digest: &ReceiptDigest) -> Result<Proof, NoProof> {
        self.proof_with(digest, |keyset| {
            self.evidence(&keyset)?.ok_or(NoProof::Evidence(keyset))
        })
    }

    /// The same with evidence that the caller finds.
    pub fn proof_with(
        &self,
        digest: &ReceiptDigest,
        evidence: impl FnOnce(KeysetDigest) -> Result<KeptEvidence, NoProof>,
    ) -> Result<Proof, NoProof> {
        let stored = self.receipt(digest)?.ok_or(NoProof::Receipt)?;
        let receipt = wire::Receipt::decode(&stored.receipt)
            .map_err(|e| BudgetError::Storage(e.to_string()))?;
        let payer_key = self.payer().verifying_key().to_bytes();
        let mut proof = evidence(receipt.unverified().keyset)?.proof_of(&receipt, payer_key);
        let voucher = self.voucher_of(stored.cumulative)?;
        // A job that cost nothing has no voucher of its own.
        let voucher = voucher.filter(|v| v.voucher.usage_root == receipt.unverified().frames.0);
        proof.voucher = voucher.map(|voucher| voucher.encode());
        Ok(proof)
    }

    fn voucher_of(&self, cumulative: Nano) -> Result<Option<SignedVoucher>, BudgetError> {
        let bytes: Option<Vec<u8>> = self
            .lock()
            .query_row(
                "SELECT voucher FROM vouchers WHERE cumulative = ?1",
                [signed(cumulative)?],
                |row| row.get(0),
            )
            .optional()
            .map_err(storage)?;
        let decoded = bytes.map(|bytes| SignedVoucher::decode(&bytes)).transpose();
        decoded.map_err(|e| BudgetError::Storage(e.to_string()))
    }

    /// A keyset that was verified.
    pub fn keyset(&self, digest: &KeysetDigest) -> Result<Option<KnownKeyset>, BudgetError> {
        let found: Option<(Vec<u8>, String, i64)> = self
            .lock()
            .query_row(
                "SELECT keyset, root, at_unix_s FROM keysets WHERE digest = ?1",
                [digest.0],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .map_err(storage)?;
        let Some((bytes, root, at)) = found else {
            return Ok(None);
        };
        let keyset = Keyset::decode(&bytes).map_err(|e| BudgetError::Storage(e.to_string()))?;
        Ok(Some(KnownKeyset {
            keyset,
            root,
            verified_at_unix_s: u64::try_from(at).unwrap_or_default(),
        }))
    }
}
