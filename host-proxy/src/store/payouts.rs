//! Messages of the payee's wallet and the claims that they carry, written before they are sent, so that a crash repeats the same
//! message and never makes another.

use super::price::Claims;
use super::sql::{Sql, values};
use super::{LeaseId, PROGRESS_GROWS, Store, address, corrupt, from_sql, lease, to_sql};
use crate::error::Error;
use serde::Serialize;
use settlement::{Address, Nano};

/// A message that is signed and about to be sent, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    pub seqno: u32,
    /// The message is void after this moment, by the chain's clock.
    pub valid_until: u32,
    /// The message. Only these bytes are ever sent for this number.
    pub boc: Vec<u8>,
    /// What the wallet held.
    pub wallet_before: Nano,
    /// Logical time of the wallet's last transaction before: the first message that it takes after it is this one. `None` in
    /// messages of earlier versions.
    pub after_lt: Option<u64>,
    pub purpose: Purpose,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// At most one for each channel.
    Claims(Vec<Claim>),
    /// What the operator asked for.
    Order(Order),
}

/// A claim in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    pub channel: Address,
    /// Of the voucher.
    pub cumulative: Nano,
    /// What the channel had paid.
    pub paid_before: Nano,
}

/// A message in the books, without its bytes' purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: i64,
    pub seqno: u32,
    pub valid_until: u32,
    pub boc: Vec<u8>,
    pub wallet_before: Nano,
    pub after_lt: Option<u64>,
}

/// A claim that has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payout {
    pub id: i64,
    pub claim: Claim,
}

/// What the operator asked for, in a message of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    pub what: Ordered,
    /// Where the message goes.
    pub to: Address,
    /// What it moves, now or, for what begins to leave a stake, later.
    pub amount: Nano,
}

/// Kinds of orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordered {
    Withdrawal,
    StakeDeposit,
    StakeUnbond,
    StakeWithdrawal,
}

impl Ordered {
    const ALL: [Ordered; 4] = [
        Ordered::Withdrawal,
        Ordered::StakeDeposit,
        Ordered::StakeUnbond,
        Ordered::StakeWithdrawal,
    ];

    /// In the books.
    fn name(self) -> &'static str {
        match self {
            Ordered::Withdrawal => "withdrawal",
            Ordered::StakeDeposit => "stake_deposit",
            Ordered::StakeUnbond => "stake_unbond",
            Ordered::StakeWithdrawal => "stake_withdrawal",
        }
    }

    fn named(name: &str) -> Result<Ordered, Error> {
        let found = Self::ALL.into_iter().find(|what| what.name() == name);
        found.ok_or_else(|| corrupt("order"))
    }
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

/// A movement of the wallet that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// `payout`, `withdrawal`, `stake_deposit` or `stake_withdrawal`.
    pub kind: &'static str,
    /// By the chain's clock; `None` in rows of earlier versions.
    pub ended_unix_s: Option<u64>,
    /// The channel, or where the money went.
    pub address: String,
    #[serde(rename = "amount_nano")]
    pub amount: Nano,
    /// `None`: it was not found among the transactions, or the wallet's own.
    #[serde(rename = "fee_nano")]
    pub fee: Option<Nano>,
    /// Of the wallet's message; `None` where there was none.
    pub seqno: Option<u32>,
}

/// How far these books follow the wallet's numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Every number below was given to a message of these books, or taken over by the operator. A wallet whose next number is
    /// above it has sent what these books do not know.
    pub known: u32,
    /// Every number below was seen to be taken: an answer with a lower one is old.
    pub taken: u32,
    /// Logical time at which the wallet took the newest message that these books saw taken.
    pub taken_lt: u64,
}

const MESSAGE: &str = "messages.id, seqno, valid_until, boc, wallet_before, after_lt";

impl Store {
    /// The message that is on its way to the wallet, if one is.
    pub fn pending_message(&self) -> Result<Option<Message>, Error> {
        let sql = format!("SELECT {MESSAGE} FROM messages WHERE state = 'pending'");
        self.lock().first(&sql, &[])?.map(message).transpose()
    }

    /// The message with a channel's claim that has not ended, if there is one.
    pub fn open_message(&self, channel: &Address) -> Result<Option<Message>, Error> {
        let sql = format!(
            "SELECT {MESSAGE} FROM messages JOIN payouts ON payouts.message = messages.id
             WHERE channel = ?1 AND payouts.state = 'open'"
        );
        let row = self.lock().first(&sql, values![&channel.to_string()])?;
        row.map(message).transpose()
    }

