//! The messages that a registry understands.

use super::{Change, RegistryKey, RegistryTerms, Tightening};
use crate::{Address, Nano, Payload, Transfer, cell::Layout, ton::Tree, ton::TreeBuilder};

/// Value that goes with a change: the most gas that it can take. What is left of it comes back.
const CHANGE_VALUE: Nano = Nano(200_000_000);
/// Value that goes with a proposal: also a year's rent, if none of it is there.
const PROPOSAL_VALUE: Nano = Nano(800_000_000);
/// Value that opens a registry: the reserve and gas. All of it stays.
const OPENING_VALUE: Nano = Nano(800_000_000);

/// A registry by its address, to send messages to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registry(pub Address);

impl RegistryTerms {
    /// Deploys the registry and opens it; anyone may.
    pub fn open(&self, query_id: u64) -> Transfer {
        let fund = Registry(self.address()).fund(OPENING_VALUE, query_id);
        Transfer {
            state_init: Some(self.state_init()),
            ..fund
        }
    }
}

impl Registry {
    /// Adds to what it has for rent; anyone may.
    pub fn fund(&self, value: Nano, query_id: u64) -> Transfer {
        self.message(value, request(b"rfun", query_id))
    }

    /// Proposes a change; the admin may.
    pub fn propose(&self, change: &Change, query_id: u64) -> Transfer {
        let body = keyed(b"rprp", query_id, &change.key()).bytes(&change.value());
        self.message(PROPOSAL_VALUE, body)
    }

    /// Lets a proposal take effect after the delay; anyone may.
    pub fn execute(&self, key: &RegistryKey, query_id: u64) -> Transfer {
        self.message(CHANGE_VALUE, keyed(b"rexe", query_id, key).uint(1, 0))
    }

    /// The same for other code, which is a bag of cells of our own making. `None` if the bytes are none.
    pub fn execute_code(&self, code_boc: &[u8], query_id: u64) -> Option<Transfer> {
        let code = Tree::from_our_boc(code_boc)?;
        let key = Change::Code(code.root().hash).key();
        let body = keyed(b"rexe", query_id, &key).uint(1, 1).reference(&code);
        Some(self.message(CHANGE_VALUE, body))
    }

    /// Cancels a proposal; admin and guardian may.
    pub fn cancel(&self, key: &RegistryKey, query_id: u64) -> Transfer {
        self.message(CHANGE_VALUE, keyed(b"rcan", query_id, key))
    }

    /// Revokes, removes or lowers at once; admin and guardian may.
    pub fn tighten(&self, tightening: &Tightening, query_id: u64) -> Transfer {
        let body = keyed(b"rtgt", query_id, &tightening.key()).bytes(&tightening.value());
        self.message(CHANGE_VALUE, body)
    }

    /// Takes out what is above the reserve; the admin may.
    pub fn withdraw(&self, query_id: u64) -> Transfer {
        self.message(CHANGE_VALUE, request(b"rwdr", query_id))
    }

    fn message(&self, value: Nano, body: TreeBuilder) -> Transfer {
        Transfer {
            to: self.0,
            value,
            bounce: true,
            payload: Some(Payload(body.build())),
            state_init: None,
        }
    }
}

fn keyed(tag: &[u8; 4], query_id: u64, key: &RegistryKey) -> TreeBuilder {
    request(tag, query_id)
        .uint(8, key.kind.into())
        .bytes(&key.id)
}

fn request(tag: &[u8; 4], query_id: u64) -> TreeBuilder {
    TreeBuilder::new().bytes(tag).uint(64, query_id)
}
