//! The store: vouchers, charges and payouts in one SQLite file, and the rules by which a voucher is taken.
//!
//! Promises: what was answered with success is on the disk (`synchronous=FULL`); a lower voucher never replaces a higher
//! one; one number of one receipt key has one charge. Two processes may share the file: each change is one immediate
//! transaction. A file belongs to one payee on one chain and is refused by any other.

mod payouts;

pub use payouts::{NewPayout, Paid, Payout, PayoutOutcome};

use crate::limits::STORE_BUSY;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use settlement::{
    Address, ChainId, ChannelState, ChannelStatus, Nano, SignedVoucher, VerifiedCharge,
    VerifiedVoucher, VoucherError,
};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle to the file; clones share one connection.
#[derive(Clone)]
pub struct Store(Arc<Mutex<Connection>>);

/// Why the store did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite, the disk, or a file that is not ours.
    #[error("the state file: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Another program version wrote it.
    #[error("the state file has version {0}, this program writes version {VERSION}")]
    Version(i64),
    /// Another payee, or the same on another chain, wrote it.
    #[error("the state file belongs to payee {payee} on chain {chain}")]
    Owner {
        /// Its payee.
        payee: String,
        /// Its chain.
        chain: i32,
    },
    /// More money than there can be.
    #[error("{0} nanoTON are more than there can be")]
    Amount(u64),
    /// What is stored cannot be read back.
    #[error("the state file holds a {0} that cannot be read")]
    Corrupt(&'static str),
}

/// Why a voucher is not taken. The payer is at fault, or whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoucherRefused {
    /// No voucher, or not signed by the channel's payer key.
    #[error(transparent)]
    Voucher(#[from] VoucherError),
    /// For another chain.
    #[error("the voucher is for chain {got}, the channel is on {want}")]
    Chain {
        /// The voucher's.
        got: ChainId,
        /// The channel's.
        want: ChainId,
    },
    /// For another channel.
    #[error("the voucher is for channel {0}")]
    Channel(Address),
    /// More than was deposited.
    #[error("the voucher promises {cumulative} nanoTON, the deposit is {deposit}")]
    AboveDeposit {
        /// What it promises.
        cumulative: Nano,
        /// What is there.
        deposit: Nano,
    },
    /// The channel will never pay again.
    #[error("the channel is closed")]
    Closed,
    /// Not above the one we have.
    #[error("the voucher promises {got} nanoTON, {highest} are promised already")]
    Stale {
        /// What it promises.
        got: Nano,
        /// What is stored.
        highest: Nano,
    },
}

/// What taking a voucher did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is the highest now, and on the disk.
    Stored,
    /// It was there before.
    Repeated,
    /// A higher one is there; the sender's file is old.
    Stale {
        /// The highest.
        highest: Nano,
    },
}

/// A receipt key signed two charges with one number: grounds to slash it, so both are kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the receipt key signed another charge with the number {seq}")]
pub struct Equivocation {
    /// The number.
    pub seq: u64,
}

/// What is owed and promised on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Which.
    pub channel: Address,
    /// Sum of the charges of every receipt key.
    pub owed: Nano,
    /// The highest voucher.
    pub vouchered: Nano,
}

/// Decides on a voucher by the channel's state; a pure function. Whether it is above the highest is for the store.
pub fn judge(
    signed: &SignedVoucher,
    channel: &Address,
    state: &ChannelState,
) -> Result<VerifiedVoucher, VoucherRefused> {
    let voucher = &signed.voucher;
    if voucher.chain != state.chain {
        return Err(VoucherRefused::Chain {
            got: voucher.chain,
            want: state.chain,
        });
    }
    if voucher.channel != *channel {
        return Err(VoucherRefused::Channel(voucher.channel));
    }
    if state.status == ChannelStatus::Closed {
        return Err(VoucherRefused::Closed);
    }
    let verified = signed.verify(&state.payer_key)?;
    if verified.cumulative > state.deposit {
        return Err(VoucherRefused::AboveDeposit {
            cumulative: verified.cumulative,
            deposit: state.deposit,
        });
    }
    Ok(verified)
}