    /// The claims of a message that have not ended.
    pub fn open_payouts(&self, message: i64) -> Result<Vec<Payout>, Error> {
        let sql = "SELECT id, channel, cumulative, paid_before FROM payouts
            WHERE message = ?1 AND state = 'open' ORDER BY id";
        let rows = self.lock().all(sql, values![message])?;
        rows.into_iter().map(payout).collect()
    }

    /// The channels that a message claims from, ended or not.
    pub fn claimed_by(&self, message: i64) -> Result<Vec<Address>, Error> {
        let sql = "SELECT channel FROM payouts WHERE message = ?1";
        let names: Vec<(String,)> = self.lock().all(sql, values![message])?;
        names.iter().map(|(name,)| address(name)).collect()
    }

    /// The order that a message carries.
    pub fn order_of(&self, message: i64) -> Result<Option<Order>, Error> {
        let sql = "SELECT what, destination, amount FROM withdrawals WHERE message = ?1";
        let row: Option<(String, String, i64)> = self.lock().first(sql, values![message])?;
        let order = |(what, to, amount): (String, String, i64)| {
            Ok(Order {
                what: Ordered::named(&what)?,
                to: to.parse().map_err(|_| corrupt("destination"))?,
                amount: from_sql(amount)?,
            })
        };
        row.map(order).transpose()
    }

    /// How far these books follow the wallet.
    pub fn numbers(&self) -> Result<Numbers, Error> {
        let sql = "SELECT
            (SELECT MAX(number) FROM (SELECT MAX(seqno) + 1 AS number FROM messages WHERE state <> 'another'
                UNION ALL SELECT MAX(next_seqno) FROM adopted) AS known),
            (SELECT MAX(number) FROM (SELECT MAX(seqno) + 1 AS number FROM messages WHERE state = 'taken'
                UNION ALL SELECT MAX(next_seqno) FROM adopted) AS taken),
            (SELECT MAX(taken_lt) FROM messages)";
        type Row = (Option<u32>, Option<u32>, Option<i64>);
        let (known, taken, taken_lt): Row = self.lock().one(sql, &[])?;
        Ok(Numbers {
            known: known.unwrap_or(0),
            taken: taken.unwrap_or(0),
            taken_lt: taken_lt.map_or(0, i64::cast_unsigned),
        })
    }

    /// Writes that the operator answers for every number below `next_seqno`.
    pub fn adopt(&self, next_seqno: u32, now_unix_s: u64) -> Result<(), Error> {
        let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        self.change(|change| {
            change.execute(
                "INSERT INTO adopted VALUES (?1, ?2)",
                values![next_seqno, now],
            )?;
            Ok(())
        })
    }

    /// Writes a message before it is sent. `None` when another is on its way, or a claim of one of its channels has not ended:
    /// nothing is written then. Where several hosts share the books, an error without a lease that has not run out.
    pub fn begin_message(
        &self,
        new: &NewMessage,
        lease: Option<&LeaseId>,
    ) -> Result<Option<Message>, Error> {
        let wallet_before = to_sql(new.wallet_before)?;
        // Only compared for equality and order below 2^63, which no chain reaches.
        let after_lt = new.after_lt.map(u64::cast_signed);
        let id = self.change(|change| {
            if self.is_shared() {
                lease::hold(change, lease)?;
            }
            if is_busy(change, &new.purpose)? {
                return Ok(None);
            }
            let (id,) = change.one(
                "INSERT INTO messages (seqno, valid_until, boc, wallet_before, after_lt, state)
                 VALUES (?1, ?2, ?3, ?4, ?5, 'pending') RETURNING id",
                values![
                    new.seqno,
                    new.valid_until,
                    &new.boc[..],
                    wallet_before,
                    after_lt
                ],
            )?;
            insert_purpose(change, id, &new.purpose)?;
            Ok(Some(id))
        })?;
        Ok(id.map(|id| Message {
            id,
            seqno: new.seqno,
            valid_until: new.valid_until,
            boc: new.boc.clone(),
            wallet_before: new.wallet_before,
            after_lt: new.after_lt,
        }))
    }

