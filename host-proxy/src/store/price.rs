//! What a claim brought, so that the books of a channel add up to what the channel has paid.
//!
//! Transactions show it, but not always: answers are of different blocks, and claims with and without the wallet go side by side. So a
//! claim is never booked with more than what the channel has paid and no claim has in the books, and the last open one of a channel
//! with all of that, also with what a stranger's claim brought before it or what older books had missed.

use super::sql::{Sql, values};
use crate::error::Error;

/// Where a claim is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Claims {
    OfWallet,
    External,
}

impl Claims {
    fn table(self) -> &'static str {
        match self {
            Claims::OfWallet => "payouts",
            Claims::External => "external_claims",
        }
    }

    /// The price of claim `id`, of which `shown` is known, at the moment at which its channel had paid `paid_after`. `None`: it is not
    /// open any more.
    pub(super) fn price(
        self,
        change: &Sql,
        id: i64,
        shown: i64,
        paid_after: i64,
    ) -> Result<Option<i64>, Error> {
        let table = self.table();
        let sql = format!(
            "SELECT MIN(paid_before), CAST(COALESCE(SUM(price), 0) AS BIGINT), CAST(SUM(open) AS BIGINT) FROM (
                SELECT paid_before, price, CASE WHEN state = 'open' THEN 1 ELSE 0 END AS open, channel FROM payouts
                UNION ALL
                SELECT paid_before, price, CASE WHEN state = 'open' THEN 1 ELSE 0 END, channel FROM external_claims) AS claims
             WHERE channel = (SELECT channel FROM {table} WHERE id = ?1 AND state = 'open')"
        );
        type Row = (Option<i64>, i64, Option<i64>);
        let row: Row = change.one(&sql, values![id])?;
        let (Some(before), booked, Some(open)) = row else {
            return Ok(None);
        };
        let missing = (paid_after - before - booked).max(0);
        Ok(Some(match open {
            1 => missing,
            _ => shown.min(missing),
        }))
    }
}
