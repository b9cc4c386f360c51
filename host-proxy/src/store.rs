//! What the proxy remembers: vouchers, charges and payouts in one SQLite file.
//!
//! Promises: what was answered with success is on the disk (`synchronous=FULL`); a lower voucher never replaces a higher
//! one; a receipt key has one charge for each sequence number. Two processes may share the file: each change is one
//! immediate transaction. A file belongs to one payee on one chain and is refused by any other.

mod charges;
mod disk;
mod external;
mod group;
mod log;
mod payouts;
mod schema;

pub use charges::KeptReceipt;
pub use external::ExternalClaim;
pub use log::LogEntry;
pub use payouts::{
    Claim, Entry, Message, NewMessage, Numbers, Paid, Payout, PayoutOutcome, Purpose, Withdrawal,
};

use crate::blocking::Blocking;
use crate::error::{Context, Error, Fault};
use crate::limits::{KEYSETS_MAX, STORE_BUSY};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use settlement::{Address, ChainId, Nano, SignedVoucher, VerifiedVoucher};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::KeysetDigest;

/// A handle to the file; clones share its two connections.
#[derive(Clone)]
pub struct Store {
    connection: Arc<Mutex<Connection>>,
    /// Reads what is committed while the other one waits for the disk.
    reading: Arc<Mutex<Connection>>,
    group: Arc<group::Group>,
    path: Arc<Path>,
    blocking: Blocking,
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

/// A keyset that a guest of this provider has or had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberedKeyset {
    /// The guest's address, as the configuration writes it.
    pub guest: String,
    /// Which keyset.
    pub digest: KeysetDigest,
    /// The key that signs its charges.
    pub receipt_key: [u8; 32],
}

/// Sums over all channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Channels with a charge or a voucher.
    pub channels: u64,
    /// Of the charges of every receipt key.
    pub owed: Nano,
    /// Of the highest vouchers.
    pub promised: Nano,
    /// What claims of this proxy were paid.
    pub claimed: Nano,
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
        let reading = Connection::open(path)?;
        reading.busy_timeout(STORE_BUSY)?;
        reading.pragma_update(None, "query_only", true)?;
        Ok(Store {
            connection: Arc::new(Mutex::new(connection)),
            reading: Arc::new(Mutex::new(reading)),
            group: Arc::default(),
            path: path.into(),
            blocking: Blocking::Threads,
            failed: Arc::default(),
        })
    }

    /// The same file, whose [`Store::on_disk`] runs its work there.
    pub(crate) fn blocking(self, blocking: Blocking) -> Self {
        Store { blocking, ..self }
    }

    /// Runs `work` where it may wait for the disk: on a thread of its own.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> T + Send + 'static,
    ) -> T {
        let store = self.clone();
        match self.blocking.run(move || work(&store)).await {
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
        let (bytes, channel) = (voucher.signed().encode(), voucher.channel.to_string());
        self.change_together(move |change| {
            let mut highest = change
                .prepare_cached("SELECT cumulative, bytes FROM vouchers WHERE channel = ?1")?;
            let highest: Option<(i64, Vec<u8>)> = highest
                .query_row([&channel], |row| Ok((row.get(0)?, row.get(1)?)))
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
        let connection = self.read();
        let mut bytes =
            connection.prepare_cached("SELECT bytes FROM vouchers WHERE channel = ?1")?;
        let bytes: Option<Vec<u8>> = bytes
            .query_row([channel.to_string()], |row| row.get(0))
            .optional()?;
        let decode = |bytes: Vec<u8>| SignedVoucher::decode(&bytes).map_err(|_| corrupt("voucher"));
        bytes.map(decode).transpose()
    }

    /// What is owed and promised on a channel.
    pub fn figures(&self, channel: &Address) -> Result<Figures, Error> {
        let name = channel.to_string();
        let connection = self.read();
        let mut vouchered =
            connection.prepare_cached("SELECT cumulative FROM vouchers WHERE channel = ?1")?;
        let vouchered: Option<i64> = vouchered.query_row([&name], |row| row.get(0)).optional()?;
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

    /// Sums over all channels.
    pub fn totals(&self) -> Result<Totals, Error> {
        let connection = self.read();
        let mut sums = connection.prepare_cached(
            "SELECT (SELECT COUNT(*) FROM (SELECT channel FROM vouchers UNION SELECT channel FROM charges)),
                (SELECT COALESCE(SUM(most), 0) FROM
                    (SELECT MAX(cumulative) AS most FROM charges GROUP BY channel, receipt_key)),
                (SELECT COALESCE(SUM(cumulative), 0) FROM vouchers),
                (SELECT COALESCE(SUM(price), 0) FROM payouts WHERE state = 'paid')
                    + (SELECT COALESCE(SUM(price), 0) FROM external_claims WHERE state = 'paid')",
        )?;
        let row = sums.query_row([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        });
        let (channels, owed, promised, claimed): (i64, i64, i64, i64) = row?;
        Ok(Totals {
            channels: channels.unsigned_abs(),
            owed: from_sql(owed)?,
            promised: from_sql(promised)?,
            claimed: from_sql(claimed)?,
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

    /// Remembers a keyset that this provider stands behind.
    pub fn remember_keyset(&self, keyset: &RememberedKeyset) -> Result<(), Error> {
        self.change(|change| {
            change.execute(
                "INSERT OR IGNORE INTO keysets (guest, digest, receipt_key) VALUES (?1, ?2, ?3)",
                params![keyset.guest, keyset.digest.0, keyset.receipt_key],
            )?;
            change.execute(
                "DELETE FROM keysets WHERE guest = ?1 AND id NOT IN
                    (SELECT id FROM keysets WHERE guest = ?1 ORDER BY id DESC LIMIT ?2)",
                params![keyset.guest, KEYSETS_MAX as i64],
            )?;
            Ok(())
        })
    }

    /// The keysets that are remembered, the newest first.
    pub fn keysets(&self) -> Result<Vec<RememberedKeyset>, Error> {
        let connection = self.lock();
        let mut all = connection
            .prepare("SELECT guest, digest, receipt_key FROM keysets ORDER BY id DESC")?;
        let rows = all.query_map([], |row| {
            Ok(RememberedKeyset {
                guest: row.get(0)?,
                digest: KeysetDigest(row.get(1)?),
                receipt_key: row.get(2)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
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
        self.note(changed.is_ok());
        changed
    }

    /// Remembers whether the last change was made.
    fn note(&self, made: bool) {
        self.failed.store(!made, Ordering::Relaxed);
    }

    fn read(&self) -> MutexGuard<'_, Connection> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
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
