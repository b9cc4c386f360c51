//! A wallet V5R1, and the messages it sends.

use crate::{
    Address, ChainId, Nano,
    cell::{self, Layout},
    limits, signing,
    ton::{self, Tree, TreeBuilder},
};
use ed25519_dalek::SigningKey;

/// The body of a message, opaque outside this crate.
#[derive(Clone)]
pub struct Payload(pub(crate) Tree);

/// Code and data that an account starts with; its hash is the account's address.
#[derive(Clone)]
pub struct StateInit(Tree);

/// One message a wallet sends. The wallet pays the forwarding, so the account is credited `value`.
#[derive(Clone)]
pub struct Transfer {
    /// Where to.
    pub to: Address,
    /// How much the account is credited.
    pub value: Nano,
    /// Whether the chain returns the value when the account refuses.
    pub bounce: bool,
    /// What the account is told; `None` for plain money.
    pub payload: Option<Payload>,
    /// Deploys the account if it does not run yet.
    pub state_init: Option<StateInit>,
}

/// A wallet V5R1 on one network. It holds its key, cannot be printed, and wipes the key when dropped.
///
/// Its id includes the network's, so that neither its address nor its signatures mean anything on another network.
pub struct Wallet {
    key: SigningKey,
    address: Address,
    wallet_id: i32,
    state_init: StateInit,
}

/// Why a wallet makes no message. The fault is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum WalletError {
    #[error("a wallet message without transfers would only spend its fee")]
    NoTransfers,
    #[error("{got} transfers; a wallet sends at most {max} at once")]
    TooManyTransfers { got: usize, max: usize },
}

impl Payload {
    /// As a bag of cells.
    pub fn boc(&self) -> Vec<u8> {
        self.0.boc()
    }
}

impl StateInit {
    pub(crate) fn new(code: Tree, data: Tree) -> StateInit {
        StateInit(cell::state_init::<TreeBuilder>(&code, &data))
    }

    /// The address of an account on the base chain that starts so.
    pub fn address(&self) -> Address {
        Address {
            workchain: 0,
            hash: self.0.root().hash,
        }
    }

    /// As a bag of cells.
    pub fn boc(&self) -> Vec<u8> {
        self.0.boc()
    }
}

impl Transfer {
    /// Plain money, not returned if the account does not run yet.
    pub fn money(to: Address, value: Nano) -> Transfer {
        Transfer {
            to,
            value,
            bounce: false,
            payload: None,
            state_init: None,
        }
    }

    fn message(&self) -> Tree {
        // int_msg_info$0 ihr_disabled:true bounce bounced:false src:addr_none dest value (no other currencies)
        // ihr_fee:0 fwd_fee:0 created_lt:0 created_at:0; the chain fills in what is left empty.
        let message = TreeBuilder::new()
            .uint(2, 0b01)
            .uint(1, self.bounce.into())
            .uint(3, 0)
            .address(&self.to)
            .coins(self.value)
            .uint(1, 0)
            .coins(Nano::ZERO)
            .coins(Nano::ZERO)
            .uint(64, 0)
            .uint(32, 0);
        let message = with_state(message, self.state_init.as_ref());
        match &self.payload {
            Some(payload) => message.uint(1, 1).reference(&payload.0).build(),
            None => message.uint(1, 0).build(),
        }
    }
}

/// `init:(Maybe (Either StateInit ^StateInit))`, as a reference.
fn with_state(message: TreeBuilder, state: Option<&StateInit>) -> TreeBuilder {
    match state {
        Some(state) => message.uint(2, 0b11).reference(&state.0),
        None => message.uint(1, 0),
    }
}

impl Wallet {
    /// The first wallet of this key on this network. The caller wipes its copy of the seed.
    pub fn from_seed(seed: &[u8; 32], chain: ChainId) -> Wallet {
        let key = SigningKey::from_bytes(seed);
        let wallet_id = ton::wallet_id(chain);
        let (code, data) = ton::wallet_state(key.verifying_key().as_bytes(), wallet_id);
        let state_init = StateInit::new(code, data);
        Wallet {
            key,
            address: state_init.address(),
            wallet_id,
            state_init,
        }
    }

