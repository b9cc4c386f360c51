//! What the proxy remembers: vouchers, charges and payouts in one SQLite file.
//!
//! Promises: what was answered with success is on the disk (`synchronous=FULL`); a lower voucher never replaces a higher
//! one; a receipt key has one charge for each sequence number. Two processes may share the file: each change is one
//! immediate transaction. A file belongs to one payee on one chain and is refused by any other.

mod charges;
mod disk;
mod external;
mod payouts;
mod schema;

pub use charges::KeptReceipt;
pub use external::ExternalClaim;
pub use payouts::{
    Claim, Entry, Message, NewMessage, Numbers, Paid, Payout, PayoutOutcome, Purpose, Withdrawal,
};

use crate::error::{Context, Error, Fault};
use crate::limits::STORE_BUSY;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use settlement::{Address, ChainId, Nano, SignedVoucher, VerifiedVoucher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle to the file; clones share one connection.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    path: Arc<Path>,
    /// Whether the last change failed.
    failed: Arc<AtomicBool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is the highest now, and on the disk.
    Stored,
    /// It was there before.
    Repeated,
    /// A higher one is there; the sender's file is old.
    Stale { highest: Nano },
}

/// What is owed and promised on one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    pub channel: Address,
    /// Sum of the charges of every receipt key.
    pub owed: Nano,
    /// The highest voucher.
    pub vouchered: Nano,
}

impl Store {
    /// Opens or creates the file of `payee` on `chain`.
    pub fn open(path: &Path, payee: &Address, chain: ChainId) -> Result<Self, Error> {
        let opened = Self::open_connection(path, payee, chain);
        opened.context(Fault::Host, || path.display())
    }

    fn open_connection(path: &Path, payee: &Address, chain: ChainId) -> Result<Self, Error> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(STORE_BUSY)?;
        // A reader in one process does not wait for a writer in the other.
        connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: u32 = change.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let own = schema::STEPS.len() as u32;
        let Some(missing) = schema::STEPS.get(version as usize..) else {
            let words = format!("the state file has version {version}; this program writes {own}");
            return Err(Error::new(Fault::Host, words));
        };
        // All in this transaction: a kill leaves the old version.
        for step in missing {
            change.execute_batch(step)?;
        }
        if version == 0 {
            change.execute(
                "INSERT INTO owner VALUES (?1, ?2)",
                params![payee.to_string(), chain.0],
            )?;
        }
        change.pragma_update(None, "user_version", own)?;
        let owner: (String, i32) =
            change.query_row("SELECT payee, chain FROM owner", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        if owner != (payee.to_string(), chain.0) {
            let (payee, chain) = owner;
            let words = format!("the state file belongs to payee {payee} on chain {chain}");
            return Err(Error::new(Fault::Configuration, words));
        }
        change.commit()?;
        Ok(Store {
            connection: Arc::new(Mutex::new(connection)),
            path: path.into(),
            failed: Arc::default(),
        })
    }

    /// Runs `work` on a thread that may wait for the disk.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> T {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down and will not poll this again.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }

    /// Keeps a voucher if it is the highest. When this returns, it is on the disk.
    pub fn take(&self, voucher: &VerifiedVoucher) -> Result<Taken, Error> {
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
    pub fn highest(&self, channel: &Address) -> Result<Option<SignedVoucher>, Error> {
        let bytes: Option<Vec<u8>> = self
            .lock()
            .query_row(
                "SELECT bytes FROM vouchers WHERE channel = ?1",
                [channel.to_string()],
                |row| row.get(0),
            )
            .optional()?;
        let decode = |bytes: Vec<u8>| SignedVoucher::decode(&bytes).map_err(|_| corrupt("voucher"));
        bytes.map(decode).transpose()
    }

    /// What is owed and promised on a channel.
    pub fn figures(&self, channel: &Address) -> Result<Figures, Error> {
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
                .ok_or(corrupt("sum of charges"))?;
        }
        Ok(Figures {
            channel: *channel,
            owed,
            vouchered: vouchered.map_or(Ok(Nano::ZERO), from_sql)?,
        })
    }

