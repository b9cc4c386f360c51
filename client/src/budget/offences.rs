//! What workers signed that their stake is slashed for, kept until its owner reports it. Such an answer is refused, so this is all that
//! stays of it.

use super::{Budget, BudgetError, signed, storage};
use rusqlite::{Connection, OptionalExtension, params};
use settlement::{ChargeError, Nano, SignedCharge};
use wire::{Keyset, KeysetDigest, Receipt, ReceiptCore};

/// Offences on file. One is enough to be slashed for; whoever commits more is not asked again.
const OFFENCES_MAX: u32 = 64;

/// Charges that contradict each other, or one that its payer did not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptOffence {
    /// The keyset of the key that signed.
    pub keyset: KeysetDigest,
    /// A charge.
    pub charge: SignedCharge,
    /// Another of the same number; `None`: the charge is above its cap.
    pub other: Option<SignedCharge>,
}

impl Budget {
    /// Keeps what a refused answer proves against its worker, if it proves anything.
    pub(crate) fn keep_offence(
        &self,
        keyset: &Keyset,
        payer_key: &[u8; 32],
        charge: &[u8],
        receipt: &[u8],
    ) {
        let shown = SignedCharge::decode(charge).ok();
        let inside = Receipt::decode(receipt).ok().map(|r| *r.charge());
        let judge = |charge: &SignedCharge| charge.verify(&keyset.receipt_key, payer_key).err();
        let not_allowed = |charge: &SignedCharge| {
            let judged = judge(charge);
            matches!(
                judged,
                Some(ChargeError::CapSignature | ChargeError::CostAboveCap { .. })
            )
        };
        let above = [shown, inside].into_iter().flatten().find(not_allowed);
        let kept = match (above, shown.zip(inside)) {
            (Some(charge), _) => Some((charge, None)),
            (None, Some((one, two))) => {
                let both = judge(&one).is_none() && judge(&two).is_none();
                (both && contradict(&one, &two)).then_some((one, Some(two)))
            }
            (None, None) => None,
        };
        if let Some((charge, other)) = kept {
            let keyset = keyset.digest();
            let offence = KeptOffence {
                keyset,
                charge,
                other,
            };
            keep(&self.lock(), &offence);
        }
    }

    /// All of them, oldest first.
    pub fn offences(&self) -> Result<Vec<KeptOffence>, BudgetError> {
        type Row = ([u8; 32], Vec<u8>, Option<Vec<u8>>);
        let connection = self.lock();
        let sql = "SELECT keyset, charge, other FROM offences ORDER BY rowid";
        let mut rows = connection.prepare(sql).map_err(storage)?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let rows: Result<Vec<Row>, _> = rows.map_err(storage)?.collect();
        let decode = |bytes: &[u8]| {
            SignedCharge::decode(bytes).map_err(|e| BudgetError::Storage(e.to_string()))
        };
        let offence = |(keyset, charge, other): Row| {
            Ok(KeptOffence {
                keyset: KeysetDigest(keyset),
                charge: decode(&charge)?,
                other: other.as_deref().map(decode).transpose()?,
            })
        };
        rows.map_err(storage)?.into_iter().map(offence).collect()
    }
}

/// Keeps a charge whose number a charge on file has, too.
pub(super) fn keep_fork(connection: &Connection, core: &ReceiptCore, charge: &SignedCharge) {
    let sql = "SELECT receipt FROM sequence JOIN receipts ON receipts.core = sequence.core
        WHERE sequence.keyset = ?1 AND sequence.number = ?2";
    let before = signed(Nano(core.sequence)).and_then(|number| {
        let row = connection.query_row(sql, params![core.keyset.0, number], |row| row.get(0));
        row.optional().map_err(storage)
    });
    let before: Option<Vec<u8>> = before.unwrap_or_default();
    let before = before.and_then(|bytes| Receipt::decode(&bytes).ok());
    if let Some(other) = before.map(|receipt| *receipt.charge())
        && contradict(charge, &other)
    {
        let offence = KeptOffence {
            keyset: core.keyset,
            charge: *charge,
            other: Some(other),
        };
        keep(connection, &offence);
    }
}

fn contradict(one: &SignedCharge, other: &SignedCharge) -> bool {
    one.charge.seq == other.charge.seq && one.charge != other.charge
}

/// The answer is refused whether or not this can be written.
fn keep(connection: &Connection, offence: &KeptOffence) {
    let written = connection.execute(
        "INSERT OR IGNORE INTO offences SELECT ?1, ?2, ?3 WHERE (SELECT count(*) FROM offences) < ?4",
        params![
            offence.keyset.0,
            offence.charge.encode(),
            offence.other.map(|other| other.encode()),
            OFFENCES_MAX
        ],
    );
    match written {
        Ok(_) => tracing::warn!(
            "the worker signed what its stake is slashed for: `chrysalis report` sends it"
        ),
        Err(error) => tracing::warn!(%error, "an offence of the worker was not written down"),
    }
}