impl Store {
    /// Opens or makes the file of `payee` on `chain`.
    pub fn open(path: &Path, payee: &Address, chain: ChainId) -> Result<Self, StoreError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(STORE_BUSY)?;
        // A reader in one process does not wait for a writer in the other.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match change.pragma_query_value(None, "user_version", |row| row.get(0))? {
            0 => {
                change.execute_batch(SCHEMA)?;
                change.execute(
                    "INSERT INTO owner VALUES (?1, ?2)",
                    params![payee.to_string(), chain.0],
                )?;
                change.pragma_update(None, "user_version", VERSION)?;
            }
            VERSION => {}
            other => return Err(StoreError::Version(other)),
        }
        let owner: (String, i32) =
            change.query_row("SELECT payee, chain FROM owner", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if owner != (payee.to_string(), chain.0) {
            let (payee, chain) = owner;
            return Err(StoreError::Owner { payee, chain });
        }
        change.commit()?;
        Ok(Store(Arc::new(Mutex::new(connection))))
    }

    /// Runs `work` where waiting for the disk holds up nobody.
    pub async fn on_disk<T: Send + 'static>(
        self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> T {
        match tokio::task::spawn_blocking(move || work(&self)).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going away and nobody will poll us again.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }

    /// Keeps a voucher if it is the highest. When this returns, it is on the disk.
    pub fn take(&self, voucher: &VerifiedVoucher) -> Result<Taken, StoreError> {
        let amount = to_sql(voucher.cumulative)?;
        let bytes = voucher.signed().encode();
        self.change(|change| {
            let channel = voucher.channel.to_string();
            let highest: Option<(i64, Vec<u8>)> = change
                .query_row(
                    "SELECT cumulative, bytes FROM vouchers WHERE channel = ?1",
                    [&channel],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()?;
            match highest {
                Some((_, stored)) if stored == bytes => return Ok(Taken::Repeated),
                Some((highest, _)) if highest >= amount => {
                    let highest = from_sql(highest)?;
                    return Ok(Taken::Stale { highest });
                }
                _ => {}
            }
            change.execute(
                "INSERT OR REPLACE INTO vouchers VALUES (?1, ?2, ?3)",
                params![channel, amount, bytes],
            )?;
            Ok(Taken::Stored)
        })
    }

    /// The highest voucher of a channel.
    pub fn highest(&self, channel: &Address) -> Result<Option<SignedVoucher>, StoreError> {
        let bytes: Option<Vec<u8>> = self
            .lock()
            .query_row(
                "SELECT bytes FROM vouchers WHERE channel = ?1",
                [channel.to_string()],
                |row| row.get(0),
            )
            .optional()?;
        let decode = |bytes: Vec<u8>| {
            SignedVoucher::decode(&bytes).map_err(|_| StoreError::Corrupt("voucher"))
        };
        bytes.map(decode).transpose()
    }

    /// Keeps a charge. The same again is fine; another with the same number is not.
    pub fn record(
        &self,
        receipt_key: &[u8; 32],
        charge: &VerifiedCharge,
    ) -> Result<Result<(), Equivocation>, StoreError> {
        let bytes = charge.signed().encode();
        let (cost, cumulative) = (to_sql(charge.cost)?, to_sql(charge.cumulative)?);
        // A number above 2^63 wraps to a negative one and back: SQLite has no unsigned integers, and only equality counts.
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
                    return Ok(Err(Equivocation { seq: charge.seq }));
                }
                None => {}
            }
            change.execute(
                "INSERT INTO charges VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    receipt_key,
                    seq,
                    charge.channel.to_string(),
                    cost,
                    cumulative,
                    bytes
                ],
            )?;
            Ok(Ok(()))
        })
    }

    /// What is owed and promised on a channel.
    pub fn figures(&self, channel: &Address) -> Result<Figures, StoreError> {
        let name = channel.to_string();
        let connection = self.lock();
        let vouchered: Option<i64> = connection
            .query_row(
                "SELECT cumulative FROM vouchers WHERE channel = ?1",
                [&name],
                |row| row.get(0),
            )
            .optional()?;
        // Each receipt key counts its own sum; a charge that was lost on its way is in the next one's sum.
        let mut each = connection.prepare_cached(
            "SELECT MAX(cumulative) FROM charges WHERE channel = ?1 GROUP BY receipt_key",
        )?;
        let sums = each.query_map([&name], |row| row.get::<_, i64>(0))?;
        let mut owed = Nano::ZERO;
        for sum in sums {
            owed = owed
                .checked_add(from_sql(sum?)?)
                .ok_or(StoreError::Corrupt("sum of charges"))?;
        }
        Ok(Figures {
            channel: *channel,
            owed,
            vouchered: vouchered.map_or(Ok(Nano::ZERO), from_sql)?,
        })
    }

    /// Every channel with a charge or a voucher.
    pub fn channels(&self) -> Result<Vec<Address>, StoreError> {
        let connection = self.lock();
        let mut all = connection.prepare(
            "SELECT channel FROM vouchers UNION SELECT channel FROM charges ORDER BY channel",
        )?;
        let names = all.query_map([], |row| row.get::<_, String>(0))?;
        names
            .map(|name| {
                name?
                    .parse()
                    .map_err(|_| StoreError::Corrupt("channel address"))
            })
            .collect()
    }

    /// Remembers the payer key that a channel's address was made with.
    pub fn remember_first_key(&self, channel: &Address, key: &[u8; 32]) -> Result<(), StoreError> {
        if self.first_key(channel)?.is_some() {
            return Ok(());
        }
        self.change(|change| {
            change.execute(
                "INSERT OR IGNORE INTO first_keys VALUES (?1, ?2)",
                params![channel.to_string(), key],
            )?;
            Ok(())
        })
    }

    /// The payer key that a channel's address was made with, if it was ever seen.
    pub fn first_key(&self, channel: &Address) -> Result<Option<[u8; 32]>, StoreError> {
        let sql = "SELECT key FROM first_keys WHERE channel = ?1";
        Ok(self
            .lock()
            .query_row(sql, [channel.to_string()], |row| row.get(0))
            .optional()?)
    }

    fn change<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock();
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(&change)?;
        change.commit()?;
        Ok(done)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves the connection whole: a transaction that was open is rolled back when dropped.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn to_sql(amount: Nano) -> Result<i64, StoreError> {
    i64::try_from(amount.0).map_err(|_| StoreError::Amount(amount.0))
}

