//! Keysets that were verified, so that receipts can be checked later without the worker.

use super::{Budget, BudgetError, signed, storage};
use rusqlite::{OptionalExtension, params};
use settlement::Nano;
use wire::{Keyset, KeysetDigest};

/// A keyset that belonged to an attested worker when it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKeyset {
    /// The keyset.
    pub keyset: Keyset,
    /// The root that the worker's quote led to: `intel` or `insecure-test`.
    pub root: String,
    /// When it was verified first, by this machine's clock.
    pub verified_at_unix_s: u64,
}

/// Keysets on file: three years of a worker that restarts daily. The oldest go first.
const KEYSETS_MAX: u32 = 1024;

impl Budget {
    /// Writes down the keyset of a worker that was verified.
    pub(crate) fn remember(&self, known: &KnownKeyset) -> Result<(), BudgetError> {
        let connection = self.lock();
        let at = signed(Nano(known.verified_at_unix_s))?;
        let (digest, keyset) = (known.keyset.digest().0, known.keyset.encode());
        connection
            .execute(
                "INSERT OR IGNORE INTO keysets VALUES (?1, ?2, ?3, ?4)",
                params![digest, keyset, known.root, at],
            )
            .map_err(storage)?;
        connection
            .execute(
                "DELETE FROM keysets WHERE digest NOT IN
                 (SELECT digest FROM keysets ORDER BY at_unix_s DESC, rowid DESC LIMIT ?1)",
                [KEYSETS_MAX],
            )
            .map(drop)
            .map_err(storage)
    }

    /// A keyset that was verified.
    pub fn keyset(&self, digest: &KeysetDigest) -> Result<Option<KnownKeyset>, BudgetError> {
        let found: Option<(Vec<u8>, String, i64)> = self
            .lock()
            .query_row(
                "SELECT keyset, root, at_unix_s FROM keysets WHERE digest = ?1",
                [digest.0],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
            )
            .optional()
            .map_err(storage)?;
        let Some((bytes, root, at)) = found else {
            return Ok(None);
        };
        let keyset = Keyset::decode(&bytes).map_err(|e| BudgetError::Storage(e.to_string()))?;
        Ok(Some(KnownKeyset {
            keyset,
            root,
            verified_at_unix_s: u64::try_from(at).unwrap_or_default(),
        }))
    }
}
