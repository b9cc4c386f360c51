//! What a stake is slashed for, as whoever reports it holds it: signed charges, and the endorsement of the keyset of their key.

use crate::{
    ChannelTerms, ChargeError, SignedCharge, cell::Layout, signing, ton::Tree, ton::TreeBuilder,
};

/// Field 6 of a keyset, of 32 bytes, in CBOR: how a receipt key begins in it.
const KEY_FIELD: [u8; 3] = [0x06, 0x58, 0x20];
/// Bytes in a cell of the keyset.
const PART_BYTES: usize = 127;

/// A keyset and who endorsed it, cut as the contract wants it. Whether the endorsement holds, `wire` knows, and the contract judges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndorsedKey {
    receipt_key: [u8; 32],
    before: Vec<u8>,
    after: Vec<u8>,
    delegation: Option<[u8; 100]>,
    signature: [u8; 64],
}

/// What a stake is slashed for, once for each receipt key and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Offence {
    /// Two different charges of one key with one number.
    TwoCharges(EndorsedKey, SignedCharge, SignedCharge),
    /// A charge whose payer did not allow it: the cap is not signed by the channel's payer, or the cost is above it.
    AboveCap(EndorsedKey, SignedCharge, ChannelTerms),
}

/// Why this is no offence that a stake can be slashed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum NoOffence {
    #[error("the keyset does not have this receipt key")]
    Key,
    #[error("a charge is not signed by the keyset's receipt key")]
    Signature,
    #[error("the two charges are one")]
    SameCharge,
    #[error("the charges have the numbers {0} and {1}; an offence has one")]
    OtherNumber(u64, u64),
    #[error("the charges name two stakes, or are for two chains")]
    OtherStake,
    #[error("the charge is within what its payer allowed")]
    WithinCap,
    #[error("the terms are not those of the charge's channel")]
    Terms,
}

impl EndorsedKey {
    /// `keyset` is the encoding that was endorsed; `delegation` the payee's word for the endorser (endorser, end, signature), if the
    /// payee's own key did not sign.
    pub fn new(
        keyset: &[u8],
        receipt_key: [u8; 32],
        delegation: Option<[u8; 100]>,
        signature: [u8; 64],
    ) -> Result<EndorsedKey, NoOffence> {
        let field = [&KEY_FIELD[..], &receipt_key].concat();
        let at = keyset.windows(field.len()).position(|at| at == field);
        let at = at.ok_or(NoOffence::Key)?;
        Ok(EndorsedKey {
            receipt_key,
            before: keyset[..at].to_vec(),
            after: keyset[at + field.len()..].to_vec(),
            delegation,
            signature,
        })
    }

    fn cell(&self) -> Tree {
        let cell = TreeBuilder::new()
            .bytes(&self.signature)
            .bytes(&self.receipt_key)
            .uint(1, self.delegation.is_some().into());
        let cell = match &self.delegation {
            Some(bytes) => cell.reference(&TreeBuilder::new().bytes(bytes).build()),
            None => cell,
        };
        cell.reference(&chain(&self.before))
            .reference(&chain(&self.after))
            .build()
    }
}

/// Bytes of any length: each cell refers to the one with what comes next.
fn chain(bytes: &[u8]) -> Tree {
    let parts = bytes.chunks(PART_BYTES).rev();
    let next = parts.fold(None, |next: Option<Tree>, part| {
        let cell = TreeBuilder::new().bytes(part);
        Some(match next {
            Some(next) => cell.reference(&next).build(),
            None => cell.build(),
        })
    });
    next.unwrap_or_else(|| TreeBuilder::new().build())
}

impl Offence {
    /// The offence that two charges of one key and one number are.
    pub fn two_charges(
        key: EndorsedKey,
        first: SignedCharge,
        second: SignedCharge,
    ) -> Result<Offence, NoOffence> {
        for charge in [&first, &second] {
            signed(charge, &key.receipt_key)?;
        }
        if first.charge == second.charge {
            return Err(NoOffence::SameCharge);
        }
        let (one, other) = (first.charge.seq, second.charge.seq);
        if one != other {
            return Err(NoOffence::OtherNumber(one, other));
        }
        if first.charge.stake != second.charge.stake
            || first.charge.chain() != second.charge.chain()
        {
            return Err(NoOffence::OtherStake);
        }
        Ok(Offence::TwoCharges(key, first, second))
    }

    /// The offence that a charge is which its payer did not allow; `terms` are those of the charge's channel.
    pub fn above_cap(
        key: EndorsedKey,
        charge: SignedCharge,
        terms: ChannelTerms,
    ) -> Result<Offence, NoOffence> {
        if terms.address() != charge.charge.channel() {
            return Err(NoOffence::Terms);
        }
        match charge.verify(&key.receipt_key, &terms.payer_key) {
            Ok(_) => Err(NoOffence::WithinCap),
            Err(ChargeError::CapSignature | ChargeError::CostAboveCap { .. }) => {
                Ok(Offence::AboveCap(key, charge, terms))
            }
            Err(_) => Err(NoOffence::Signature),
        }
    }

    /// Of the key that committed it.
    pub fn receipt_key(&self) -> [u8; 32] {
        let (Offence::TwoCharges(key, ..) | Offence::AboveCap(key, ..)) = self;
        key.receipt_key
    }

    /// A charge of it.
    pub fn charge(&self) -> &SignedCharge {
        let (Offence::TwoCharges(_, charge, _) | Offence::AboveCap(_, charge, _)) = self;
        charge
    }

    pub(super) fn tag(&self) -> &'static [u8; 4] {
        match self {
            Offence::TwoCharges(..) => b"s2ch",
            Offence::AboveCap(..) => b"scap",
        }
    }

    pub(super) fn put(&self, body: TreeBuilder) -> TreeBuilder {
        match self {
            Offence::TwoCharges(key, first, second) => body
                .reference(&key.cell())
                .reference(&first.cell())
                .reference(&second.cell()),
            Offence::AboveCap(key, charge, terms) => body
                .reference(&key.cell())
                .reference(&charge.cell())
                .reference(&terms.data::<TreeBuilder>()),
        }
    }
}

fn signed(charge: &SignedCharge, receipt_key: &[u8; 32]) -> Result<(), NoOffence> {
    signing::verify(receipt_key, &charge.charge.cell_hash(), &charge.signature)
        .map_err(|_| NoOffence::Signature)
}

impl SignedCharge {
    fn cell(&self) -> Tree {
        TreeBuilder::new()
            .bytes(&self.signature)
            .reference(&self.charge.cell::<TreeBuilder>())
            .build()
    }
}
