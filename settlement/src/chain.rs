//! Which TON network an amount, a voucher or a wallet belongs to.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A network's `global_id` (its configuration parameter 19).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub i32);

impl ChainId {
    /// The embedded ledger. Its value is simulated, and no live network has this id.
    pub const EMBEDDED: ChainId = ChainId(20241);
    /// TON's main network.
    pub const MAINNET: ChainId = ChainId(-239);
    /// TON's test network.
    pub const TESTNET: ChainId = ChainId(-3);

    /// Whether this is one of TON's public networks. Nothing simulated may sign for one that is.
    pub fn is_live(self) -> bool {
        self == ChainId::MAINNET || self == ChainId::TESTNET
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