    /// Where it lives.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Its Ed25519 public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// What deploys it; [`transfer`](Self::transfer) adds it by itself at seqno 0.
    pub fn state_init(&self) -> &StateInit {
        &self.state_init
    }

    /// An external message, as a bag of cells, that makes the wallet send these transfers.
    ///
    /// The wallet accepts it once, while its seqno is `seqno` and until `valid_until_unix_s`. To repeat a payment safely, send the
    /// same bytes again; another message for the same payment may pay twice. V5R1 demands mode 3 (ignore errors): a transfer that
    /// the balance cannot cover is skipped while the rest goes out, so ask for the balance first and compare out messages after.
    pub fn transfer(
        &self,
        seqno: u32,
        valid_until_unix_s: u32,
        transfers: &[Transfer],
    ) -> Result<Vec<u8>, WalletError> {
        if transfers.is_empty() {
            return Err(WalletError::NoTransfers);
        }
        let too_many = WalletError::TooManyTransfers {
            got: transfers.len(),
            max: limits::TRANSFERS_MAX,
        };
        if transfers.len() > limits::TRANSFERS_MAX {
            return Err(too_many);
        }
        let messages: Vec<Tree> = transfers.iter().map(Transfer::message).collect();
        let body = ton::wallet_body(seqno, valid_until_unix_s, self.wallet_id, &messages)
            .ok_or(too_many)?;
        let signed = ton::wallet_signed(&body, &signing::sign(&self.key, &body.root().hash));
        let state = (seqno == 0).then_some(&self.state_init);
        let message = with_state(external(&self.address), state);
        Ok(message.uint(1, 1).reference(&signed).build().boc())
    }
}

/// `ext_in_msg_info$10 src:addr_none dest import_fee:0`.
pub(crate) fn external(to: &Address) -> TreeBuilder {
    TreeBuilder::new()
        .uint(2, 0b10)
        .uint(2, 0)
        .address(to)
        .coins(Nano::ZERO)
}

/// The hash by which a node's answers name a message this crate made. `None` if the bytes are not one of ours.
pub fn message_hash(boc: &[u8]) -> Option<[u8; 32]> {
    Some(Tree::from_our_boc(boc)?.root().hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_network_gives_the_key_another_wallet() {
        let chains = [ChainId::MAINNET, ChainId::TESTNET, ChainId::EMBEDDED];
        let addresses: HashSet<Address> = chains
            .map(|chain| Wallet::from_seed(&[7; 32], chain).address())
            .into();
        assert_eq!(addresses.len(), 3);
    }

    #[test]
    fn only_a_first_message_carries_the_wallets_code() {
        let wallet = Wallet::from_seed(&[7; 32], ChainId::EMBEDDED);
        let transfer = Transfer::money(
            Address {
                workchain: 0,
                hash: [1; 32],
            },
            Nano(1),
        );
        let first = wallet
            .transfer(0, 100, std::slice::from_ref(&transfer))
            .expect("one transfer");
        let second = wallet
            .transfer(1, 100, std::slice::from_ref(&transfer))
            .expect("one transfer");
        assert!(first.len() > second.len() + 500);
        assert_ne!(message_hash(&first), message_hash(&second));
        assert_eq!(message_hash(b"not ours"), None);
    }

    #[test]
    fn empty_and_oversized_batches_are_refused() {
        let wallet = Wallet::from_seed(&[7; 32], ChainId::EMBEDDED);
        let transfer = Transfer::money(wallet.address(), Nano(1));
        assert_eq!(wallet.transfer(1, 100, &[]), Err(WalletError::NoTransfers));
        assert!(
            wallet
                .transfer(1, 100, &vec![transfer.clone(); 255])
                .is_ok()
        );
        let refused = WalletError::TooManyTransfers { got: 256, max: 255 };
        assert_eq!(wallet.transfer(1, 100, &vec![transfer; 256]), Err(refused));
    }
}