fn from_sql(amount: i64) -> Result<Nano, StoreError> {
    u64::try_from(amount)
        .map(Nano)
        .map_err(|_| StoreError::Corrupt("amount"))
}

const VERSION: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE owner (payee TEXT NOT NULL, chain INTEGER NOT NULL);
CREATE TABLE vouchers (channel TEXT PRIMARY KEY, cumulative INTEGER NOT NULL, bytes BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE charges (
    receipt_key BLOB NOT NULL, seq INTEGER NOT NULL, channel TEXT NOT NULL,
    cost INTEGER NOT NULL, cumulative INTEGER NOT NULL, bytes BLOB NOT NULL,
    PRIMARY KEY (receipt_key, seq)
) WITHOUT ROWID;
CREATE INDEX charges_by_channel ON charges (channel, receipt_key, cumulative);
CREATE TABLE equivocations (receipt_key BLOB NOT NULL, bytes BLOB NOT NULL, PRIMARY KEY (receipt_key, bytes)) WITHOUT ROWID;
CREATE TABLE first_keys (channel TEXT PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE payouts (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL, cumulative INTEGER NOT NULL,
    seqno INTEGER NOT NULL, valid_until INTEGER NOT NULL, boc BLOB NOT NULL,
    paid_before INTEGER NOT NULL, wallet_before INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'paid', 'refused', 'expired')),
    price INTEGER, fee INTEGER, paid_after INTEGER, wallet_after INTEGER
);
-- The wallet numbers its messages: one payout at a time.
CREATE UNIQUE INDEX one_pending ON payouts (state) WHERE state = 'pending';
";

#[cfg(test)]
mod tests;
