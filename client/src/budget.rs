//! The budget: what was promised on the channel, on disk before anybody hears of it.
//!
//! ```text
//! verified receipt ─► one transaction: receipt + cumulative voucher (synchronous = FULL) ─► voucher sent ─► acknowledged
//!                                                  └── the program dies ─► sent again at the next contact
//! ```
//! A job is written down before it is sent, so that a program that dies before its receipt fetches that at the next contact.
//!
//! Trusted: the disk that holds the file. Promised: the cumulative amount never shrinks, a receipt is paid once, no
//! voucher is signed above the deposit, and one program at a time writes (the file is locked while it is open). A file
//! restored from a backup is behind; the payee's echo of our own signature heals that ([`Budget::adopt`]).

mod begun;
mod keysets;
mod offences;
mod sequence;
mod spender;

pub(crate) use begun::Begun;
pub use keysets::{KeptEvidence, KnownKeyset, NoProof};
pub use offences::KeptOffence;
pub use spender::{DEFAULT, KeyLimits, Limits, Reservation, Spender, Spent};

use crate::session::unix_s;
use ed25519_dalek::SigningKey;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Params, Row, params};
use settlement::{Address, ChainId, Nano, SignedVoucher, VerifiedVoucher, Voucher};
use spender::Held;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wire::{KeysetDigest, ReceiptDigest, VerifiedReceipt};

/// The open budget of one channel.
pub struct Budget {
    connection: Mutex<Connection>,
    chain: ChainId,
    channel: Address,
    payer: SigningKey,
    limits: Limits,
    held: Arc<Mutex<Held>>,
}

/// Why the budget refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum BudgetError {
    #[error("{0} is in use by another client; one client at a time may sign for a channel")]
    InUse(String),
    #[error("{path} belongs to another {what} than the configured one")]
    Another { path: String, what: &'static str },
    #[error("the job may cost {estimate} nanoTON; the limit for one job is {max}")]
    JobLimit { estimate: Nano, max: Nano },
    #[error(
        "the deposit of {deposit} nanoTON does not cover {promised} promised and {wanted} more"
    )]
    Deposit {
        deposit: Nano,
        promised: Nano,
        wanted: Nano,
    },
    #[error(
        "other jobs in flight hold the rest of the deposit of {deposit} nanoTON; {wanted} more are wanted, try again"
    )]
    InFlight { deposit: Nano, wanted: Nano },
    #[error(
        "a day's limit of {limit} nanoTON for {whose} is reached: {spent} are spent, {wanted} more are wanted; the next \
         day begins at 00:00 UTC"
    )]
    DayLimit {
        whose: String,
        limit: Nano,
        spent: Nano,
        wanted: Nano,
    },
    #[error(
        "other jobs in flight hold the rest of a day's limit of {limit} nanoTON for {whose}; try again"
    )]
    DayInFlight { whose: String, limit: Nano },
    #[error("no voucher could be signed for a verified answer: {0}")]
    AfterTheAnswer(String),
    #[error("this receipt was paid before")]
    PaidBefore,
    #[error(
        "receipt {number} of keyset {keyset} does not fit the one beside it on file: the worker signs two histories; it is not paid"
    )]
    Forked { keyset: KeysetDigest, number: u64 },
    #[error("the voucher that the payee shows was not signed by this payer for this channel")]
    NotOurs,
    #[error("the state file failed: {0}")]
    Storage(String),
}

/// A receipt on file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReceipt {
    /// The receipt as it travelled.
    pub receipt: Vec<u8>,
    /// The keyset it was verified against.
    pub keyset: KeysetDigest,
    /// What it cost.
    pub cost: Nano,
    /// The voucher's cumulative amount after it.
    pub cumulative: Nano,
}