    /// Writes that the wallet took a message, and when: its next one may follow.
    pub fn message_taken(&self, id: i64, lt: Option<u64>) -> Result<(), Error> {
        self.change(|change| {
            let sql = "UPDATE messages SET state = 'taken', taken_lt = ?2 WHERE id = ?1 AND state = 'pending'";
            change.execute(sql, values![id, lt.map(u64::cast_signed)])?;
            Ok(())
        })
    }

    /// Writes that a message will never be taken: it is void, or the wallet took another under its number.
    pub fn message_lost(&self, id: i64, to_another: bool, now_unix_s: u64) -> Result<(), Error> {
        let state = if to_another { "another" } else { "void" };
        let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        self.change(|change| {
            let sql = "UPDATE messages SET state = ?2 WHERE id = ?1 AND state IN ('pending', 'taken')";
            change.execute(sql, values![id, state])?;
            for table in ["payouts", "withdrawals"] {
                let sql = format!(
                    "UPDATE {table} SET state = 'expired', ended_unix_s = ?2 WHERE message = ?1 AND state = 'open'"
                );
                change.execute(&sql, values![id, now])?;
            }
            Ok(())
        })
    }

    /// Writes how a payout ended, and what its channel has paid; its price is what was shown as far as the books add up. Ending it twice changes nothing: another process may have seen it
    /// first.
    pub fn end_payout(
        &self,
        id: i64,
        outcome: &PayoutOutcome,
        now_unix_s: u64,
    ) -> Result<(), Error> {
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
        let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        self.change(|change| {
            let price = match (price, paid_after) {
                (Some(shown), Some(after)) => Claims::OfWallet.price(change, id, shown, after)?,
                _ => None,
            };
            change.execute(
                "UPDATE payouts SET state = ?2, price = ?3, fee = ?4, paid_after = ?5, wallet_after = ?6, ended_unix_s = ?7
                 WHERE id = ?1 AND state = 'open'",
                values![id, state, price, fee, paid_after, wallet_after, now],
            )?;
            if paid_after.is_some() {
                let insert = "INSERT INTO progress SELECT channel, ?2, 0 FROM payouts WHERE id = ?1";
                change.execute(&format!("{insert} {PROGRESS_GROWS}"), values![id, paid_after])?;
            }
            Ok(())
        })
    }

    /// Writes whether the wallet sent what was ordered, or, later, that it came back.
    pub fn end_order(&self, message: i64, sent: bool, now_unix_s: u64) -> Result<(), Error> {
        let (state, before) = match sent {
            true => ("sent", "'open'"),
            false => ("refused", "'open', 'sent'"),
        };
        let now = i64::try_from(now_unix_s).unwrap_or(i64::MAX);
        self.change(|change| {
            let sql = format!(
                "UPDATE withdrawals SET state = ?2, ended_unix_s = ?3 WHERE message = ?1 AND state IN ({before})"
            );
            let sql = sql.as_str();
            change.execute(sql, values![message, state, now])?;
            Ok(())
        })
    }

    /// Whether the wallet has sent what a message's order says.
    pub fn sent(&self, message: i64) -> Result<bool, Error> {
        let sql = "SELECT EXISTS (SELECT 1 FROM withdrawals WHERE message = ?1 AND state = 'sent')";
        let (sent,) = self.lock().one(sql, values![message])?;
        Ok(sent)
    }

    /// How many claims have not ended, and what they would bring.
    pub fn open_sum(&self) -> Result<(u32, Nano), Error> {
        let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(owed), 0) AS BIGINT) FROM (
                       SELECT cumulative - paid_before AS owed FROM payouts WHERE state = 'open' UNION ALL
                       SELECT cumulative - paid_before FROM external_claims WHERE state = 'open') AS claims";
        let (count, sum) = self.lock().one(sql, &[])?;
        Ok((count, from_sql(sum)?))
    }

    /// Everything that was paid to the wallet, withdrawn from it, staked and taken out of the stake, oldest first.
    pub fn entries(&self) -> Result<Vec<Entry>, Error> {
        let rows = self.lock().all(
            "SELECT kind, ended_unix_s, address, amount, fee, seqno FROM (
                SELECT CAST('payout' AS TEXT) AS kind, ended_unix_s, channel AS address, price AS amount, fee, seqno, message
                FROM payouts JOIN messages ON messages.id = message WHERE payouts.state = 'paid'
                UNION ALL
                SELECT 'payout', ended_unix_s, channel, price, fee, NULL, NULL FROM external_claims WHERE state = 'paid'
                UNION ALL
                SELECT what, ended_unix_s, destination, amount, NULL, seqno, message
                FROM withdrawals JOIN messages ON messages.id = message
                WHERE withdrawals.state = 'sent' AND what <> 'stake_unbond') AS entries
             ORDER BY ended_unix_s NULLS FIRST, message NULLS FIRST",
            &[],
        )?;
        rows.into_iter().map(entry).collect()
    }

    /// How many payouts ended as paid on a channel, and their sum.
    pub fn paid_out(&self, channel: &Address) -> Result<(u32, Nano), Error> {
        let sql = "SELECT COUNT(*), CAST(COALESCE(SUM(price), 0) AS BIGINT) FROM (
                       SELECT price FROM payouts WHERE channel = ?1 AND state = 'paid' UNION ALL
                       SELECT price FROM external_claims WHERE channel = ?1 AND state = 'paid') AS paid";
        let (count, sum) = self.lock().one(sql, values![&channel.to_string()])?;
        Ok((count, from_sql(sum)?))
    }
}

