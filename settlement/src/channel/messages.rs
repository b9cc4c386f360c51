//! The messages that a channel understands (feature `wallet`).

use super::ChannelTerms;
use crate::{
    Contract, Nano, Payload, SignedClose, SignedVoucher, StateInit, Transfer, VerifiedVoucher,
    cell::Layout, ton::TreeBuilder, wallet,
};

/// Value that goes with a claim. What gas and forwarding leave of it comes back to the sender.
const CLAIM_VALUE: Nano = Nano(50_000_000);
/// Value that goes with a request that moves no deposit.
const REQUEST_VALUE: Nano = Nano(30_000_000);
/// Value above the amount that goes with a top-up: rent of the longest life when the contract starts, its reserve, and gas.
const TOP_UP_EXTRA: Nano = Nano(80_000_000);

impl ChannelTerms {
    /// Code and data that deploy the channel.
    pub fn state_init(&self) -> StateInit {
        Contract::Channel.with_data(self.data::<TreeBuilder>())
    }

    /// The data it starts with as a bag of cells: with a charge, a judge learns the payer's key from it.
    pub fn data_boc(&self) -> Vec<u8> {
        self.data::<TreeBuilder>().boc()
    }

    /// Deploys the channel with its first deposit. `None` if the amount is beyond what money there can be.
    pub fn deploy(&self, deposit: Nano, query_id: u64) -> Option<Transfer> {
        let transfer = self.top_up(deposit, query_id)?;
        Some(Transfer {
            state_init: Some(self.state_init()),
            ..transfer
        })
    }

    /// Adds to the deposit; anyone may. `None` if the amount is beyond what money there can be.
    pub fn top_up(&self, amount: Nano, query_id: u64) -> Option<Transfer> {
        let body = request(b"topu", query_id).coins(amount);
        Some(self.message(amount.checked_add(TOP_UP_EXTRA)?, body))
    }

    /// Delivers a voucher; anyone may, the payee is paid.
    pub fn claim(&self, voucher: &VerifiedVoucher, query_id: u64) -> Transfer {
        self.insecure_claim(voucher.signed(), query_id)
    }

    /// Delivers a voucher that nobody has checked. The contract refuses a bad one, and the sender has paid for the refusal.
    pub fn insecure_claim(&self, signed: &SignedVoucher, query_id: u64) -> Transfer {
        let body = request(b"clai", query_id)
            .bytes(&signed.signature)
            .reference(&signed.voucher.cell::<TreeBuilder>());
        self.message(CLAIM_VALUE, body)
    }

    /// Starts the close delay. From the payer's wallet only.
    pub fn request_close(&self, query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"rcls", query_id))
    }

    /// Takes a request to close back. From the payer's wallet only.
    pub fn cancel_close(&self, query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"ccls", query_id))
    }

    /// Returns what is left to the payer, after the close delay, or at once if all of the deposit is paid. From the payer's wallet
    /// only. After `claims_until` the contract itself is gone, with all that it held.
    pub fn finalize_close(&self, query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"fcls", query_id))
    }

    /// Closes at once with the payee's signature. From anyone; the rest goes to the payer.
    pub fn cooperate(&self, signed: &SignedClose, query_id: u64) -> Transfer {
        let body = request(b"coop", query_id)
            .bytes(&signed.signature)
            .reference(&signed.close.cell::<TreeBuilder>());
        self.message(REQUEST_VALUE, body)
    }

    /// Replaces the payer's voucher key after the close delay. From the payer's wallet only.
    pub fn rotate_key(&self, new_key: &[u8; 32], query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"rotk", query_id).bytes(new_key))
    }

    fn message(&self, value: Nano, body: TreeBuilder) -> Transfer {
        Transfer {
            to: self.address(),
            value,
            bounce: true,
            payload: Some(Payload(body.build())),
            state_init: None,
        }
    }
}

impl VerifiedVoucher {
    /// A claim without a wallet, as an external message (a bag of cells): anyone may deliver it, as often as they like. What it costs
    /// comes out of what it pays. Below [`EXTERNAL_GROWTH_MIN`](crate::limits::EXTERNAL_GROWTH_MIN) it is not accepted, at no cost.
    pub fn external_claim(&self) -> Vec<u8> {
        self.signed().insecure_external_claim()
    }
}

impl SignedVoucher {
    /// The same for a voucher that nobody has checked. The contract does not accept a bad one.
    pub fn insecure_external_claim(&self) -> Vec<u8> {
        // No initial state, and the body in the message's own cell, whose import costs nothing.
        wallet::external(&self.voucher.channel)
            .uint(2, 0)
            .bytes(b"eclm")
            .bytes(&self.signature)
            .reference(&self.voucher.cell::<TreeBuilder>())
            .build()
            .boc()
    }
}

fn request(tag: &[u8; 4], query_id: u64) -> TreeBuilder {
    TreeBuilder::new().bytes(tag).uint(64, query_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, ChainId};

    #[test]
    fn a_channels_address_is_the_hash_of_what_deploys_it() {
        assert_eq!(
            Contract::Channel.code().root(),
            crate::contracts::CHANNEL_CODE
        );
        let hash = [7; 32];
        let terms = ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: Address { workchain: 0, hash },
            payee: Address {
                workchain: -1,
                hash,
            },
            payer_key: [1; 32],
            payee_key: [2; 32],
            close_delay_s: 3_600,
            claims_until: u32::MAX,
            salt: u64::MAX,
        };
        for terms in [
            terms.clone(),
            ChannelTerms {
                chain: ChainId::MAINNET,
                ..terms.clone()
            },
            ChannelTerms {
                salt: 0,
                close_delay_s: 0,
                ..terms
            },
        ] {
            assert_eq!(terms.address(), terms.state_init().address());
        }
    }
}