/// Statements that stay prepared: more than there are.
const STATEMENTS: usize = 64;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS purse (
        id INTEGER PRIMARY KEY CHECK (id = 1), chain INTEGER NOT NULL, channel TEXT NOT NULL, payer BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS vouchers (
        cumulative INTEGER PRIMARY KEY, voucher BLOB NOT NULL, acknowledged INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE INDEX IF NOT EXISTS vouchers_waiting ON vouchers (cumulative) WHERE acknowledged = 0;
    CREATE TABLE IF NOT EXISTS receipts (
        digest BLOB PRIMARY KEY, core BLOB NOT NULL UNIQUE, receipt BLOB NOT NULL, keyset BLOB NOT NULL,
        cost INTEGER NOT NULL, cumulative INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS sequence (
        keyset BLOB NOT NULL, number INTEGER NOT NULL, core BLOB NOT NULL, previous BLOB NOT NULL, PRIMARY KEY (keyset, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS spent (
        receipt BLOB PRIMARY KEY, day INTEGER NOT NULL, model TEXT NOT NULL, key TEXT NOT NULL, prompt INTEGER NOT NULL,
        cached INTEGER NOT NULL, completion INTEGER NOT NULL, cost INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS spent_by_day ON spent (day, key);
    CREATE TABLE IF NOT EXISTS keysets (
        digest BLOB PRIMARY KEY, keyset BLOB NOT NULL, root TEXT NOT NULL, at_unix_s INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS evidence (
        keyset BLOB PRIMARY KEY, bundle BLOB NOT NULL, nonce BLOB NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS offences (keyset BLOB NOT NULL, charge BLOB PRIMARY KEY, other BLOB) STRICT;
";

impl Budget {
    /// Opens the file and locks it for as long as this value lives.
    pub fn open(
        path: &Path,
        chain: ChainId,
        channel: Address,
        payer: SigningKey,
    ) -> Result<Self, BudgetError> {
        let shown = path.display().to_string();
        let connection = Connection::open(path).map_err(storage)?;
        // Statements keep their plans whatever is bound to them, so that they need not be prepared anew.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(storage)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // The lock is taken by the first write transaction and kept until the file is closed, even after a crash of
        // this program: the system releases it.
        connection
            .execute_batch(&format!(
                "PRAGMA busy_timeout = 0; PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;
                 PRAGMA synchronous = FULL; BEGIN EXCLUSIVE; {SCHEMA} {} COMMIT;",
                begun::SCHEMA
            ))
            .map_err(|e| match e.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                    BudgetError::InUse(shown.clone())
                }
                _ => storage(e),
            })?;
        let key = payer.verifying_key().to_bytes();
        connection
            .execute(
                "INSERT OR IGNORE INTO purse VALUES (1, ?1, ?2, ?3)",
                params![chain.0, channel.to_string(), key],
            )
            .map_err(storage)?;
        let found: (i32, String, [u8; 32]) = connection
            .query_row("SELECT chain, channel, payer FROM purse", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .map_err(storage)?;
        let same = [
            ("chain", found.0 == chain.0),
            ("channel", found.1 == channel.to_string()),
            ("payer key", found.2 == key),
        ];
        if let Some((what, _)) = same.iter().find(|(_, same)| !same) {
            return Err(BudgetError::Another { path: shown, what });
        }
        Ok(Budget {
            connection: Mutex::new(connection),
            chain,
            channel,
            payer,
            limits: Limits::default(),
            held: Arc::default(),
        })
    }

    /// With limits besides the deposit.
    pub fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Everything promised on the channel so far.
    pub fn cumulative(&self) -> Result<Nano, BudgetError> {
        cumulative(&self.lock())
    }

    /// The highest voucher signed so far.
    pub fn highest(&self) -> Result<Option<SignedVoucher>, BudgetError> {
        self.voucher("SELECT voucher FROM vouchers ORDER BY cumulative DESC LIMIT 1")
    }

    /// The highest voucher, when the payee has not acknowledged it. Vouchers are cumulative: the ones below do not matter.
    pub fn unacknowledged(&self) -> Result<Option<SignedVoucher>, BudgetError> {
        self.voucher(
            "SELECT voucher FROM vouchers WHERE acknowledged = 0
             AND cumulative = (SELECT max(cumulative) FROM vouchers)",
        )
    }

    /// Sets aside what one job may cost, or refuses it.
    pub fn reserve(
        &self,
        cost_max: Nano,
        deposit: Nano,
        spender: &Spender,
    ) -> Result<Reservation, BudgetError> {
        let mut one = self.reserve_each(1, cost_max, deposit, spender)?;
        Ok(one.pop().expect("one was asked for"))
    }

    /// Sets aside what each of `jobs` jobs may cost, for all of them or for none.
    pub fn reserve_each(
        &self,
        jobs: u32,
        cost_max: Nano,
        deposit: Nano,
        spender: &Spender,
    ) -> Result<Vec<Reservation>, BudgetError> {
        // Held to the end, so that of two jobs at once the second sees what the first set aside.
        let connection = self.lock();
        let in_flight = self.in_flight();
        let promised = cumulative(&connection)?;
        let wanted = Nano(cost_max.0.saturating_mul(jobs.into()));
        let fits = |promised: Option<Nano>| {
            let total = promised.and_then(|promised| promised.checked_add(wanted));
            total.is_some_and(|total| total <= deposit)
        };
        if !fits(Some(promised)) {
            return Err(BudgetError::Deposit {
                deposit,
                promised,
                wanted,
            });
        }
        if !fits(promised.checked_add(in_flight)) {
            return Err(BudgetError::InFlight { deposit, wanted });
        }
        let (limits, held) = (&self.limits, &self.held);
        limits.check(&connection, held, spender, [cost_max, wanted], today()?)?;
        let each = (0..jobs).map(|_| Reservation::of(held, cost_max, spender));
        Ok(each.collect())
    }

    /// What jobs in flight may cost together.
    pub fn in_flight(&self) -> Nano {
        spender::held_total(&self.held)
    }

    /// Signs the voucher that pays a verified receipt, and writes both, before it returns.
    pub fn pay(
        &self,
        receipt: &VerifiedReceipt,
        bytes: &[u8],
        deposit: Nano,
        spender: &Spender,
    ) -> Result<SignedVoucher, BudgetError> {
        let after = |e: BudgetError| BudgetError::AfterTheAnswer(e.to_string());
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(storage).map_err(after)?;
        let core = receipt.core();
        let promised = cumulative(&transaction).map_err(after)?;
        let total = promised.checked_add(core.cost).filter(|t| *t <= deposit);
        let total = total.ok_or(BudgetError::Deposit {
            deposit,
            promised,
            wanted: core.cost,
        });
        let total = total.map_err(after)?;
        let voucher = Voucher {
            chain: self.chain,
            channel: self.channel,
            cumulative: total,
            usage_root: core.frames.0,
        };
        let voucher = voucher.sign(&self.payer);
        let stored = execute(
            &transaction,
            "INSERT INTO receipts VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![
                receipt.digest().0,
                wire::core_digest(core).0,
                bytes,
                core.keyset.0,
                signed(core.cost).map_err(after)?,
                signed(total).map_err(after)?
            ],
        );
        stored.map_err(|e| match e.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => BudgetError::PaidBefore,
            _ => after(storage(e)),
        })?;
        if let Err(error) = sequence::compare(&transaction, core) {
            drop(transaction);
            offences::keep_fork(&connection, core, receipt.charge().signed());
            return Err(error);
        }
        execute(
            &transaction,
            "INSERT INTO spent VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                receipt.digest().0,
                today().and_then(|day| signed(Nano(day))).map_err(after)?,
                core.model,
                spender.name(),
                core.usage.prompt,
                core.usage.cached,
                core.usage.completion,
                signed(core.cost).map_err(after)?
            ],
        )
        .map_err(|e| after(storage(e)))?;
        execute(&transaction, begun::DELETE, [core.envelope.0]).map_err(|e| after(storage(e)))?;
        // A job that cost nothing promises nothing new.
        if total > promised {
            execute(
                &transaction,
                "INSERT INTO vouchers (cumulative, voucher) VALUES (?1, ?2)",
                params![signed(total).map_err(after)?, voucher.encode()],
            )
            .map_err(|e| after(storage(e)))?;
        }
        transaction.commit().map_err(|e| after(storage(e)))?;
        Ok(voucher)
    }

    /// Whether a voucher of this amount was signed and not acknowledged.
    pub fn awaits(&self, cumulative: Nano) -> Result<bool, BudgetError> {
        let sql = "SELECT count(*) FROM vouchers WHERE acknowledged = 0 AND cumulative = ?1";
        let count = |row: &Row<'_>| row.get::<_, i64>(0);
        query_row(&self.lock(), sql, [signed(cumulative)?], count)
            .map(|count| count > 0)
            .map_err(storage)
    }

    /// The payee has this voucher on disk: it and those below need not be sent again.
    pub fn acknowledge(&self, cumulative: Nano) -> Result<(), BudgetError> {
        let sql =
            "UPDATE vouchers SET acknowledged = 1 WHERE acknowledged = 0 AND cumulative <= ?1";
        execute(&self.lock(), sql, [signed(cumulative)?])
            .map(drop)
            .map_err(storage)
    }

    /// Takes over our own higher voucher that the payee shows: this file is older than it (a restored backup).
    /// Returns whether that was so.
    pub fn adopt(&self, shown: &SignedVoucher) -> Result<bool, BudgetError> {
        let ours: VerifiedVoucher = shown
            .verify(&self.payer.verifying_key().to_bytes())
            .map_err(|_| BudgetError::NotOurs)?;
        if ours.chain != self.chain || ours.channel != self.channel {
            return Err(BudgetError::NotOurs);
        }
        let connection = self.lock();
        if ours.cumulative <= cumulative(&connection)? {
            return Ok(false);
        }
        connection
            .execute(
                "INSERT INTO vouchers VALUES (?1, ?2, 1)",
                params![signed(ours.cumulative)?, shown.encode()],
            )
            .map_err(storage)?;
        Ok(true)
    }

    /// How many receipts are on file, and everything promised for them.
    pub fn spent(&self) -> Result<(u64, Nano), BudgetError> {
        let connection = self.lock();
        let jobs: i64 = connection
            .query_row("SELECT COUNT(*) FROM receipts", [], |row| row.get(0))
            .map_err(storage)?;
        Ok((jobs.cast_unsigned(), cumulative(&connection)?))
    }

    /// A receipt on file.
    pub fn receipt(&self, digest: &ReceiptDigest) -> Result<Option<StoredReceipt>, BudgetError> {
        self.lock()
            .query_row(
                "SELECT receipt, keyset, cost, cumulative FROM receipts WHERE digest = ?1",
                [digest.0],
                |row| {
                    Ok(StoredReceipt {
                        receipt: row.get(0)?,
                        keyset: KeysetDigest(row.get(1)?),
                        cost: unsigned(row.get(2)?)?,
                        cumulative: unsigned(row.get(3)?)?,
                    })
                },
            )
            .optional()
            .map_err(storage)
    }

    /// The channel that pays.
    pub fn channel(&self) -> Address {
        self.channel
    }

    /// The payer's session key.
    pub(crate) fn payer(&self) -> &SigningKey {
        &self.payer
    }

    fn voucher(&self, query: &str) -> Result<Option<SignedVoucher>, BudgetError> {
        let bytes = query_row(&self.lock(), query, [], |row| row.get::<_, Vec<u8>>(0))
            .optional()
            .map_err(storage)?;
        bytes
            .map(|bytes| SignedVoucher::decode(&bytes))
            .transpose()
            .map_err(|e| BudgetError::Storage(e.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while it was held rolled its transaction back; what is on disk is whole.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn cumulative(connection: &Connection) -> Result<Nano, BudgetError> {
    let sql = "SELECT coalesce(max(cumulative), 0) FROM vouchers";
    query_row(connection, sql, [], |row| unsigned(row.get(0)?)).map_err(storage)
}

/// A change by a statement that stays prepared.
fn execute(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql)?.execute(params)
}

/// One row, by a statement that stays prepared.
fn query_row<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    connection.prepare_cached(sql)?.query_row(params, read)
}

/// The UTC day, counted from 1970-01-01.
fn today() -> Result<u64, BudgetError> {
    let now = unix_s().map_err(|error| BudgetError::Storage(error.to_string()))?;
    Ok(now / DAY_S)
}

const DAY_S: u64 = 86_400;

/// SQLite's integers are signed. All TON there is fits.
fn signed(amount: Nano) -> Result<i64, BudgetError> {
    i64::try_from(amount.0).map_err(|_| BudgetError::Storage("an amount beyond 2^63".into()))
}

fn unsigned(amount: i64) -> rusqlite::Result<Nano> {
    u64::try_from(amount)
        .map(Nano)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, amount))
}

fn storage(error: rusqlite::Error) -> BudgetError {
    BudgetError::Storage(error.to_string())
}

#[cfg(test)]
mod tests;