#[cfg(test)]
impl Store {
    /// How long after its message was void the slowest claim was ended, in seconds.
    pub(crate) fn latest_end(&self) -> Result<i64, Error> {
        let sql = "SELECT COALESCE(MAX(ended_unix_s - valid_until), 0) FROM payouts JOIN messages ON messages.id = message";
        let (latest,) = self.lock().one(sql, &[])?;
        Ok(latest)
    }
}

/// Whether a message is on its way, or a claim of one of these channels.
fn is_busy(change: &Sql, purpose: &Purpose) -> Result<bool, Error> {
    let pending = "SELECT EXISTS (SELECT 1 FROM messages WHERE state = 'pending')";
    if let (true,) = change.one(pending, &[])? {
        return Ok(true);
    }
    let Purpose::Claims(claims) = purpose else {
        return Ok(false);
    };
    let open = "SELECT EXISTS (SELECT 1 FROM payouts WHERE channel = ?1 AND state = 'open')";
    for claim in claims {
        if let (true,) = change.one(open, values![&claim.channel.to_string()])? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn insert_purpose(change: &Sql, message: i64, purpose: &Purpose) -> Result<(), Error> {
    match purpose {
        Purpose::Claims(claims) => {
            let insert = "INSERT INTO payouts (message, channel, cumulative, paid_before, state)
                VALUES (?1, ?2, ?3, ?4, 'open')";
            for claim in claims {
                let (cumulative, paid) = (to_sql(claim.cumulative)?, to_sql(claim.paid_before)?);
                let channel = claim.channel.to_string();
                change.execute(insert, values![message, &channel, cumulative, paid])?;
            }
        }
        Purpose::Order(Order { what, to, amount }) => {
            change.execute(
                "INSERT INTO withdrawals (message, what, destination, amount, state) VALUES (?1, ?2, ?3, ?4, 'open')",
                values![message, what.name(), &to.to_string(), to_sql(*amount)?],
            )?;
        }
    }
    Ok(())
}

type MessageRow = (i64, u32, u32, Vec<u8>, i64, Option<i64>);

fn message(
    (id, seqno, valid_until, boc, wallet_before, after_lt): MessageRow,
) -> Result<Message, Error> {
    Ok(Message {
        id,
        seqno,
        valid_until,
        boc,
        wallet_before: from_sql(wallet_before)?,
        after_lt: after_lt.map(i64::cast_unsigned),
    })
}

type EntryRow = (String, Option<i64>, String, i64, Option<i64>, Option<u32>);

fn entry((kind, ended, address, amount, fee, seqno): EntryRow) -> Result<Entry, Error> {
    Ok(Entry {
        kind: match kind.as_str() {
            "payout" => "payout",
            what => Ordered::named(what)?.name(),
        },
        ended_unix_s: ended.map(i64::cast_unsigned),
        address,
        amount: from_sql(amount)?,
        fee: fee.map(from_sql).transpose()?,
        seqno,
    })
}

fn payout((id, channel, cumulative, paid): (i64, String, i64, i64)) -> Result<Payout, Error> {
    Ok(Payout {
        id,
        claim: Claim {
            channel: address(&channel)?,
            cumulative: from_sql(cumulative)?,
            paid_before: from_sql(paid)?,
        },
    })
}
