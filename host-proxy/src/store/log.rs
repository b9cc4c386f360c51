//! The log of receipts: one tree is open and grows with each charge, in the charge's own transaction, so that no charge is on the disk
//! without its entry; the others are closed, with root and signature.

use super::sql::{Sql, values};
use super::{Store, corrupt};
use crate::clock::now_unix_s;
use crate::error::Error;
use crate::limits::{LOG_ENTRIES_KEPT_S, LOG_TREE_ENTRIES_MAX};
use wire::{LogLeaf, log_path};

/// A tree that is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTree {
    pub tree: u64,
    pub leaves: Vec<LogLeaf>,
}

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// In the tree that still grows.
    Open { opened_unix_s: u64 },
    /// In one that is closed, with what a receipt of it has.
    Closed {
        tree: u64,
        closed_unix_s: u64,
        size: u64,
        index: u64,
        path: Vec<[u8; 32]>,
        signature: [u8; 64],
        timestamp: Option<Vec<u8>>,
    },
}

/// Adds an entry to the open tree, and opens one if none is.
pub(super) fn append(change: &Sql, leaf: LogLeaf) -> Result<(), Error> {
    let open = "SELECT tree, (SELECT MAX(position) FROM log_entries WHERE log_entries.tree = log_trees.tree)
        FROM log_trees WHERE root IS NULL";
    let (tree, last): (i64, i64) = match change.first(open, &[])? {
        Some(open) => open,
        None => (begin(change)?, 0),
    };
    insert(change, tree, last + 1, leaf)
}

/// Opens the next tree. Its first entry names the root before.
fn begin(change: &Sql) -> Result<i64, Error> {
    let before = "SELECT tree, root FROM log_trees ORDER BY tree DESC LIMIT 1";
    let before: Option<(i64, [u8; 32])> = change.first(before, &[])?;
    let (tree, previous) = before.map_or((0, [0; 32]), |(tree, root)| (tree + 1, root));
    change.execute(
        "INSERT INTO log_trees (tree, opened_unix_s) VALUES (?1, ?2)",
        values![tree, seconds(now_unix_s())],
    )?;
    insert(
        change,
        tree,
        0,
        LogLeaf::head(tree.unsigned_abs(), &previous),
    )?;
    Ok(tree)
}

fn insert(change: &Sql, tree: i64, at: i64, leaf: LogLeaf) -> Result<(), Error> {
    let insert = "INSERT INTO log_entries VALUES (?1, ?2, ?3)";
    change.execute(insert, values![tree, at, &leaf.0])?;
    Ok(())
}

impl Store {
    /// The open tree, if its period of `period_s` is over, or if it is as large as one may be.
    pub fn log_due(&self, now_unix_s: u64, period_s: u64) -> Result<Option<DueTree>, Error> {
        let sql = self.read();
        let open = "SELECT tree, opened_unix_s, (SELECT COUNT(*) FROM log_entries WHERE log_entries.tree = log_trees.tree)
            FROM log_trees WHERE root IS NULL";
        let open: Option<(i64, i64, i64)> = sql.first(open, &[])?;
        let Some((tree, opened, entries)) = open else {
            return Ok(None);
        };
        let over = now_unix_s / period_s > opened.unsigned_abs() / period_s;
        if !over && entries < LOG_TREE_ENTRIES_MAX {
            return Ok(None);
        }
        Ok(Some(DueTree {
            tree: tree.unsigned_abs(),
            leaves: leaves(&sql, tree)?,
        }))
    }

    /// Closes a tree with what was signed of it. `false`: it has grown since it was read.
    pub fn log_close(
        &self,
        due: &DueTree,
        closed_unix_s: u64,
        root: &[u8; 32],
        signature: &[u8; 64],
    ) -> Result<bool, Error> {
        let (tree, closed) = (due.tree.cast_signed(), seconds(closed_unix_s));
        self.change(|change| {
            let closed = change.execute(
                "UPDATE log_trees SET closed_unix_s = ?2, root = ?3, signature = ?4 WHERE tree = ?1 AND root IS NULL
                 AND ?5 = (SELECT COUNT(*) FROM log_entries WHERE tree = ?1)",
                values![tree, closed, root, signature, due.leaves.len() as i64],
            )?;
            change.execute(
                "DELETE FROM log_entries WHERE tree IN (SELECT tree FROM log_trees WHERE closed_unix_s < ?1)",
                values![seconds(closed_unix_s.saturating_sub(LOG_ENTRIES_KEPT_S))],
            )?;
            Ok(closed == 1)
        })
    }

    /// The oldest closed tree without a time-stamp, of those whose entries are kept, with its signature.
    pub fn log_untimed(&self, now_unix_s: u64) -> Result<Option<(u64, [u8; 64])>, Error> {
        let oldest = "SELECT tree, signature FROM log_trees
            WHERE root IS NOT NULL AND timestamp IS NULL AND closed_unix_s >= ?1 ORDER BY tree LIMIT 1";
        let since = seconds(now_unix_s.saturating_sub(LOG_ENTRIES_KEPT_S));
        let found: Option<(i64, [u8; 64])> = self.read().first(oldest, values![since])?;
        Ok(found.map(|(tree, signature)| (tree.unsigned_abs(), signature)))
    }

    /// Keeps the time-stamp of a tree.
    pub fn log_timed(&self, tree: u64, timestamp: &[u8]) -> Result<(), Error> {
        let keep = "UPDATE log_trees SET timestamp = ?2 WHERE tree = ?1";
        let values = values![tree.cast_signed(), timestamp];
        self.change(|change| change.execute(keep, values).map(drop))
    }

    /// Where an entry stands in the log.
    pub fn log_entry(&self, leaf: &LogLeaf) -> Result<Option<LogEntry>, Error> {
        let sql = self.read();
        type Row = (
            i64,
            i64,
            i64,
            Option<i64>,
            Option<[u8; 64]>,
            Option<Vec<u8>>,
        );
        let row: Option<Row> = sql.first(
            "SELECT tree, position, opened_unix_s, closed_unix_s, signature, timestamp
             FROM log_entries JOIN log_trees USING (tree) WHERE leaf = ?1 LIMIT 1",
            values![&leaf.0],
        )?;
        let Some((tree, index, opened, closed, signature, timestamp)) = row else {
            return Ok(None);
        };
        let (Some(closed), Some(signature)) = (closed, signature) else {
            let opened_unix_s = opened.unsigned_abs();
            return Ok(Some(LogEntry::Open { opened_unix_s }));
        };
        let leaves = leaves(&sql, tree)?;
        let path = log_path(&leaves, index.unsigned_abs() as usize);
        Ok(Some(LogEntry::Closed {
            tree: tree.unsigned_abs(),
            closed_unix_s: closed.unsigned_abs(),
            size: leaves.len() as u64,
            index: index.unsigned_abs(),
            path: path.ok_or(corrupt("tree of the log"))?,
            signature,
            timestamp,
        }))
    }
}

fn leaves(sql: &Sql, tree: i64) -> Result<Vec<LogLeaf>, Error> {
    let all = "SELECT leaf FROM log_entries WHERE tree = ?1 ORDER BY position";
    let leaves = sql.all(all, values![tree])?.into_iter();
    Ok(leaves.map(|(leaf,)| LogLeaf(leaf)).collect())
}

fn seconds(unix_s: u64) -> i64 {
    i64::try_from(unix_s).unwrap_or(i64::MAX)
}
