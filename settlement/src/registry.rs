//! A network's registry: its terms and address, its entries, the messages that change it, and what a client concludes from what a
//! node says it is (`contracts/registry.tolk`; feature `wallet`).

mod change;
mod messages;
mod state;

pub use change::{
    Ceilings, Change, Entry, EntryName, RegistryKey, Revocable, Tightening, ValueRefused,
};
pub use messages::Registry;
pub use state::{Listed, RegistryItem, RegistryRefused, RegistryState, RegistryView};

use crate::{Address, ChainId, Contract, StateInit, cell::Layout, ton::Tree, ton::TreeBuilder};

/// What makes a registry: its contract's initial state, so its address. Admin and guardian may be others later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryTerms {
    /// The network.
    pub chain: ChainId,
    /// Proposes, and tightens.
    pub admin: Address,
    /// Cancels, and tightens.
    pub guardian: Address,
    /// From a proposal until it can take effect, in seconds.
    pub delay_s: u32,
    /// Until when it can be opened; never again after that.
    pub open_until: u32,
    /// Tells registries of the same terms apart.
    pub salt: u64,
}

impl RegistryTerms {
    /// Where the registry lives: the hash of the contract's initial state.
    pub fn address(&self) -> Address {
        self.state_init().address()
    }

    /// Code and data that deploy the registry.
    pub fn state_init(&self) -> StateInit {
        Contract::Registry.with_data(self.data())
    }

    fn data(&self) -> Tree {
        let roles = TreeBuilder::new()
            .address(&self.admin)
            .address(&self.guardian)
            .build();
        let terms = TreeBuilder::new()
            .uint(32, self.delay_s.into())
            .uint(32, self.open_until.into())
            .uint(64, self.salt)
            .build();
        // chain version fee; entries, revocations, proposals: how many, and none; ^roles ^terms
        TreeBuilder::new()
            .int32(self.chain.0)
            .uint(64, 0)
            .uint(16, 0)
            .uint(48, 0)
            .uint(2, 0)
            .reference(&roles)
            .reference(&terms)
            .build()
    }
}

/// The registry's exit codes, as a transaction shows them.
pub mod registry_exit {
    /// Not sent by the admin.
    pub const NOT_ADMIN: i32 = 451;
    /// Sent by neither admin nor guardian.
    pub const NOT_GUARDIAN: i32 = 452;
    /// The terms are out of bounds.
    pub const TERMS: i32 = 453;
    /// The registry is for another chain.
    pub const CHAIN: i32 = 454;
    /// Too little value in the message.
    pub const TOO_LITTLE_VALUE: i32 = 455;
    /// Not open yet.
    pub const NOT_OPEN: i32 = 456;
    /// After `open_until`, and it has never been open.
    pub const TOO_LATE_TO_OPEN: i32 = 457;
    /// No change of this kind is made in this way.
    pub const KIND: i32 = 458;
    /// Not a value of this kind.
    pub const VALUE: i32 = 459;
    /// Nothing is proposed for this entry.
    pub const NOTHING_PROPOSED: i32 = 460;
    /// The delay has not passed.
    pub const TOO_EARLY: i32 = 461;
    /// The time to execute the proposal has passed.
    pub const VOID: i32 = 462;
    /// Revoked.
    pub const REVOKED: i32 = 463;
    /// There is no such entry.
    pub const NO_ENTRY: i32 = 464;
    /// Not tighter than what there is.
    pub const NOT_TIGHTER: i32 = 465;
    /// As many entries as there can be.
    pub const ENTRIES_FULL: i32 = 466;
    /// As many revocations as there can be, or as the guardian can make.
    pub const REVOCATIONS_FULL: i32 = 467;
    /// As many proposals as there can be.
    pub const PROPOSALS_FULL: i32 = 468;
    /// Not the code that was proposed.
    pub const CODE: i32 = 469;
    /// Nothing is above the reserve.
    pub const NOTHING_ABOVE: i32 = 470;
}
