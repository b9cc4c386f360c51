//! What the proxy remembers: vouchers, charges and payouts, in one SQLite file or in a PostgreSQL database.
//!
//! Promises: what was answered with success is on the disk (`synchronous=FULL`); a lower voucher never replaces a higher
//! one; a receipt key has one charge for each sequence number. Two processes may share the file, and two hosts the database: each
//! change is one transaction that has the books to itself. Books belong to one payee on one chain and are refused by any other.

mod charges;
mod disk;
#[cfg(test)]
pub(crate) mod engines;
mod evidence;
mod external;
mod group;
mod lease;
mod log;
mod payouts;
mod place;
#[cfg(feature = "postgres")]
mod postgresql;
mod price;
mod schema;
mod sql;

pub use charges::KeptReceipt;
pub use evidence::KeptEvidence;
pub use external::ExternalClaim;
pub use lease::LeaseId;
pub use log::LogEntry;
pub use payouts::{
    Claim, Entry, Message, NewMessage, Numbers, Order, Ordered, Paid, Payout, PayoutOutcome,
    Purpose,
};
pub use place::StatePlace;

use self::sql::{Sql, values};
use crate::blocking::Blocking;
use crate::error::{Context, Error, Fault};
use crate::limits::KEYSETS_MAX;
use settlement::{Address, ChainId, Nano, SignedVoucher, VerifiedVoucher};
#[cfg(test)]
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::time::Instant;
use wire::KeysetDigest;

/// A handle to the books; clones share its two connections.
#[derive(Clone)]
pub struct Store {
    writing: Arc<Mutex<Sql>>,
    /// Reads what is committed while the other one waits for the disk.
    reading: Arc<Mutex<Sql>>,
    changes: Arc<group::Group>,
    questions: Arc<group::Group>,
    place: Arc<StatePlace>,
    blocking: Blocking,
    /// Whether the last change failed.
    failed: Arc<AtomicBool>,
    /// When there was last seen to be room on the disk.
    looked: Arc<Mutex<Option<Instant>>>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// Sum of the charges of every receipt key.
    pub owed: Nano,
    /// The highest voucher.
    pub highest: Option<SignedVoucher>,
}

impl Figures {
    /// What the highest voucher promises.
    pub fn vouchered(&self) -> Nano {
        let highest = self.highest.as_ref();
        highest.map_or(Nano::ZERO, |signed| signed.voucher.cumulative)
    }
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
    /// Opens or creates the books of `payee` on `chain`.
    pub fn open_at(place: &StatePlace, payee: &Address, chain: ChainId) -> Result<Self, Error> {
        let opened = schema::open(place, payee, chain);
        let (writing, reading) = opened.context(Fault::Host, || place)?;
        Ok(Store {
            writing: Arc::new(Mutex::new(writing)),
            reading: Arc::new(Mutex::new(reading)),
            changes: Arc::default(),
            questions: Arc::default(),
            place: Arc::new(place.clone()),
            blocking: Blocking::Threads,
            failed: Arc::default(),
            looked: Arc::default(),
        })
    }

    /// The same of a file.
    #[cfg(test)]
    pub(crate) fn open(path: &Path, payee: &Address, chain: ChainId) -> Result<Self, Error> {
        Self::open_at(&StatePlace::File(path.to_owned()), payee, chain)
    }

    /// The same books, whose [`Store::on_disk`] runs its work there.
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
    pub async fn take(&self, voucher: &VerifiedVoucher) -> Result<Taken, Error> {
        self.change_together(taking(voucher)?).await
    }

    /// The same on this thread.
    #[cfg(test)]
    pub(crate) fn take_now(&self, voucher: &VerifiedVoucher) -> Result<Taken, Error> {
        self.change_now(taking(voucher)?)
    }

    /// The highest voucher of a channel.
    pub fn highest(&self, channel: &Address) -> Result<Option<SignedVoucher>, Error> {
        highest(&self.read(), &channel.to_string())
    }

    /// What is owed and promised on a channel.
    pub fn figures(&self, channel: &Address) -> Result<Figures, Error> {
        figures(&self.read(), channel)
    }

    /// The same for one of many jobs.
    pub async fn figures_of(&self, channel: Address) -> Result<Figures, Error> {
        self.read_together(move |sql| figures(sql, &channel)).await
    }

