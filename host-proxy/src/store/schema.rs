//! The tables, as steps from version to version. A step is never changed once a program with it was in use.

use super::StatePlace;
use super::sql::{Open, Sql, values};
use crate::error::{Error, Fault};
use crate::limits::STORE_BUSY;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use settlement::{Address, ChainId};
use std::path::Path;

/// Step `n` brings version `n` to `n + 1`; version 0 is an empty file.
pub(super) const STEPS: &[&str] = &[
    FIRST,
    SECOND,
    THIRD,
    LOG,
    KEYSETS,
    EXTERNAL_CLAIMS,
    LOG_TIMES,
    ORDERS,
    EVIDENCE,
];

/// Connections that write and that read the books of `payee` on `chain`, which are made or brought to this version.
pub(super) fn open(
    place: &StatePlace,
    payee: &Address,
    chain: ChainId,
) -> Result<(Sql, Sql), Error> {
    let (writing, reading) = match place {
        StatePlace::File(path) => open_file(path)?,
        #[cfg(feature = "postgres")]
        StatePlace::Database { url, password } => {
            let server = super::postgresql::Server::new(url, password.as_ref())?;
            let connect = || server.connect().map(Sql::Postgres);
            (connect()?, connect()?)
        }
        #[cfg(not(feature = "postgres"))]
        StatePlace::Database { .. } => {
            let words = "this build keeps its state in SQLite alone; the one with PostgreSQL is made by \
                `cargo build --release --package host-proxy --features postgres`";
            return Err(Error::new(Fault::Configuration, words));
        }
    };
    prepare(&writing, payee, chain)?;
    Ok((writing, reading))
}

fn open_file(path: &Path) -> Result<(Sql, Sql), Error> {
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(STORE_BUSY)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // Else a statement is planned anew for each new value of its placeholders.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        Ok::<_, Error>(connection)
    };
    let (writing, reading) = (open()?, open()?);
    // A reader in one process does not wait for a writer in the other.
    writing.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    writing.pragma_update(None, "synchronous", "FULL")?;
    reading.pragma_update(None, "query_only", true)?;
    Ok((Sql::Sqlite(writing), Sql::Sqlite(reading)))
}

/// Brings the tables to this program's version, and looks whose they are.
fn prepare(sql: &Sql, payee: &Address, chain: ChainId) -> Result<(), Error> {
    // All in this transaction: a kill leaves the old version.
    let change = Open::preparation(sql)?;
    let (version, own) = (sql.version()?, STEPS.len());
    let Some(missing) = STEPS.get(version as usize..) else {
        let words = format!("the state has version {version}; this program writes {own}");
        return Err(Error::new(Fault::Host, words));
    };
    for step in missing {
        sql.define(step)?;
    }
    let ours = (payee.to_string(), i64::from(chain.0));
    if version == 0 {
        let insert = "INSERT INTO owner VALUES (?1, ?2)";
        sql.execute(insert, values![&ours.0, ours.1])?;
    }
    if !missing.is_empty() {
        sql.set_version(own)?;
    }
    let owner: (String, i64) = sql.one("SELECT payee, chain FROM owner", &[])?;
    if owner != ours {
        let (payee, chain) = owner;
        let words = format!("the state belongs to payee {payee} on chain {chain}");
        return Err(Error::new(Fault::Configuration, words));
    }
    change.finish()
}

/// Prepared statements kept, more than there are.
const STATEMENTS: usize = 128;

const FIRST: &str = "
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

/// Which guest has a keyset, and which key signs its charges: a guest has several alive, and this program may be started again between
/// them.
const KEYSETS: &str = "
CREATE TABLE keysets (
    id INTEGER PRIMARY KEY AUTOINCREMENT, guest TEXT NOT NULL, digest BLOB NOT NULL UNIQUE, receipt_key BLOB NOT NULL
);
";

/// Payouts by logical time, the wallet apart from the channel; what the chain has paid; receipts to be fetched again.
const SECOND: &str = "
ALTER TABLE payouts RENAME TO payouts_before;
CREATE TABLE payouts (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL, cumulative INTEGER NOT NULL,
    seqno INTEGER NOT NULL, valid_until INTEGER NOT NULL, boc BLOB NOT NULL,
    paid_before INTEGER NOT NULL, wallet_before INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'taken', 'paid', 'refused', 'expired')),
    price INTEGER, fee INTEGER, paid_after INTEGER, wallet_after INTEGER,
    -- The wallet's last transaction before; NULL in rows from before this column.
    after_lt INTEGER
);
INSERT INTO payouts SELECT *, NULL FROM payouts_before;
DROP TABLE payouts_before;
-- The wallet numbers its messages: one is on its way to it at a time. What it has taken waits for its own channel only.
CREATE UNIQUE INDEX one_pending ON payouts (state) WHERE state = 'pending';
CREATE UNIQUE INDEX one_open_per_channel ON payouts (channel) WHERE state IN ('pending', 'taken');
CREATE TABLE receipts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    envelope BLOB NOT NULL UNIQUE, channel TEXT NOT NULL, payer_key BLOB NOT NULL, receipt BLOB NOT NULL, charge BLOB NOT NULL
);
CREATE INDEX receipts_by_channel ON receipts (channel, id);
CREATE TABLE progress (channel TEXT PRIMARY KEY, paid INTEGER NOT NULL, ended INTEGER NOT NULL) WITHOUT ROWID;
";

