//! Amounts, vouchers, charges, channels: what is owed, who signed for it, and the messages that settle it on TON.
//!
//! **What it is.** The payer signs cumulative [`Voucher`]s and a [`Cap`] for each job, a guest's receipt key signs [`Charge`]s, all as
//! TL-B cells whose hash a TVM can check. [`ChannelTerms`] names a payment channel, [`StakeTerms`] a
//! provider's collateral. With feature `wallet`, which a guest does not have, [`Wallet`] signs a
//! channel's messages for a chain, `Registry` changes what a network allows, and [`toncenter`] turns questions to a node into requests and its answers into typed values.
//!
//! **Trusts.** The Ed25519 of `ed25519-dalek`, and with feature `wallet` `tonlib-core` for bags of cells and wallet code, behind one
//! private module. A node's answers are a claim by that node: parsed within limits, never believed about signatures or terms.
//!
//! **Promises.** A [`VerifiedVoucher`] or [`VerifiedCharge`] exists only if its signature was checked. Encodings have one form per
//! value. Amounts never wrap. A channel's address is a function of its terms, the chain id among them.
//!
//! **Lacks.** It opens no file, socket, clock or random source, and parses no bag of cells that a peer sent. Jettons are not
//! here yet.

mod address;
mod cap;
mod cell;
mod chain;
mod channel;
mod charge;
mod closing;
mod contracts;
pub mod limits;
mod nano;
mod signing;
mod stake;
mod voucher;

// Feature `wallet`: what settles on a chain.
#[cfg(feature = "wallet")]
mod registry;
#[cfg(feature = "wallet")]
mod state;
#[cfg(feature = "wallet")]
mod ton;
#[cfg(feature = "wallet")]
pub mod toncenter;
#[cfg(feature = "wallet")]
mod wallet;

pub use address::{Address, AddressError};
pub use cap::{Cap, SignedCap, VerifiedCap};
pub use chain::ChainId;
pub use channel::{ChannelTerms, TermsRefused, exit};
pub use charge::{Charge, SignedCharge, VerifiedCharge};
pub use closing::{CooperativeClose, SignedClose};
pub use contracts::{
    CHANNEL_CODE_HASH, CHANNEL_CODE_HASH_V1, CHARGE_CHECK_CODE_HASH, STAKE_CODE_HASH,
};
pub use nano::{Nano, NanoError};
pub use signing::{ChargeError, DecodeError, VoucherError};
pub use stake::{StakeTerms, stake_exit};
pub use voucher::{SignedVoucher, VerifiedVoucher, Voucher};
#[cfg(feature = "wallet")]
pub use {
    contracts::{Contract, REGISTRY_CODE_HASH},
    registry::{
        Ceilings, Change, Entry, EntryName, Listed, Registry, RegistryItem, RegistryKey,
        RegistryRefused, RegistryState, RegistryTerms, RegistryView, Revocable, Tightening,
        ValueRefused, registry_exit,
    },
    stake::{EndorsedKey, NoOffence, Offence, StakeRefused, StakeState},
    state::{ChannelState, ChannelStatus, NotAdmitted, StateError},
    wallet::{Payload, StateInit, Transfer, Wallet, WalletError, message_hash},
};
