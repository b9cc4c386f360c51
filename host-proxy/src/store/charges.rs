//! Charges, and beside each the sealed receipt of the job that it is for.
//!
//! Pruned by rule: of each receipt key the newest [`CHARGES_KEPT`] charges stay, and of each channel the highest, which says what is
//! owed. A number older than that is refused, since nobody could tell any more whether it was used before. Of a key that was caught
//! signing two charges with one number, everything stays.

use super::{Store, corrupt, to_sql};
use crate::error::Error;
use crate::limits::{CHARGES_KEPT, CHARGES_PRUNED_EVERY, RECEIPTS_MAX, RECEIPTS_PER_CHANNEL_MAX};
use rusqlite::{OptionalExtension, Transaction, params};
use settlement::{Address, VerifiedCharge};
use wire::EnvelopeDigest;

/// Why a charge is not taken. The guest is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChargeRefused {
    /// Grounds to slash the key, so both are kept.
    #[error("the receipt key signed another charge with the sequence number {seq}")]
    Another { seq: u64 },
    #[error("the charge's sequence number {seq} is far behind the receipt key's newest, {newest}")]
    Old { seq: u64, newest: i64 },
}

/// A sealed receipt and its charge, for the payer to fetch when they were lost on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptReceipt {
    pub envelope: EnvelopeDigest,
    pub channel: Address,
    /// Who may fetch it.
    pub payer_key: [u8; 32],
    /// As the guest sealed it.
    pub receipt: Vec<u8>,
    pub charge: Vec<u8>,
}

impl Store {
    /// Keeps a charge, and with it the receipt that it is for. The same again is fine; another with the same sequence
    /// number is not.
    pub fn record(
        &self,
        receipt_key: &[u8; 32],
        charge: &VerifiedCharge,
        receipt: Option<&KeptReceipt>,
    ) -> Result<Result<(), ChargeRefused>, Error> {
        let bytes = charge.signed().encode();
        let (cost, cumulative) = (to_sql(charge.cost)?, to_sql(charge.cumulative)?);
        // A number above 2^63 wraps to a negative one and back: SQLite has no unsigned integers. No guest comes so far.
        let seq = charge.seq.cast_signed();
        self.change(|change| {
            let known: Option<Vec<u8>> = change
                .query_row(
                    "SELECT bytes FROM charges WHERE receipt_key = ?1 AND seq = ?2",
                    params![receipt_key, seq],
                    |row| row.get(0),
                )
                .optional()?;
            match known {
                Some(known) if known == bytes => return Ok(Ok(())),
                Some(_) => {
                    change.execute(
                        "INSERT OR IGNORE INTO equivocations VALUES (?1, ?2)",
                        params![receipt_key, bytes],
                    )?;
                    return Ok(Err(ChargeRefused::Another { seq: charge.seq }));
                }
                None => {}
            }
            let newest: Option<i64> = change.query_row(
                "SELECT MAX(seq) FROM charges WHERE receipt_key = ?1",
                [receipt_key],
                |row| row.get(0),
            )?;
            if let Some(newest) = newest.filter(|newest| seq <= newest.saturating_sub(CHARGES_KEPT))
            {
                let seq = charge.seq;
                return Ok(Err(ChargeRefused::Old { seq, newest }));
            }
            change.execute(
                "INSERT INTO charges VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    receipt_key,
                    seq,
                    charge.channel().to_string(),
                    cost,
                    cumulative,
                    bytes
                ],
            )?;
            if newest.is_none() || seq % CHARGES_PRUNED_EVERY == 0 {
                prune(change, receipt_key, seq)?;
            }
            if let Some(receipt) = receipt {
                keep(change, receipt)?;
            }
            Ok(Ok(()))
        })
    }

    /// The receipt that is kept for an envelope.
    pub fn receipt(&self, envelope: &EnvelopeDigest) -> Result<Option<KeptReceipt>, Error> {
        let connection = self.lock();
        let mut one = connection.prepare_cached(
            "SELECT channel, payer_key, receipt, charge FROM receipts WHERE envelope = ?1",
        )?;
        let row = one.query_row([envelope.0], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
            ))
        });
        let Some((channel, payer_key, receipt, charge)) = row.optional()? else {
            return Ok(None);
        };
        Ok(Some(KeptReceipt {
            envelope: *envelope,
            channel: channel.parse().map_err(|_| corrupt("channel address"))?,
            payer_key,
            receipt,
            charge,
        }))
    }
}

/// Deletes what the rule does not keep: of this key what is old, of earlier keys, whose guests are gone, all but what is owed.
fn prune(change: &Transaction<'_>, receipt_key: &[u8; 32], seq: i64) -> Result<(), Error> {
    const DELETE: &str = "DELETE FROM charges WHERE cumulative < (SELECT MAX(same.cumulative) FROM charges AS same
        WHERE same.channel = charges.channel AND same.receipt_key = charges.receipt_key)
        AND NOT EXISTS (SELECT 1 FROM equivocations WHERE equivocations.receipt_key = charges.receipt_key)";
    let old = format!("{DELETE} AND receipt_key = ?1 AND seq <= ?2");
    change.execute(&old, params![receipt_key, seq.saturating_sub(CHARGES_KEPT)])?;
    change.execute(&format!("{DELETE} AND receipt_key <> ?1"), [receipt_key])?;
    Ok(())
}

fn keep(change: &Transaction<'_>, kept: &KeptReceipt) -> Result<(), Error> {
    let channel = kept.channel.to_string();
    change.execute(
        "INSERT OR REPLACE INTO receipts (envelope, channel, payer_key, receipt, charge) VALUES (?1, ?2, ?3, ?4, ?5)",
        params![kept.envelope.0, channel, kept.payer_key, kept.receipt, kept.charge],
    )?;
    let id = change.last_insert_rowid();
    change.execute(
        "DELETE FROM receipts WHERE channel = ?1 AND id <=
         (SELECT id FROM receipts WHERE channel = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        params![channel, RECEIPTS_PER_CHANNEL_MAX],
    )?;
    let oldest = id - i64::from(RECEIPTS_MAX);
    change.execute("DELETE FROM receipts WHERE id <= ?1", [oldest])?;
    Ok(())
}
