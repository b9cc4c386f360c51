//! Who spends, and how much of it is allowed: the owner's limits by job and by day, for each key and for all together.
//!
//! Trusted: this machine's clock, by whose UTC days the limits are counted. Promised: what is on disk and what is in flight
//! never exceed a day's limit together, because a job sets aside the most that it can cost until its receipt is paid.

use super::{Budget, BudgetError, query_row, signed, storage, unsigned};
use rusqlite::{Connection, params};
use settlement::Nano;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The name of the key that an application shows, by which the books are kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Spender(Arc<str>);

impl Spender {
    /// The one who shows the key of this name.
    pub fn named(name: &str) -> Self {
        Spender(name.into())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Whoever needs no further key: the key of `api_key_file`, a socket, the command line.
impl Default for Spender {
    fn default() -> Self {
        Spender::named(DEFAULT)
    }
}

/// The name of [`Spender::default`].
pub const DEFAULT: &str = "default";

/// What the owner allows. `None` means that only the deposit is a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// For all jobs of one UTC day together.
    pub day: Option<Nano>,
    /// For single keys.
    pub keys: BTreeMap<String, KeyLimits>,
}

/// What one key may spend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyLimits {
    /// For one job.
    pub job: Option<Nano>,
    /// For all its jobs of one UTC day.
    pub day: Option<Nano>,
}

/// What one key spent on one model on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// Days since 1970-01-01, UTC.
    pub day: u64,
    /// The model's name.
    pub model: String,
    /// The key's name.
    pub key: String,
    /// Paid jobs.
    pub jobs: u64,
    /// Tokens of prompts, of which `cached` are left out.
    pub prompt: u64,
    /// Tokens of prompts that were reused.
    pub cached: u64,
    /// Tokens of completions.
    pub completion: u64,
    /// What was paid.
    pub cost: Nano,
}

/// What jobs in flight may cost together.
#[derive(Debug, Default)]
pub(super) struct Held {
    total: u64,
    by_key: HashMap<Spender, u64>,
}

/// A part of the deposit set aside for one job in flight; given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    held: Arc<Mutex<Held>>,
    amount: u64,
    spender: Spender,
}

impl Reservation {
    /// Sets the amount aside.
    pub(super) fn of(held: &Arc<Mutex<Held>>, amount: Nano, spender: &Spender) -> Self {
        let mut all = lock(held);
        all.total = all.total.saturating_add(amount.0);
        let own = all.by_key.entry(spender.clone()).or_default();
        *own = own.saturating_add(amount.0);
        drop(all);
        Reservation {
            held: Arc::clone(held),
            amount: amount.0,
            spender: spender.clone(),
        }
    }

    /// How much it is.
    pub(crate) fn amount(&self) -> Nano {
        Nano(self.amount)
    }

    /// Who asked for the job.
    pub fn spender(&self) -> &Spender {
        &self.spender
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        held.total = held.total.saturating_sub(self.amount);
        if let Some(own) = held.by_key.get_mut(&self.spender) {
            *own = own.saturating_sub(self.amount);
            if *own == 0 {
                held.by_key.remove(&self.spender);
            }
        }
    }
}

/// What is set aside for all jobs in flight.
pub(super) fn held_total(held: &Mutex<Held>) -> Nano {
    Nano(lock(held).total)
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    // Each change is a few sums: whole, whoever panicked.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Limits {
    /// Refuses jobs of which each costs `one` and all cost `wanted`, if they would exceed a limit of their key or of the day, with what
    /// is in flight already.
    pub(super) fn check(
        &self,
        connection: &Connection,
        held: &Mutex<Held>,
        spender: &Spender,
        [one, wanted]: [Nano; 2],
        day: u64,
    ) -> Result<(), BudgetError> {
        let own = self.keys.get(spender.name()).copied().unwrap_or_default();
        if let Some(max) = own.job.filter(|max| one > *max) {
            let estimate = one;
            return Err(BudgetError::JobLimit { estimate, max });
        }
        let (all_held, own_held) = {
            let held = lock(held);
            let own = held.by_key.get(spender).copied().unwrap_or_default();
            (Nano(held.total), Nano(own))
        };
        let key = format!("the key `{}`", spender.name());
        let limits = [
            (own.day, key, Some(spender.name()), own_held),
            (self.day, "all keys together".to_owned(), None, all_held),
        ];
        for (limit, whose, name, held) in limits {
            let Some(limit) = limit else { continue };
            let spent = spent_on(connection, day, name)?;
            let fits = |more: Nano| {
                let total = spent
                    .checked_add(more)
                    .and_then(|sum| sum.checked_add(wanted));
                total.is_some_and(|total| total <= limit)
            };
            match (fits(Nano(0)), fits(held)) {
                (true, true) => {}
                (false, _) => {
                    return Err(BudgetError::DayLimit {
                        whose,
                        limit,
                        spent,
                        wanted,
                    });
                }
                (true, false) => return Err(BudgetError::DayInFlight { whose, limit }),
            }
        }
        Ok(())
    }
}

/// What was paid on a day, by one key or by all.
fn spent_on(connection: &Connection, day: u64, key: Option<&str>) -> Result<Nano, BudgetError> {
    let sql =
        "SELECT coalesce(sum(cost), 0) FROM spent WHERE day = ?1 AND (?2 IS NULL OR key = ?2)";
    let of = params![signed(Nano(day))?, key];
    query_row(connection, sql, of, |row| unsigned(row.get(0)?)).map_err(storage)
}

impl Budget {
    /// What was paid since a day, by day, model and key.
    pub fn spent_since(&self, day: u64) -> Result<Vec<Spent>, BudgetError> {
        let connection = self.lock();
        let mut query = connection
            .prepare(
                "SELECT day, model, key, count(*), sum(prompt), sum(cached), sum(completion), sum(cost) FROM spent
                 WHERE day >= ?1 GROUP BY day, model, key ORDER BY day, model, key",
            )
            .map_err(storage)?;
        let rows = query.query_map([signed(Nano(day))?], |row| {
            let whole = |column| -> rusqlite::Result<u64> { Ok(unsigned(row.get(column)?)?.0) };
            Ok(Spent {
                day: whole(0)?,
                model: row.get(1)?,
                key: row.get(2)?,
                jobs: whole(3)?,
                prompt: whole(4)?,
                cached: whole(5)?,
                completion: whole(6)?,
                cost: Nano(whole(7)?),
            })
        });
        let rows = rows.map_err(storage)?;
        rows.collect::<Result<_, _>>().map_err(storage)
    }
}
