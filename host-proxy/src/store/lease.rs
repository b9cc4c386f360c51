//! One signer for the wallet among the hosts that share the books: a lease in the database, which runs out by the database's clock.
//!
//! Promises: of two proxies one has the lease; a message is begun in the transaction that finds the lease still there and keeps it
//! from being taken until it ends. So a signer that was away for too long begins nothing, whatever it believes, and who follows
//! it sees all that it has begun.
//!
//! Lacks: leases in a file. Processes of one host lock it instead ([`crate::signer`]).

use super::Store;
use super::sql::{Sql, values};
use crate::error::{Context, Error, Fault};
use std::time::Duration;

/// Names one holding of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseId([u8; 16]);

impl LeaseId {
    /// A new one, from the kernel's randomness.
    pub fn new() -> Result<Self, Error> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).context(Fault::Host, || "asking the kernel for randomness")?;
        Ok(LeaseId(id))
    }
}

/// Milliseconds since 1970 by the database's clock, now and not when the transaction began.
const NOW_MS: &str = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)";

impl Store {
    /// Whether other hosts may have these books open.
    pub fn is_shared(&self) -> bool {
        self.place.file().is_none()
    }

    /// Takes the lease. `Some`: another has it, who said this of itself.
    pub fn take_lease(
        &self,
        id: &LeaseId,
        holder: &str,
        time: Duration,
    ) -> Result<Option<String>, Error> {
        let sql = format!(
            "INSERT INTO signer_lease VALUES (1, ?1, ?2, {NOW_MS} + ?3) ON CONFLICT (id) DO UPDATE
             SET owner = excluded.owner, holder = excluded.holder, until_ms = excluded.until_ms
             WHERE signer_lease.owner = excluded.owner OR signer_lease.until_ms <= {NOW_MS}"
        );
        let connection = self.lock();
        if connection.execute(&sql, values![&id.0, holder, milliseconds(time)])? == 1 {
            return Ok(None);
        }
        let other: Option<(String,)> = connection.first("SELECT holder FROM signer_lease", &[])?;
        Ok(Some(other.map_or_else(String::new, |(holder,)| holder)))
    }

    /// Keeps the lease for longer. `false`: it was lost, or given back.
    pub fn renew_lease(&self, id: &LeaseId, time: Duration) -> Result<bool, Error> {
        let sql = format!(
            "UPDATE signer_lease SET until_ms = {NOW_MS} + ?2 WHERE owner = ?1 AND until_ms > {NOW_MS}"
        );
        let renewed = self
            .lock()
            .execute(&sql, values![&id.0, milliseconds(time)])?;
        Ok(renewed == 1)
    }

    /// Lets others take it at once.
    pub fn end_lease(&self, id: &LeaseId) -> Result<(), Error> {
        let sql = "UPDATE signer_lease SET until_ms = 0 WHERE owner = ?1";
        self.lock().execute(sql, values![&id.0]).map(drop)
    }
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Within a transaction: the lease is there, and nobody takes it before the transaction ends.
pub(super) fn hold(change: &Sql, lease: Option<&LeaseId>) -> Result<(), Error> {
    let lost = "the lease to sign for this wallet ran out, so nothing is signed; it is taken again at the next attempt";
    let lost = || Error::new(Fault::Host, lost);
    let lease = lease.ok_or_else(lost)?;
    let sql =
        format!("SELECT id FROM signer_lease WHERE owner = ?1 AND until_ms > {NOW_MS} FOR UPDATE");
    let held: Option<(i64,)> = change.first(&sql, values![&lease.0])?;
    held.map(drop).ok_or_else(lost)
}
