//! Jobs that were handed to the proxy and are neither paid nor known to cost nothing: on disk before they are sent, so that a
//! program that is killed pays for what it asked for when it comes back.
//!
//! A row holds the key of one receipt and the word that ends one job. Neither opens the request or the answer.

use super::{Budget, BudgetError, Reservation, Spender, execute, signed, storage, unsigned};
use rusqlite::params;
use settlement::{Cap, Nano, SignedCap};
use wire::{CANCEL_BYTES, Digest, EnvelopeDigest, KeysetDigest, Usage};

/// What is needed to end a job, and to fetch, verify and pay its receipt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) envelope: EnvelopeDigest,
    pub(crate) keyset: KeysetDigest,
    pub(crate) job: [u8; 16],
    /// The most that the envelope allows.
    pub(crate) cost_max: Nano,
    /// The commitment to the request.
    pub(crate) request: Digest,
    pub(crate) most: Usage,
    /// What was set aside for it.
    pub(crate) amount: Nano,
    pub(crate) receipt_key: [u8; 32],
    pub(crate) cancel: [u8; CANCEL_BYTES],
    pub(crate) spender: String,
}

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS begun (
        envelope BLOB PRIMARY KEY, keyset BLOB NOT NULL, job BLOB NOT NULL, cost_max INTEGER NOT NULL, request BLOB NOT NULL,
        prompt INTEGER NOT NULL, completion INTEGER NOT NULL, amount INTEGER NOT NULL, receipt_key BLOB NOT NULL,
        cancel BLOB NOT NULL, spender TEXT NOT NULL
    ) STRICT;
";

/// Ends what is known of a job under way.
pub(super) const DELETE: &str = "DELETE FROM begun WHERE envelope = ?1";

impl Budget {
    /// Writes a job down that is about to be sent.
    pub(crate) fn begin(&self, begun: &Begun) -> Result<(), BudgetError> {
        execute(
            &self.lock(),
            "INSERT INTO begun VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            params![
                begun.envelope.0,
                begun.keyset.0,
                begun.job,
                signed(begun.cost_max)?,
                begun.request.0,
                begun.most.prompt,
                begun.most.completion,
                signed(begun.amount)?,
                begun.receipt_key,
                begun.cancel,
                begun.spender
            ],
        )
        .map(drop)
        .map_err(storage)
    }

    /// Nothing will be paid for this job.
    pub(crate) fn owes_nothing(&self, envelope: &EnvelopeDigest) {
        let deleted = execute(&self.lock(), DELETE, [envelope.0]);
        if let Err(error) = deleted {
            tracing::warn!("a job that costs nothing stays on file: {error}");
        }
    }

    /// Jobs that an earlier run of this program left, each with what it may cost set aside again.
    pub(crate) fn left(&self) -> Result<Vec<(Begun, Reservation)>, BudgetError> {
        let connection = self.lock();
        let mut all = connection
            .prepare("SELECT * FROM begun ORDER BY rowid")
            .map_err(storage)?;
        let rows = all.query_map([], |row| {
            Ok(Begun {
                envelope: EnvelopeDigest(row.get(0)?),
                keyset: KeysetDigest(row.get(1)?),
                job: row.get(2)?,
                cost_max: unsigned(row.get(3)?)?,
                request: Digest(row.get(4)?),
                most: Usage {
                    prompt: row.get(5)?,
                    cached: 0,
                    completion: row.get(6)?,
                },
                amount: unsigned(row.get(7)?)?,
                receipt_key: row.get(8)?,
                cancel: row.get(9)?,
                spender: row.get(10)?,
            })
        });
        let rows = rows.map_err(storage)?.map(|row| {
            let begun = row.map_err(storage)?;
            let spender = Spender::named(&begun.spender);
            let held = Reservation::of(&self.held, begun.amount, &spender);
            Ok((begun, held))
        });
        rows.collect()
    }

    /// The cap of a job, with the signature that its envelope had: Ed25519 signs the same alike.
    pub(crate) fn cap(&self, begun: &Begun) -> SignedCap {
        let cap = Cap {
            chain: self.chain,
            channel: self.channel,
            job: begun.job,
            most: begun.cost_max,
        };
        cap.sign(&self.payer)
    }
}