/// Messages apart from the claims that they carry, so that one carries many; withdrawals; what of the wallet the operator took over.
const THIRD: &str = "
CREATE TABLE messages (
    id INTEGER PRIMARY KEY,
    seqno INTEGER NOT NULL, valid_until INTEGER NOT NULL, boc BLOB NOT NULL, wallet_before INTEGER NOT NULL,
    after_lt INTEGER,
    -- 'another': the wallet took something else under this number.
    state TEXT NOT NULL CHECK (state IN ('pending', 'taken', 'void', 'another')),
    -- Logical time at which the wallet took it.
    taken_lt INTEGER
);
INSERT INTO messages SELECT id, seqno, valid_until, boc, wallet_before, after_lt,
    CASE state WHEN 'pending' THEN 'pending' WHEN 'expired' THEN 'void' ELSE 'taken' END, NULL FROM payouts;
ALTER TABLE payouts RENAME TO payouts_before;
CREATE TABLE payouts (
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL,
    channel TEXT NOT NULL, cumulative INTEGER NOT NULL, paid_before INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'paid', 'refused', 'expired')),
    price INTEGER, fee INTEGER, paid_after INTEGER, wallet_after INTEGER,
    -- By the chain's clock; NULL in rows from before this column.
    ended_unix_s INTEGER
);
INSERT INTO payouts SELECT id, id, channel, cumulative, paid_before,
    CASE WHEN state IN ('pending', 'taken') THEN 'open' ELSE state END, price, fee, paid_after, wallet_after, NULL
    FROM payouts_before;
DROP TABLE payouts_before;
CREATE UNIQUE INDEX one_pending ON messages (state) WHERE state = 'pending';
CREATE UNIQUE INDEX one_open_per_channel ON payouts (channel) WHERE state = 'open';
CREATE INDEX payouts_by_message ON payouts (message);
CREATE TABLE withdrawals (
    id INTEGER PRIMARY KEY, message INTEGER NOT NULL UNIQUE, destination TEXT NOT NULL, amount INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('open', 'sent', 'refused', 'expired')), ended_unix_s INTEGER
);
-- Numbers below this were taken before these books began, or while they were away, and the operator said so.
CREATE TABLE adopted (next_seqno INTEGER NOT NULL, unix_s INTEGER NOT NULL);
";

/// The log of receipts.
const LOG: &str = "
CREATE TABLE log_trees (
    tree INTEGER PRIMARY KEY, opened_unix_s INTEGER NOT NULL, closed_unix_s INTEGER, root BLOB, signature BLOB
);
CREATE UNIQUE INDEX one_open_tree ON log_trees ((root IS NULL)) WHERE root IS NULL;
CREATE TABLE log_entries (tree INTEGER NOT NULL, position INTEGER NOT NULL, leaf BLOB NOT NULL, PRIMARY KEY (tree, position))
    WITHOUT ROWID;
CREATE INDEX log_by_leaf ON log_entries (leaf);
";

/// An authority's time on a closed tree's signature.
const LOG_TIMES: &str = "
ALTER TABLE log_trees ADD COLUMN timestamp BLOB;
";

/// Claims that go without the wallet.
const EXTERNAL_CLAIMS: &str = "
CREATE TABLE external_claims (
    id INTEGER PRIMARY KEY,
    channel TEXT NOT NULL, cumulative INTEGER NOT NULL, paid_before INTEGER NOT NULL, wallet_before INTEGER NOT NULL,
    after_lt INTEGER NOT NULL,
    -- 'other': the channel has paid it by claims of wallets.
    state TEXT NOT NULL CHECK (state IN ('open', 'paid', 'other')),
    price INTEGER, fee INTEGER, paid_after INTEGER, wallet_after INTEGER, ended_unix_s INTEGER
);
CREATE UNIQUE INDEX one_external_per_channel ON external_claims (channel) WHERE state = 'open';
";

/// Orders to the stake beside withdrawals, in the same table.
const ORDERS: &str = "
ALTER TABLE withdrawals ADD COLUMN what TEXT NOT NULL DEFAULT 'withdrawal';
";

/// Evidence of keysets, for receipts that outlive their guests.
const EVIDENCE: &str = "
CREATE TABLE evidence (
    keyset BLOB PRIMARY KEY, receipt_key BLOB NOT NULL, bundle BLOB NOT NULL, nonce BLOB NOT NULL, kept_unix_s INTEGER NOT NULL
);
CREATE INDEX evidence_by_time ON evidence (kept_unix_s);
";
