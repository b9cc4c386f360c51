//! A provider's stake: its terms, its address, and what a node says its state is (`contracts/stake.tolk`).

use crate::{
    Address, ChainId, Nano,
    cell::{CellHasher, Layout, state_init},
    contracts::STAKE_CODE,
};

#[cfg(feature = "wallet")]
mod messages;
#[cfg(feature = "wallet")]
mod report;
#[cfg(feature = "wallet")]
mod state;

#[cfg(feature = "wallet")]
pub use {
    report::{EndorsedKey, NoOffence, Offence},
    state::{StakeRefused, StakeState},
};

/// What makes a stake: its contract's initial state, so its address. Other terms, other address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StakeTerms {
    /// The network.
    pub chain: ChainId,
    /// Whose collateral it is, and who may take it out.
    pub owner: Address,
    /// Endorses keysets, or delegates that: the payee's key.
    pub owner_key: [u8; 32],
    /// From a request to take collateral out until it can leave, in seconds; until then it is slashable.
    pub unbond_delay_s: u32,
    /// After this moment nothing is slashed and the owner takes everything.
    pub slashable_until: u32,
    /// Tells stakes of the same terms apart.
    pub salt: u64,
}

impl StakeTerms {
    /// Where the stake lives: the hash of the contract's initial state.
    pub fn address(&self) -> Address {
        let state = state_init::<CellHasher>(&STAKE_CODE, &self.data::<CellHasher>());
        Address {
            workchain: 0,
            hash: state.hash,
        }
    }

    fn data<L: Layout>(&self) -> L::Cell {
        let terms = L::new()
            .address(&self.owner)
            .bytes(&self.owner_key)
            .uint(32, self.unbond_delay_s.into())
            .uint(32, self.slashable_until.into())
            .uint(64, self.salt)
            .build();
        // chain bonded unbonding unlock_at slashes slashed:empty ^terms
        L::new()
            .int32(self.chain.0)
            .coins(Nano::ZERO)
            .coins(Nano::ZERO)
            .uint(32, 0)
            .uint(8, 0)
            .uint(1, 0)
            .reference(&terms)
            .build()
    }
}

/// The stake's exit codes, as a transaction shows them; a charge's own are the channel's [`exit`](crate::exit).
pub mod stake_exit {
    /// Not sent by the owner.
    pub const NOT_OWNER: i32 = 431;
    /// The terms are out of bounds.
    pub const TERMS: i32 = 432;
    /// The stake is for another chain.
    pub const CHAIN: i32 = 433;
    /// Too little value in the message.
    pub const TOO_LITTLE_VALUE: i32 = 434;
    /// A zero amount.
    pub const ZERO_AMOUNT: i32 = 435;
    /// More than is bonded.
    pub const MORE_THAN_BONDED: i32 = 436;
    /// Nothing is leaving.
    pub const NOTHING_LEAVING: i32 = 437;
    /// The unbonding delay has not passed.
    pub const TOO_EARLY: i32 = 438;
    /// After `slashable_until`.
    pub const ENDED: i32 = 439;
    /// The delegation is not signed by the owner's key.
    pub const DELEGATION: i32 = 440;
    /// The delegation ended longer ago than the unbonding delay.
    pub const DELEGATION_ENDED: i32 = 441;
    /// The keyset is not endorsed by the owner.
    pub const ENDORSEMENT: i32 = 442;
    /// The charges have different numbers.
    pub const OTHER_NUMBER: i32 = 443;
    /// One charge, shown twice.
    pub const SAME_CHARGE: i32 = 444;
    /// The charge is within what its payer allowed.
    pub const WITHIN_CAP: i32 = 445;
    /// The charge names another stake.
    pub const OTHER_STAKE: i32 = 446;
    /// This offence is slashed already.
    pub const SLASHED_ALREADY: i32 = 447;
    /// Nothing is left to slash.
    pub const NOTHING_LEFT: i32 = 448;
    /// Slashed to its end: nothing can be added.
    pub const SLASHED_OUT: i32 = 449;
}