    /// Every channel with a charge or a voucher.
    pub fn channels(&self) -> Result<Vec<Address>, Error> {
        let connection = self.lock();
        let mut all = connection.prepare(
            "SELECT channel FROM vouchers UNION SELECT channel FROM charges ORDER BY channel",
        )?;
        let names = all.query_map([], |row| row.get::<_, String>(0))?;
        names
            .map(|name| name?.parse().map_err(|_| corrupt("channel address")))
            .collect()
    }

    /// Channels whose voucher promises more than the chain was seen to have paid, and how much more; without those that
    /// have ended.
    pub fn unpaid(&self) -> Result<Vec<(Address, Nano)>, Error> {
        let connection = self.lock();
        let mut all = connection.prepare_cached(
            "SELECT vouchers.channel, cumulative - COALESCE(paid, 0) FROM vouchers LEFT JOIN progress USING (channel)
             WHERE cumulative > COALESCE(paid, 0) AND NOT COALESCE(ended, 0) ORDER BY vouchers.channel",
        )?;
        let rows = all.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
        })?;
        rows.map(|row| {
            let (channel, gain) = row?;
            let channel = channel.parse().map_err(|_| corrupt("channel address"))?;
            Ok((channel, from_sql(gain)?))
        })
        .collect()
    }

    /// Remembers what the chain has paid on a channel, which only grows, and whether it will pay no more, so that it is not asked again.
    pub fn note_progress(&self, channel: &Address, paid: Nano, ended: bool) -> Result<(), Error> {
        let paid = to_sql(paid)?;
        self.change(|change| {
            change.execute(
                "INSERT INTO progress VALUES (?1, ?2, ?3)
                 ON CONFLICT (channel) DO UPDATE SET paid = MAX(paid, ?2), ended = ?3",
                params![channel.to_string(), paid, ended],
            )?;
            Ok(())
        })
    }

    /// What the chain was seen to have paid on a channel.
    pub fn progress(&self, channel: &Address) -> Result<Nano, Error> {
        let sql = "SELECT paid FROM progress WHERE channel = ?1";
        let row = self
            .lock()
            .query_row(sql, [channel.to_string()], |row| row.get(0));
        row.optional()?.map_or(Ok(Nano::ZERO), from_sql)
    }

    /// Remembers the payer key that a channel's address was made with.
    pub fn remember_first_key(&self, channel: &Address, key: &[u8; 32]) -> Result<(), Error> {
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
    pub fn first_key(&self, channel: &Address) -> Result<Option<[u8; 32]>, Error> {
        let sql = "SELECT key FROM first_keys WHERE channel = ?1";
        Ok(self
            .lock()
            .query_row(sql, [channel.to_string()], |row| row.get(0))
            .optional()?)
    }

    fn change<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut connection = self.lock();
        let changed = || {
            #[cfg(test)]
            crate::kill::step();
            let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&change)?;
            change.commit()?;
            #[cfg(test)]
            crate::kill::step();
            Ok(done)
        };
        let changed = changed();
        self.failed.store(changed.is_err(), Ordering::Relaxed);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic elsewhere leaves the connection whole: a transaction that was open is rolled back when dropped.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn corrupt(what: &str) -> Error {
    Error::new(
        Fault::Host,
        format!("the state file holds a {what} that cannot be read"),
    )
}

impl From<rusqlite::Error> for Error {
    fn from(error: rusqlite::Error) -> Self {
        Err::<(), _>(error)
            .context(Fault::Host, || "SQLite")
            .unwrap_err()
    }
}

fn to_sql(amount: Nano) -> Result<i64, Error> {
    i64::try_from(amount.0).map_err(|_| {
        Error::new(
            Fault::Host,
            format!("{amount} nanoTON do not fit into the state file"),
        )
    })
}

fn from_sql(amount: i64) -> Result<Nano, Error> {
    u64::try_from(amount)
        .map(Nano)
        .map_err(|_| corrupt("amount"))
}

#[cfg(test)]
mod tests;
