//! Accounts and transactions in SQLite.

use crate::{
    error::LedgerError,
    machine::{self, Accounts, Effects},
    transaction::{self, TransactionView},
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use settlement::{Address, ChainId};
use std::{path::Path, time::Duration};
use tycho_types::{
    boc::Boc,
    cell::{Cell, HashBytes, Lazy},
    models::ShardAccount,
};

pub(crate) struct Store {
    db: Connection,
}

/// Totals and counters that are not in an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) next_lt: u64,
    /// External messages and faucet calls that were taken: the "block" number.
    pub(crate) seqno: u64,
    pub(crate) issued: u128,
    pub(crate) fees: u128,
}

const SCHEMA: &str = "
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE accounts (
        address BLOB PRIMARY KEY, state BLOB NOT NULL, last_hash BLOB NOT NULL, last_lt INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE transactions (
        address BLOB NOT NULL, lt INTEGER NOT NULL, boc BLOB NOT NULL, PRIMARY KEY (address, lt)
    ) STRICT, WITHOUT ROWID;
";
/// Internal messages on their way to the next block, where there are blocks.
const QUEUE: &str = "CREATE TABLE queue (place INTEGER PRIMARY KEY, boc BLOB NOT NULL) STRICT;";
const SCHEMA_VERSION: i64 = 2;
const FIRST_LT: u64 = 1_000_000;

impl Store {
    pub(crate) fn open(path: &Path, chain: ChainId) -> Result<Store, LedgerError> {
        let db = Connection::open(path)?;
        // One ledger per database: two would each believe their own balances.
        db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        Store::prepare(db, chain).map_err(|error| match error {
            LedgerError::Database(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) =>
            {
                LedgerError::InUse
            }
            other => other,
        })
    }

    pub(crate) fn in_memory(chain: ChainId) -> Result<Store, LedgerError> {
        Store::prepare(Connection::open_in_memory()?, chain)
    }

    fn prepare(mut db: Connection, chain: ChainId) -> Result<Store, LedgerError> {
        db.busy_timeout(Duration::from_millis(200))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        let foreign = |found: String| LedgerError::Foreign {
            expected: chain,
            found,
        };
        let write = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let version: i64 = write.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let tables: i64 =
            write.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        match version {
            0 if tables == 0 => {
                write.execute_batch(SCHEMA)?;
                write.execute_batch(QUEUE)?;
                write.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                put(&write, "chain", &chain.to_string())?;
                put_counters(
                    &write,
                    &Counters {
                        next_lt: FIRST_LT,
                        seqno: 1,
                        issued: 0,
                        fees: 0,
                    },
                )?;
            }
            1 | SCHEMA_VERSION => {
                if version == 1 {
                    write.execute_batch(QUEUE)?;
                    write.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                }
                let found: String = get(&write, "chain")?;
                if found != chain.to_string() {
                    return Err(foreign(format!("network {found}")));
                }
            }
            other => {
                return Err(foreign(format!(
                    "schema version {other} with {tables} tables"
                )));
            }
        }
        write.commit()?;
        Ok(Store { db })
    }

    pub(crate) fn counters(&self) -> Result<Counters, LedgerError> {
        Ok(Counters {
            next_lt: get(&self.db, "next_lt")?,
            seqno: get(&self.db, "seqno")?,
            issued: get(&self.db, "issued")?,
            fees: get(&self.db, "fees")?,
        })
    }

    /// Everything or nothing, and on disk when this returns.
    pub(crate) fn commit(
        &mut self,
        effects: &Effects,
        counters: &Counters,
    ) -> Result<(), LedgerError> {
        let write = self
            .db
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (address, account) in &effects.accounts {
            let lt =
                i64::try_from(account.last_trans_lt).map_err(|_| LedgerError::AmountOverflow)?;
            write.execute(
                "INSERT OR REPLACE INTO accounts (address, state, last_hash, last_lt) VALUES (?1, ?2, ?3, ?4)",
                params![key(address), Boc::encode(account.account.inner()), account.last_trans_hash.0, lt],
            )?;
        }
        for transaction in &effects.transactions {
            let lt = i64::try_from(transaction.lt).map_err(|_| LedgerError::AmountOverflow)?;
            write.execute(
                "INSERT INTO transactions (address, lt, boc) VALUES (?1, ?2, ?3)",
                params![key(&transaction.account), lt, transaction.boc],
            )?;
        }
        for place in &effects.delivered {
            write.execute("DELETE FROM queue WHERE place = ?1", [place])?;
        }
        for message in &effects.queued {
            write.execute(
                "INSERT INTO queue (boc) VALUES (?1)",
                [Boc::encode(message)],
            )?;
        }
        put_counters(&write, counters)?;
        write.commit()?;
        Ok(())
    }

    /// Blocks in which nothing happened.
    pub(crate) fn skip(&self, counters: &Counters) -> Result<(), LedgerError> {
        put(&self.db, "seqno", &counters.seqno.to_string())
    }

    /// The messages that the next block delivers, in the order of their making.
    pub(crate) fn queue(&self) -> Result<Vec<(i64, Cell)>, LedgerError> {
        let mut query = self
            .db
            .prepare_cached("SELECT place, boc FROM queue ORDER BY place")?;
        let rows = query.query_map([], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        rows.map(|row| {
            let (place, boc) = row?;
            let root = Boc::decode(boc).map_err(|_| LedgerError::Corrupt("a message"))?;
            Ok((place, root))
        })
        .collect()
    }

    /// Newest first, at most `limit`, before `before_lt` if given.
    pub(crate) fn transactions(
        &self,
        address: &Address,
        before_lt: Option<u64>,
        limit: usize,
    ) -> Result<Vec<TransactionView>, LedgerError> {
        let mut query = self.db.prepare_cached(
            "SELECT boc FROM transactions WHERE address = ?1 AND lt < ?2 ORDER BY lt DESC LIMIT ?3",
        )?;
        let before = before_lt
            .and_then(|lt| i64::try_from(lt).ok())
            .unwrap_or(i64::MAX);
        let rows = query.query_map(params![key(address), before, limit as i64], |row| {
            row.get::<_, Vec<u8>>(0)
        })?;
        rows.map(|boc| {
            let root = Boc::decode(boc?).map_err(|_| LedgerError::Corrupt("a transaction"))?;
            transaction::view(address, &root)
        })
        .collect()
    }

    /// Balances of all accounts together.
    pub(crate) fn balances(&self) -> Result<u128, LedgerError> {
        let mut query = self.db.prepare_cached("SELECT state FROM accounts")?;
        let rows = query.query_map([], |row| row.get::<_, Vec<u8>>(0))?;
        let mut sum = 0;
        for state in rows {
            let account = decode_state(&state?)?
                .load()
                .map_err(|_| LedgerError::Corrupt("an account"))?;
            sum += account
                .0
                .map_or(0, |account| account.balance.tokens.into_inner());
        }
        Ok(sum)
    }
}

impl Accounts for Store {
    fn shard_account(&self, address: &Address) -> Result<ShardAccount, LedgerError> {
        let mut query = self
            .db
            .prepare_cached("SELECT state, last_hash, last_lt FROM accounts WHERE address = ?1")?;
        let row = query
            .query_row([key(address)], |row| {
                Ok((
                    row.get::<_, Vec<u8>>(0)?,
                    row.get::<_, [u8; 32]>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            })
            .optional()?;
        let Some((state, last_hash, last_lt)) = row else {
            return machine::no_account();
        };
        Ok(ShardAccount {
            account: decode_state(&state)?,
            last_trans_hash: HashBytes(last_hash),
            last_trans_lt: u64::try_from(last_lt)
                .map_err(|_| LedgerError::Corrupt("a logical time"))?,
        })
    }
}

fn decode_state(state: &[u8]) -> Result<Lazy<tycho_types::models::OptionalAccount>, LedgerError> {
    let root = Boc::decode(state).map_err(|_| LedgerError::Corrupt("an account"))?;
    Lazy::from_raw(root).map_err(|_| LedgerError::Corrupt("an account"))
}

fn key(address: &Address) -> [u8; 33] {
    let mut key = [0; 33];
    key[0] = address.workchain as u8;
    key[1..].copy_from_slice(&address.hash);
    key
}

fn get<T: std::str::FromStr>(db: &Connection, name: &str) -> Result<T, LedgerError> {
    let text: String = db
        .prepare_cached("SELECT value FROM meta WHERE name = ?1")?
        .query_row([name], |row| row.get(0))?;
    text.parse().map_err(|_| LedgerError::Corrupt("a counter"))
}

fn put(db: &Connection, name: &str, value: &str) -> Result<(), LedgerError> {
    db.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?
        .execute([name, value])?;
    Ok(())
}

fn put_counters(db: &Connection, counters: &Counters) -> Result<(), LedgerError> {
    put(db, "next_lt", &counters.next_lt.to_string())?;
    put(db, "seqno", &counters.seqno.to_string())?;
    put(db, "issued", &counters.issued.to_string())?;
    put(db, "fees", &counters.fees.to_string())
}
