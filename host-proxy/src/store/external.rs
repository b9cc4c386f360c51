//! Claims that go without the wallet: written before they are sent, so that what they bring is in the books whoever is killed. Sending
//! one twice pays nothing twice, so its bytes need no keeping.

use super::price::Claims;
use super::sql::values;
use super::{Claim, PROGRESS_GROWS, Paid, Store, from_sql, to_sql};
use crate::error::Error;
use settlement::{Address, Nano};

/// One that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalClaim {
    pub id: i64,
    pub claim: Claim,
    /// What the wallet held before.
    pub wallet_before: Nano,
    /// Whatever the claim did is later than this.
    pub after_lt: u64,
}

impl Store {
    /// Writes a claim before it is sent. One of the same channel that is open is raised to its amount instead.
    pub fn begin_external(
        &self,
        claim: &Claim,
        wallet_before: Nano,
        after_lt: u64,
    ) -> Result<(), Error> {
        let (cumulative, paid) = (to_sql(claim.cumulative)?, to_sql(claim.paid_before)?);
        let (channel, wallet) = (claim.channel.to_string(), to_sql(wallet_before)?);
        self.change(|change| {
            change.execute(
                "INSERT INTO external_claims (channel, cumulative, paid_before, wallet_before, after_lt, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'open')
                 ON CONFLICT (channel) WHERE state = 'open' DO UPDATE SET cumulative = excluded.cumulative
                 WHERE excluded.cumulative > external_claims.cumulative",
                values![&channel, cumulative, paid, wallet, after_lt.cast_signed()],
            )?;
            Ok(())
        })
    }

    /// A channel's open claim.
    pub fn open_external(&self, channel: &Address) -> Result<Option<ExternalClaim>, Error> {
        type Row = (i64, i64, i64, i64, i64);
        let row: Option<Row> = self.lock().first(
            "SELECT id, cumulative, paid_before, wallet_before, after_lt FROM external_claims
             WHERE channel = ?1 AND state = 'open'",
            values![&channel.to_string()],
        )?;
        let claim = |(id, cumulative, paid_before, wallet_before, after_lt): Row| {
            Ok(ExternalClaim {
                id,
                claim: Claim {
                    channel: *channel,
                    cumulative: from_sql(cumulative)?,
                    paid_before: from_sql(paid_before)?,
                },
                wallet_before: from_sql(wallet_before)?,
                after_lt: after_lt.cast_unsigned(),
            })
        };
        row.map(claim).transpose()
    }

    /// Writes what a claim brought, as far as the books add up, and returns that. Nothing where wallets' claims are seen to have brought
    /// it, be they others'. `None`: it has ended before.
    pub fn end_external(
        &self,
        id: i64,
        (paid, by_wallets): (&Paid, bool),
        now_unix_s: u64,
    ) -> Result<Option<Nano>, Error> {
        let (shown, paid_after) = (to_sql(paid.price)?, to_sql(paid.paid_after)?);
        let wallet_after = to_sql(paid.wallet_after)?;
        let fee = paid.fee.map(to_sql).transpose()?;
        let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        self.change(|change| {
            let price = Claims::External.price(change, id, shown, paid_after)?;
            let Some(price) = price.map(|price| if by_wallets { 0 } else { price }) else {
                return Ok(None);
            };
            let state = if price > 0 { "paid" } else { "other" };
            change.execute(
                "UPDATE external_claims SET state = ?2, price = ?3, fee = ?4, paid_after = ?5, wallet_after = ?6, ended_unix_s = ?7
                 WHERE id = ?1 AND state = 'open'",
                values![id, state, price, fee, paid_after, wallet_after, now],
            )?;
            let insert = "INSERT INTO progress SELECT channel, ?2, 0 FROM external_claims WHERE id = ?1";
            change.execute(&format!("{insert} {PROGRESS_GROWS}"), values![id, paid_after])?;
            Ok(Some(from_sql(price)?))
        })
    }
}
