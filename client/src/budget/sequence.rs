//! The receipts of one worker name each other in turn. Those on file are compared, so that a worker that signs two histories shows.
//!
//! Other payers' receipts are between one's own, so gaps are no fault. A number used twice is one, and so are two neighbours of which
//! the second does not name the first.

use super::{BudgetError, execute, query_row, signed, storage};
use rusqlite::{OptionalExtension, Transaction, params};
use settlement::Nano;
use wire::{CoreDigest, ReceiptCore, core_digest};

/// Writes down where a receipt stands, if it fits those on file.
pub(super) fn compare(change: &Transaction<'_>, core: &ReceiptCore) -> Result<(), BudgetError> {
    let after = |e: BudgetError| BudgetError::AfterTheAnswer(e.to_string());
    let at = |number: Option<u64>| -> Result<Option<(CoreDigest, CoreDigest)>, BudgetError> {
        let Some(number) = number else {
            return Ok(None);
        };
        let row = query_row(
            change,
            "SELECT core, previous FROM sequence WHERE keyset = ?1 AND number = ?2",
            params![core.keyset.0, signed(Nano(number))?],
            |row| Ok((CoreDigest(row.get(0)?), CoreDigest(row.get(1)?))),
        );
        row.optional().map_err(storage)
    };
    let number = core.sequence;
    let own = core_digest(core);
    let before = at(number.checked_sub(1)).map_err(after)?;
    let same = at(Some(number)).map_err(after)?;
    let next = at(number.checked_add(1)).map_err(after)?;
    let fits = same.is_none_or(|(core, _)| core == own)
        && before.is_none_or(|(before, _)| before == core.previous)
        && next.is_none_or(|(_, previous)| previous == own)
        && (number > 0 || core.previous == CoreDigest::default());
    if !fits {
        let keyset = core.keyset;
        return Err(BudgetError::Forked { keyset, number });
    }
    let stored = execute(
        change,
        "INSERT OR IGNORE INTO sequence VALUES (?1, ?2, ?3, ?4)",
        params![
            core.keyset.0,
            signed(Nano(number)).map_err(after)?,
            own.0,
            core.previous.0
        ],
    );
    stored.map(drop).map_err(|e| after(storage(e)))
}
