//! The evidence of keysets that this provider stood behind, so that a receipt can be verified when its guest is gone.
//!
//! Pruned by rule: [`EVIDENCE_KEPT_S`] after it came it goes, after a day already if its key signed no charge, and of all there are
//! [`EVIDENCE_MAX`] at most, the newest.

use super::Store;
use super::sql::{Sql, values};
use crate::error::Error;
use crate::limits::{EVIDENCE_KEPT_S, EVIDENCE_MAX, EVIDENCE_UNUSED_S};
use wire::KeysetDigest;

/// Evidence as a client got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptEvidence {
    /// `wire::Bundle::encode`.
    pub bundle: Vec<u8>,
    /// The challenge that it answers.
    pub nonce: [u8; 32],
}

/// Keeps the first evidence of a keyset.
pub(super) fn keep(
    change: &Sql,
    (keyset, receipt_key): (&KeysetDigest, &[u8; 32]),
    kept: &KeptEvidence,
    now_unix_s: u64,
) -> Result<(), Error> {
    let seconds = |unix_s: u64| i64::try_from(unix_s).unwrap_or(i64::MAX);
    change.execute(
        "INSERT INTO evidence VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        values![
            &keyset.0,
            receipt_key,
            &kept.bundle[..],
            &kept.nonce,
            seconds(now_unix_s)
        ],
    )?;
    change.execute(
        "DELETE FROM evidence WHERE kept_unix_s < ?1
         OR (kept_unix_s < ?2 AND receipt_key NOT IN (SELECT receipt_key FROM charges))
         OR keyset NOT IN (SELECT keyset FROM evidence ORDER BY kept_unix_s DESC LIMIT ?3)",
        values![
            seconds(now_unix_s.saturating_sub(EVIDENCE_KEPT_S)),
            seconds(now_unix_s.saturating_sub(EVIDENCE_UNUSED_S)),
            EVIDENCE_MAX,
        ],
    )?;
    Ok(())
}

impl Store {
    /// The evidence of a keyset, if it is kept.
    pub fn evidence(&self, keyset: &KeysetDigest) -> Result<Option<KeptEvidence>, Error> {
        let kept = "SELECT bundle, nonce FROM evidence WHERE keyset = ?1";
        let row: Option<(Vec<u8>, [u8; 32])> = self.read().first(kept, values![&keyset.0])?;
        Ok(row.map(|(bundle, nonce)| KeptEvidence { bundle, nonce }))
    }
}
