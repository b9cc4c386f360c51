//! Payouts, written before they are sent, so that a crash repeats the same message and never makes another.

use super::{Store, corrupt, from_sql, to_sql};
use crate::error::Error;
use rusqlite::{OptionalExtension, Row, params};
use settlement::{Address, Nano};

/// A claim that is signed and about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPayout {
    pub channel: Address,
    /// Of the voucher.
    pub cumulative: Nano,
    pub seqno: u32,
    /// The message is void after this moment, by the chain's clock.
    pub valid_until: u32,
    /// The message. Only these bytes are ever sent for this payout.
    pub boc: Vec<u8>,
    /// What the channel had paid.
    pub paid_before: Nano,
    /// What the wallet held.
    pub wallet_before: Nano,
    /// Logical time of the wallet's last transaction before: the first message that it takes after it is this one. `None` in
    /// payouts of earlier versions.
    pub after_lt: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    pub id: i64,
    pub payout: NewPayout,
}

/// What a finished payout brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paid {
    /// What the claim's own transaction paid.
    pub price: Nano,
    /// `None`: it was not seen among the transactions.
    pub fee: Option<Nano>,
    /// What the channel had paid after it.
    pub paid_after: Nano,
    /// What the wallet held after it.
    pub wallet_after: Nano,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayoutOutcome {
    /// The chain shows it.
    Paid(Paid),
    /// The channel refused the claim; its value came back.
    Refused,
    /// It can never be accepted any more, and was not.
    Expired,
}

const COLUMNS: &str =
    "id, channel, cumulative, seqno, valid_until, boc, paid_before, wallet_before, after_lt";

impl Store {
    /// The payout that is on its way to the wallet, if one is.
    pub fn pending_payout(&self) -> Result<Option<Payout>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM payouts WHERE state = 'pending'");
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&sql)?;
        let row = statement.query_row([], |row| Ok(read(row)));
        row.optional()?.transpose()
    }

    /// A channel's payout that has not ended, if there is one.
    pub fn open_payout(&self, channel: &Address) -> Result<Option<Payout>, Error> {
        let sql = format!(
            "SELECT {COLUMNS} FROM payouts WHERE channel = ?1 AND state IN ('pending', 'taken')"
        );
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&sql)?;
        let row = statement.query_row([channel.to_string()], |row| Ok(read(row)));
        row.optional()?.transpose()
    }

    /// Writes that the wallet took a payout's number: its next message may follow.
    pub fn payout_taken(&self, id: i64) -> Result<(), Error> {
        self.change(|change| {
            let sql = "UPDATE payouts SET state = 'taken' WHERE id = ?1 AND state = 'pending'";
            change.execute(sql, [id])?;
            Ok(())
        })
    }

    /// Writes a payout before it is sent. `None` when another is on its way, or this channel's is: nothing is written then.
    pub fn begin_payout(&self, payout: &NewPayout) -> Result<Option<Payout>, Error> {
        let amounts = [payout.cumulative, payout.paid_before, payout.wallet_before];
        let [cumulative, paid_before, wallet_before] = amounts.map(to_sql);
        let (cumulative, paid_before, wallet_before) = (cumulative?, paid_before?, wallet_before?);
        // Only compared for equality and order below 2^63, which no chain reaches.
        let after_lt = payout.after_lt.map(u64::cast_signed);
        let id = self.change(|change| {
            let inserted = change.execute(
                "INSERT INTO payouts (channel, cumulative, seqno, valid_until, boc, paid_before, wallet_before, after_lt, state)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'pending' WHERE NOT EXISTS (SELECT 1 FROM payouts
                 WHERE state = 'pending' OR state = 'taken' AND channel = ?1)",
                params![
                    payout.channel.to_string(),
                    cumulative,
                    payout.seqno,
                    payout.valid_until,
                    payout.boc,
                    paid_before,
                    wallet_before,
                    after_lt
                ],
            )?;
            Ok((inserted == 1).then(|| change.last_insert_rowid()))
        })?;
        Ok(id.map(|id| Payout {
            id,
            payout: payout.clone(),
        }))
    }

    /// Writes how a payout ended. Ending it twice changes nothing: another process may have seen it first.
    pub fn end_payout(&self, id: i64, outcome: &PayoutOutcome) -> Result<(), Error> {
        let (state, paid) = match outcome {
            PayoutOutcome::Paid(paid) => ("paid", Some(paid)),
            PayoutOutcome::Refused => ("refused", None),
            PayoutOutcome::Expired => ("expired", None),
        };
        let amount = |of: fn(&Paid) -> Nano| paid.map(|paid| to_sql(of(paid))).transpose();
        let price = amount(|paid| paid.price)?;
        let fee = paid.and_then(|paid| paid.fee).map(to_sql).transpose()?;
        let paid_after = amount(|paid| paid.paid_after)?;
        let wallet_after = amount(|paid| paid.wallet_after)?;
        self.change(|change| {
            change.execute(
                "UPDATE payouts SET state = ?2, price = ?3, fee = ?4, paid_after = ?5, wallet_after = ?6
                 WHERE id = ?1 AND state IN ('pending', 'taken')",
                params![id, state, price, fee, paid_after, wallet_after],
            )?;
            Ok(())
        })
    }

    /// How many payouts ended as paid on a channel, and their sum.
    pub fn paid_out(&self, channel: &Address) -> Result<(u32, Nano), Error> {
        let sql = "SELECT COUNT(*), COALESCE(SUM(price), 0) FROM payouts WHERE channel = ?1 AND state = 'paid'";
        let row = self.lock().query_row(sql, [channel.to_string()], |row| {
            Ok((row.get(0)?, row.get(1)?))
        });
        let (count, sum) = row?;
        Ok((count, from_sql(sum)?))
    }
}

fn read(row: &Row<'_>) -> Result<Payout, Error> {
    let channel: String = row.get(1)?;
    Ok(Payout {
        id: row.get(0)?,
        payout: NewPayout {
            channel: channel.parse().map_err(|_| corrupt("channel address"))?,
            cumulative: from_sql(row.get(2)?)?,
            seqno: row.get(3)?,
            valid_until: row.get(4)?,
            boc: row.get(5)?,
            paid_before: from_sql(row.get(6)?)?,
            wallet_before: from_sql(row.get(7)?)?,
            after_lt: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
        },
    })
}
