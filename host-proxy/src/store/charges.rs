//! Charges, and beside each the sealed receipt of the job that it is for.
//!
//! Pruned by rule: of each receipt key the newest [`CHARGES_KEPT`] charges stay, and of each channel the highest, which says what is
//! owed. A number older than that is refused, since nobody could tell any more whether it was used before. Of a key that was caught
//! signing two charges with one number, everything stays.

use super::sql::{Sql, values};
use super::{Store, address, to_sql};
use crate::error::Error;
use crate::limits::{CHARGES_KEPT, CHARGES_PRUNED_EVERY, RECEIPTS_MAX, RECEIPTS_PER_CHANNEL_MAX};
use settlement::{Address, VerifiedCharge};
use wire::{EnvelopeDigest, LogLeaf};

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
    pub async fn record(
        &self,
        receipt_key: &[u8; 32],
        charge: &VerifiedCharge,
        receipt: Option<KeptReceipt>,
    ) -> Result<Result<(), ChargeRefused>, Error> {
        self.change_together(recording(receipt_key, charge, receipt)?)
            .await
    }

    /// The same on this thread.
    #[cfg(test)]
    pub(crate) fn record_now(
        &self,
        receipt_key: &[u8; 32],
        charge: &VerifiedCharge,
        receipt: Option<KeptReceipt>,
    ) -> Result<Result<(), ChargeRefused>, Error> {
        self.change_now(recording(receipt_key, charge, receipt)?)
    }

    /// How many charges were taken: entries of the log, since charges are pruned.
    #[cfg(test)]
    pub(crate) fn logged(&self) -> Result<u64, Error> {
        let count = "SELECT COUNT(*) FROM log_entries WHERE position > 0";
        let (count,): (i64,) = self.read().one(count, &[])?;
        Ok(count.unsigned_abs())
    }

    /// The receipt that is kept for an envelope.
    pub fn receipt(&self, envelope: &EnvelopeDigest) -> Result<Option<KeptReceipt>, Error> {
        type Row = (String, [u8; 32], Vec<u8>, Vec<u8>);
        let row: Option<Row> = self.read().first(
            "SELECT channel, payer_key, receipt, charge FROM receipts WHERE envelope = ?1",
            values![&envelope.0],
        )?;
        let kept = |(channel, payer_key, receipt, charge): Row| {
            Ok(KeptReceipt {
                envelope: *envelope,
                channel: address(&channel)?,
                payer_key,
                receipt,
                charge,
            })
        };
        row.map(kept).transpose()
    }
}

fn recording(
    receipt_key: &[u8; 32],
    charge: &VerifiedCharge,
    receipt: Option<KeptReceipt>,
) -> Result<impl FnOnce(&Sql) -> Result<Result<(), ChargeRefused>, Error> + use<>, Error> {
    let bytes = charge.signed().encode();
    let (cost, cumulative) = (to_sql(charge.cost)?, to_sql(charge.cumulative)?);
    let (receipt_key, charge) = (*receipt_key, *charge);
    Ok(move |change: &Sql| {
        let newest = match refuse(change, &receipt_key, &charge, &bytes)? {
            Verdict::Known => return Ok(Ok(())),
            Verdict::Refused(refused) => return Ok(Err(refused)),
            Verdict::New { newest } => newest,
        };
        let seq = charge.seq.cast_signed();
        let channel = charge.channel().to_string();
        change.execute(
            "INSERT INTO charges VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            values![&receipt_key, seq, &channel, cost, cumulative, &bytes[..]],
        )?;
        super::log::append(change, LogLeaf::of(charge.signed()))?;
        if newest.is_none() || seq % CHARGES_PRUNED_EVERY == 0 {
            prune(change, &receipt_key, seq)?;
        }
        if let Some(receipt) = &receipt {
            keep(change, receipt)?;
        }
        Ok(Ok(()))
    })
}

/// What becomes of a charge.
enum Verdict {
    Known,
    Refused(ChargeRefused),
    New { newest: Option<i64> },
}

fn refuse(
    change: &Sql,
    receipt_key: &[u8; 32],
    charge: &VerifiedCharge,
    bytes: &[u8],
) -> Result<Verdict, Error> {
    // A number above 2^63 wraps to a negative one and back: SQL has no unsigned integers. No guest comes so far.
    let seq = charge.seq.cast_signed();
    let known: Option<(Vec<u8>,)> = change.first(
        "SELECT bytes FROM charges WHERE receipt_key = ?1 AND seq = ?2",
        values![receipt_key, seq],
    )?;
    match known {
        Some((known,)) if known == bytes => return Ok(Verdict::Known),
        Some(_) => {
            change.execute(
                "INSERT INTO equivocations VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                values![receipt_key, bytes],
            )?;
            let seq = charge.seq;
            return Ok(Verdict::Refused(ChargeRefused::Another { seq }));
        }
        None => {}
    }
    let (newest,): (Option<i64>,) = change.one(
        "SELECT MAX(seq) FROM charges WHERE receipt_key = ?1",
        values![receipt_key],
    )?;
    match newest.filter(|newest| seq <= newest.saturating_sub(CHARGES_KEPT)) {
        Some(newest) => {
            let seq = charge.seq;
            Ok(Verdict::Refused(ChargeRefused::Old { seq, newest }))
        }
        None => Ok(Verdict::New { newest }),
    }
}

/// Deletes what the rule does not keep: of this key what is old, of earlier keys, whose guests are gone, all but what is owed.
fn prune(change: &Sql, receipt_key: &[u8; 32], seq: i64) -> Result<(), Error> {
    const DELETE: &str = "DELETE FROM charges WHERE cumulative < (SELECT MAX(same.cumulative) FROM charges AS same
        WHERE same.channel = charges.channel AND same.receipt_key = charges.receipt_key)
        AND NOT EXISTS (SELECT 1 FROM equivocations WHERE equivocations.receipt_key = charges.receipt_key)";
    change.execute(
        &format!("{DELETE} AND receipt_key = ?1 AND seq <= ?2"),
        values![receipt_key, seq.saturating_sub(CHARGES_KEPT)],
    )?;
    change.execute(
        &format!("{DELETE} AND receipt_key <> ?1"),
        values![receipt_key],
    )?;
    Ok(())
}

fn keep(change: &Sql, kept: &KeptReceipt) -> Result<(), Error> {
    let channel = &kept.channel.to_string();
    let envelope = &kept.envelope.0;
    change.execute(
        "DELETE FROM receipts WHERE envelope = ?1",
        values![envelope],
    )?;
    let (receipt, charge) = (&kept.receipt[..], &kept.charge[..]);
    let (id,): (i64,) = change.one(
        "INSERT INTO receipts (envelope, channel, payer_key, receipt, charge) VALUES (?1, ?2, ?3, ?4, ?5) RETURNING id",
        values![envelope, channel, &kept.payer_key, receipt, charge],
    )?;
    change.execute(
        "DELETE FROM receipts WHERE channel = ?1 AND id <=
         (SELECT id FROM receipts WHERE channel = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
        values![channel, RECEIPTS_PER_CHANNEL_MAX],
    )?;
    let oldest = id - i64::from(RECEIPTS_MAX);
    change.execute("DELETE FROM receipts WHERE id <= ?1", values![oldest])?;
    Ok(())
}