    /// Sums over all channels.
    pub fn totals(&self) -> Result<Totals, Error> {
        let (channels, owed, promised, claimed): (i64, i64, i64, i64) = self.read().one(
            "SELECT
                (SELECT COUNT(*) FROM (SELECT channel FROM vouchers UNION SELECT channel FROM charges) AS known),
                (SELECT CAST(COALESCE(SUM(most), 0) AS BIGINT) FROM
                    (SELECT MAX(cumulative) AS most FROM charges GROUP BY channel, receipt_key) AS newest),
                (SELECT CAST(COALESCE(SUM(cumulative), 0) AS BIGINT) FROM vouchers),
                (SELECT CAST(COALESCE(SUM(price), 0) AS BIGINT) FROM payouts WHERE state = 'paid')
                    + (SELECT CAST(COALESCE(SUM(price), 0) AS BIGINT) FROM external_claims WHERE state = 'paid')",
            &[],
        )?;
        Ok(Totals {
            channels: channels.unsigned_abs(),
            owed: from_sql(owed)?,
            promised: from_sql(promised)?,
            claimed: from_sql(claimed)?,
        })
    }

    /// Every channel with a charge or a voucher.
    pub fn channels(&self) -> Result<Vec<Address>, Error> {
        let all = "SELECT channel FROM vouchers UNION SELECT channel FROM charges ORDER BY channel";
        let names: Vec<(String,)> = self.lock().all(all, &[])?;
        names.iter().map(|(name,)| address(name)).collect()
    }

    /// Channels whose voucher promises more than the chain was seen to have paid, and how much more; without those that
    /// have ended. What an open claim without the wallet covers is not in the books yet, whatever the chain has paid.
    pub fn unpaid(&self) -> Result<Vec<(Address, Nano)>, Error> {
        let rows: Vec<(String, i64)> = self.lock().all(
            "SELECT vouchers.channel, vouchers.cumulative - COALESCE(waiting.paid_before, paid, 0)
             FROM vouchers LEFT JOIN progress ON progress.channel = vouchers.channel
             LEFT JOIN external_claims AS waiting ON waiting.channel = vouchers.channel AND waiting.state = 'open'
             WHERE vouchers.cumulative > COALESCE(waiting.paid_before, paid, 0) AND COALESCE(progress.ended, 0) = 0
             ORDER BY vouchers.channel",
            &[],
        )?;
        let rows = rows.iter();
        rows.map(|(channel, gain)| Ok((address(channel)?, from_sql(*gain)?)))
            .collect()
    }

    /// Remembers what the chain has paid on a channel, which only grows, and whether it will pay no more, so that it is not asked again.
    pub fn note_progress(&self, channel: &Address, paid: Nano, ended: bool) -> Result<(), Error> {
        let paid = to_sql(paid)?;
        self.change(|change| {
            let values = values![&channel.to_string(), paid, ended];
            change.execute(
                &format!("INSERT INTO progress VALUES (?1, ?2, ?3) {PROGRESS_GROWS}"),
                values,
            )?;
            Ok(())
        })
    }

    /// What the chain was seen to have paid on a channel.
    pub fn progress(&self, channel: &Address) -> Result<Nano, Error> {
        let sql = "SELECT paid FROM progress WHERE channel = ?1";
        let row = self.lock().first(sql, values![&channel.to_string()])?;
        row.map_or(Ok(Nano::ZERO), |(paid,)| from_sql(paid))
    }

    /// Remembers the payer key that a channel's address was made with.
    pub fn remember_first_key(&self, channel: &Address, key: &[u8; 32]) -> Result<(), Error> {
        if self.first_key(channel)?.is_some() {
            return Ok(());
        }
        self.change(|change| {
            change.execute(
                "INSERT INTO first_keys VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                values![&channel.to_string(), key],
            )?;
            Ok(())
        })
    }

    /// The payer key that a channel's address was made with, if it was ever seen.
    pub fn first_key(&self, channel: &Address) -> Result<Option<[u8; 32]>, Error> {
        let sql = "SELECT key FROM first_keys WHERE channel = ?1";
        let row = self.lock().first(sql, values![&channel.to_string()])?;
        Ok(row.map(|(key,)| key))
    }

    /// Remembers a keyset that this provider stands behind, and keeps its evidence.
    pub fn remember_keyset(
        &self,
        keyset: &RememberedKeyset,
        kept: &KeptEvidence,
        now_unix_s: u64,
    ) -> Result<(), Error> {
        let guest = &keyset.guest;
        self.change(|change| {
            change.execute(
                "INSERT INTO keysets (guest, digest, receipt_key) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                values![guest, &keyset.digest.0, &keyset.receipt_key],
            )?;
            change.execute(
                "DELETE FROM keysets WHERE guest = ?1 AND id NOT IN
                    (SELECT id FROM keysets WHERE guest = ?1 ORDER BY id DESC LIMIT ?2)",
                values![guest, KEYSETS_MAX as i64],
            )?;
            evidence::keep(change, (&keyset.digest, &keyset.receipt_key), kept, now_unix_s)
        })
    }

