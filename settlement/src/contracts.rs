//! The compiled contracts. Source, compiler and hashes are in `contracts/`; a test compares these bytes with the manifest, and with
//! a fresh compilation where the compiler is at hand.

use crate::cell::CellHash;
#[cfg(feature = "wallet")]
use crate::{
    StateInit,
    cell::Layout,
    ton::{Tree, TreeBuilder},
};

/// Representation hash of the channel's code.
pub const CHANNEL_CODE_HASH: [u8; 32] =
    hash("bade3b04c0d86ab946f151d9941c167c78297768341f7874f3f712b352ee4183");
/// Representation hash of the code of the channel's version 1. No channel of it is opened or lent on.
pub const CHANNEL_CODE_HASH_V1: [u8; 32] =
    hash("d6f4d8086243a4dbec39b60455c64389e1454151db638e6b96e5550f6487f93d");
/// Representation hash of the charge check's code.
pub const CHARGE_CHECK_CODE_HASH: [u8; 32] =
    hash("eb79fc3569c8b322458829f17569beebb445488081bcdb841b36a3894ae62ff8");

/// Representation hash of the stake's code.
pub const STAKE_CODE_HASH: [u8; 32] =
    hash("4144fb150e21b05d64c05642740aeee748a3af556a6121e6da1f27085ad9ba54");

/// Representation hash of the registry's code.
#[cfg(feature = "wallet")]
pub const REGISTRY_CODE_HASH: [u8; 32] =
    hash("9da6cde9e373806769e4a9b7d63e6d7584cc7e20728bbd18b10d2618bf499de1");

/// The channel's code, as far as its address needs it.
pub(crate) const CHANNEL_CODE: CellHash = CellHash {
    hash: CHANNEL_CODE_HASH,
    depth: 9,
};

/// The stake's code, likewise.
pub(crate) const STAKE_CODE: CellHash = CellHash {
    hash: STAKE_CODE_HASH,
    depth: 9,
};

/// The code of version 1, to tell its channels from strangers' contracts.
pub(crate) const CHANNEL_CODE_V1: CellHash = CellHash {
    hash: CHANNEL_CODE_HASH_V1,
    depth: 5,
};

/// A contract whose code is compiled in.
#[cfg(feature = "wallet")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contract {
    /// The payment channel.
    Channel,
    /// The charge check alone, with nothing around it.
    ChargeCheck,
    /// A provider's collateral.
    Stake,
    /// What a network allows and has revoked.
    Registry,
}

#[cfg(feature = "wallet")]
impl Contract {
    /// The code as a bag of cells.
    pub fn code_boc(self) -> &'static [u8] {
        match self {
            Contract::Channel => include_bytes!("../contracts/channel.boc"),
            Contract::ChargeCheck => include_bytes!("../contracts/charge_check.boc"),
            Contract::Stake => include_bytes!("../contracts/stake.boc"),
            Contract::Registry => include_bytes!("../contracts/registry.boc"),
        }
    }

    /// The hash of that code, computed from its cells.
    pub fn code_hash(self) -> [u8; 32] {
        self.code().root().hash
    }

    pub(crate) fn code(self) -> Tree {
        Tree::from_our_boc(self.code_boc()).expect("the compiled-in code is a bag of cells")
    }

    pub(crate) fn with_data(self, data: Tree) -> StateInit {
        StateInit::new(self.code(), data)
    }

    /// The initial state of a charge check contract. It has no data; every deployment has the same address.
    pub fn charge_check_state() -> StateInit {
        Contract::ChargeCheck.with_data(TreeBuilder::new().build())
    }
}

const fn hash(text: &str) -> [u8; 32] {
    const fn digit(byte: u8) -> u8 {
        match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => panic!("not a hex digit"),
        }
    }
    let text = text.as_bytes();
    assert!(text.len() == 64);
    let mut bytes = [0; 32];
    let mut i = 0;
    while i < 32 {
        bytes[i] = digit(text[2 * i]) << 4 | digit(text[2 * i + 1]);
        i += 1;
    }
    bytes
}
