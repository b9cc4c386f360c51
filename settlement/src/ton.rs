//! The one place that touches `tonlib-core`: cells as trees, bags of cells and wallet code (feature `wallet`).
//!
//! Its types belong to an older generation of crates and its author has announced a successor, so nothing outside this file names
//! it. Bytes from peers never reach its parser: what is parsed here was compiled in or made by us.

use crate::{
    ChainId,
    cell::{CellHash, Layout},
};
use tonlib_core::{
    cell::{ArcCell, BagOfCells, CellBuilder},
    wallet::{mnemonic::KeyPair, version_helper::VersionHelper, wallet_version::WalletVersion},
};

/// A cell with everything below it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Tree(ArcCell);

impl Tree {
    pub(crate) fn root(&self) -> CellHash {
        CellHash {
            hash: *self
                .0
                .cell_hash()
                .as_slice()
                .first_chunk()
                .expect("32 bytes of SHA-256"),
            depth: self.0.cell_depth(),
        }
    }

    /// The bag of cells with this root and a checksum.
    pub(crate) fn boc(&self) -> Vec<u8> {
        BagOfCells::new(std::slice::from_ref(&self.0))
            .serialize(true)
            .expect("a built cell tree serializes")
    }

    /// Only for bytes we made or compiled in.
    pub(crate) fn from_our_boc(boc: &[u8]) -> Option<Tree> {
        BagOfCells::parse(boc).ok()?.single_root().ok().map(Tree)
    }
}

/// The [`Layout`] that keeps the cells, to send them.
pub(crate) struct TreeBuilder(CellBuilder);

const FITS: &str = "the layout fits a cell whatever the values";

impl Layout for TreeBuilder {
    type Cell = Tree;

    fn new() -> TreeBuilder {
        TreeBuilder(CellBuilder::new())
    }

    fn uint(mut self, bits: usize, value: u64) -> TreeBuilder {
        self.0.store_u64(bits, value).expect(FITS);
        self
    }

    fn reference(mut self, tree: &Tree) -> TreeBuilder {
        self.0.store_reference(&tree.0).expect(FITS);
        self
    }

    fn build(mut self) -> Tree {
        Tree(self.0.build().expect(FITS).to_arc())
    }
}

/// Code and initial data of a wallet V5R1.
pub(crate) fn wallet_state(public_key: &[u8; 32], wallet_id: i32) -> (Tree, Tree) {
    // The library's key pair also has room for a secret; it never gets one.
    let keys = KeyPair {
        public_key: public_key.to_vec(),
        secret_key: Vec::new(),
    };
    let code =
        VersionHelper::get_code(WalletVersion::V5R1).expect("the library carries the code of V5R1");
    let data = VersionHelper::get_data(WalletVersion::V5R1, &keys, wallet_id)
        .expect("a 32-byte key and an id make wallet data");
    (Tree(code.clone()), Tree(data.to_arc()))
}

/// What a wallet V5R1 signs for these messages, each sent with mode 3.
pub(crate) fn wallet_body(
    seqno: u32,
    valid_until_unix_s: u32,
    wallet_id: i32,
    messages: &[Tree],
) -> Option<Tree> {
    let messages: Vec<ArcCell> = messages.iter().map(|tree| tree.0.clone()).collect();
    VersionHelper::build_ext_msg(
        WalletVersion::V5R1,
        valid_until_unix_s,
        seqno,
        wallet_id,
        messages,
    )
    .ok()
    .map(|cell| Tree(cell.to_arc()))
}

/// That body with its signature.
pub(crate) fn wallet_signed(body: &Tree, signature: &[u8; 64]) -> Tree {
    let cell = VersionHelper::sign_msg(WalletVersion::V5R1, &body.0, signature)
        .expect("a wallet body has room for a signature");
    Tree(cell.to_arc())
}

/// A V5R1 wallet's id is the network's id, xored with a context that for the first wallet on workchain 0 is only the top bit.
/// tonlib-core's own default is main network's, which gives another address, and another replay domain, everywhere else.
pub(crate) fn wallet_id(chain: ChainId) -> i32 {
    chain.0 ^ i32::MIN
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonlib_core::wallet::versioned::{DEFAULT_WALLET_ID_V5R1, DEFAULT_WALLET_ID_V5R1_TESTNET};

    #[test]
    fn wallet_ids_are_those_of_the_networks() {
        assert_eq!(wallet_id(ChainId::MAINNET), DEFAULT_WALLET_ID_V5R1);
        assert_eq!(wallet_id(ChainId::TESTNET), DEFAULT_WALLET_ID_V5R1_TESTNET);
        let ids = [ChainId::MAINNET, ChainId::TESTNET, ChainId::EMBEDDED].map(wallet_id);
        assert!(ids[0] != ids[2] && ids[1] != ids[2]);
    }

    /// A real wallet's words and address, from tonlib-core's own tests.
    #[test]
    fn a_known_key_has_its_known_main_network_address() {
        use tonlib_core::wallet::mnemonic::Mnemonic;
        let words = "section garden tomato dinner season dice renew length useful spin trade intact use universe what \
                     post spike keen mandate behind concert egg doll rug";
        let keys = Mnemonic::from_str(words, &None)
            .and_then(|words| words.to_key_pair())
            .expect("24 words");
        let seed: [u8; 32] = keys.secret_key[..32]
            .try_into()
            .expect("a seed and a public key");
        let wallet = crate::Wallet::from_seed(&seed, ChainId::MAINNET);
        let known = "UQDv2YSmlrlLH3hLNOVxC8FcQf4F9eGNs4vb2zKma4txo6i3";
        assert_eq!(crate::Address::from_friendly(known), Ok(wallet.address()));
    }
}