    /// The keysets that are remembered, the newest first.
    pub fn keysets(&self) -> Result<Vec<RememberedKeyset>, Error> {
        let all = "SELECT guest, digest, receipt_key FROM keysets ORDER BY id DESC";
        let rows = self.lock().all(all, &[])?.into_iter();
        let keyset = |(guest, digest, receipt_key)| RememberedKeyset {
            guest,
            digest: KeysetDigest(digest),
            receipt_key,
        };
        Ok(rows.map(keyset).collect())
    }

    fn change<T>(&self, work: impl FnOnce(&Sql) -> Result<T, Error>) -> Result<T, Error> {
        let sql = self.lock();
        #[cfg(test)]
        crate::kill::step();
        let changed = sql.transaction(work);
        #[cfg(test)]
        crate::kill::step();
        self.note(changed.is_ok());
        changed
    }

    /// Remembers whether the last change was made.
    fn note(&self, made: bool) {
        self.failed.store(!made, Ordering::Relaxed);
    }

    fn read(&self) -> MutexGuard<'_, Sql> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Sql> {
        // A panic elsewhere leaves the connection whole: a transaction that was open is rolled back when dropped.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn figures(sql: &Sql, channel: &Address) -> Result<Figures, Error> {
    let name = channel.to_string();
    // Each receipt key counts its own sum; a charge that was lost on its way is in the next one's sum.
    let sums: Vec<(i64,)> = sql.all(SUMS, values![&name])?;
    let mut owed = Nano::ZERO;
    for (sum,) in sums {
        owed = owed
            .checked_add(from_sql(sum)?)
            .ok_or(corrupt("sum of charges"))?;
    }
    let highest = highest(sql, &name)?;
    Ok(Figures { owed, highest })
}

fn highest(sql: &Sql, channel: &str) -> Result<Option<SignedVoucher>, Error> {
    let bytes = "SELECT bytes FROM vouchers WHERE channel = ?1";
    let bytes: Option<(Vec<u8>,)> = sql.first(bytes, values![channel])?;
    let decode = |(bytes,): (Vec<u8>,)| SignedVoucher::decode(&bytes);
    let decoded = bytes.map(decode).transpose();
    decoded.map_err(|_| corrupt("voucher"))
}

fn taking(
    voucher: &VerifiedVoucher,
) -> Result<impl FnOnce(&Sql) -> Result<Taken, Error> + use<>, Error> {
    let amount = to_sql(voucher.cumulative)?;
    let (bytes, channel) = (voucher.signed().encode(), voucher.channel.to_string());
    Ok(move |change: &Sql| {
        // Whoever writes and whatever was read before, it only rises.
        let risen = change.execute(
            "INSERT INTO vouchers VALUES (?1, ?2, ?3) ON CONFLICT (channel) DO UPDATE
             SET cumulative = excluded.cumulative, bytes = excluded.bytes
             WHERE excluded.cumulative > vouchers.cumulative",
            values![&channel, amount, &bytes[..]],
        )?;
        if risen == 1 {
            return Ok(Taken::Stored);
        }
        let (highest, stored): (i64, Vec<u8>) = change.one(
            "SELECT cumulative, bytes FROM vouchers WHERE channel = ?1",
            values![&channel],
        )?;
        match stored == bytes {
            true => Ok(Taken::Repeated),
            false => Ok(Taken::Stale {
                highest: from_sql(highest)?,
            }),
        }
    })
}

/// The highest sum of a channel's charges under each receipt key. From key to key, since `GROUP BY` reads all of the up to 4,096 charges
/// that are kept, before each job.
const SUMS: &str = "
    WITH RECURSIVE keys (key) AS (
        SELECT * FROM (SELECT receipt_key FROM charges WHERE channel = ?1 ORDER BY receipt_key LIMIT 1) AS first
        UNION ALL
        SELECT (SELECT receipt_key FROM charges WHERE channel = ?1 AND receipt_key > keys.key ORDER BY receipt_key LIMIT 1)
        FROM keys WHERE keys.key IS NOT NULL)
    SELECT (SELECT MAX(cumulative) FROM charges WHERE channel = ?1 AND receipt_key = keys.key)
    FROM keys WHERE keys.key IS NOT NULL";

/// Of what the chain has paid on a channel the most stays; whether it has ended is the newest word.
const PROGRESS_GROWS: &str = "ON CONFLICT (channel) DO UPDATE SET ended = excluded.ended,
    paid = CASE WHEN excluded.paid > progress.paid THEN excluded.paid ELSE progress.paid END";

fn address(name: &str) -> Result<Address, Error> {
    name.parse().map_err(|_| corrupt("channel address"))
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
