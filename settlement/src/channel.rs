//! A payment channel: its terms, its address, and the messages it understands (`contracts/channel.tolk`).

use crate::{
    Address, ChainId, Contract, Nano, Payload, SignedClose, SignedVoucher, StateInit, Transfer,
    VerifiedVoucher, ton,
};

/// What payer and payee agree on. The terms are the contract's initial state, so they determine its address: other terms, other
/// address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelTerms {
    /// The network.
    pub chain: ChainId,
    /// Whose money it is, and who may close.
    pub payer: Address,
    /// Who is paid.
    pub payee: Address,
    /// Checks vouchers, until the payer rotates it.
    pub payer_key: [u8; 32],
    /// Checks a cooperative close.
    pub payee_key: [u8; 32],
    /// From a request to close, or to rotate the key, until it takes effect.
    pub close_delay_s: u32,
    /// No claim is paid after this moment, whatever happened to the contract.
    pub claims_until: u32,
    /// Tells channels of the same terms apart.
    pub salt: u64,
}

/// Value that goes with a claim. What gas and forwarding leave of it comes back to the sender.
const CLAIM_VALUE: Nano = Nano(50_000_000);
/// Value that goes with a request that moves no deposit.
const REQUEST_VALUE: Nano = Nano(30_000_000);
/// Value above the amount that goes with a top-up: the contract's reserve of 0.05 TON when it starts, and gas.
const TOP_UP_EXTRA: Nano = Nano(80_000_000);

impl ChannelTerms {
    /// Code and data that deploy the channel.
    pub fn state_init(&self) -> StateInit {
        let terms = ton::Layout::new()
            .address(&self.payer)
            .address(&self.payee)
            .uint(32, self.close_delay_s.into())
            .uint(32, self.claims_until.into())
            .bytes(&self.payee_key)
            .uint(64, self.salt)
            .build();
        // status:open chain deposit paid unlock_at payer_key pending_key pending_at ^terms
        let data = ton::Layout::new()
            .uint(8, 0)
            .int32(self.chain.0)
            .coins(Nano::ZERO)
            .coins(Nano::ZERO)
            .uint(32, 0)
            .bytes(&self.payer_key)
            .bytes(&[0; 32])
            .uint(32, 0)
            .reference(&terms)
            .build();
        Contract::Channel.with_data(data)
    }

    /// Where these terms live.
    pub fn address(&self) -> Address {
        self.state_init().address()
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
            .reference(&signed.voucher.tree());
        self.message(CLAIM_VALUE, body)
    }

    /// Starts the close delay. From the payer's wallet only.
    pub fn request_close(&self, query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"rcls", query_id))
    }

    /// Returns what is left to the payer, after the close delay. From the payer's wallet only.
    pub fn finalize_close(&self, query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"fcls", query_id))
    }

    /// Closes at once with the payee's signature. From anyone; the rest goes to the payer.
    pub fn cooperate(&self, signed: &SignedClose, query_id: u64) -> Transfer {
        let body = request(b"coop", query_id)
            .bytes(&signed.signature)
            .reference(&signed.close.tree());
        self.message(REQUEST_VALUE, body)
    }

    /// Replaces the payer's voucher key after the close delay. From the payer's wallet only.
    pub fn rotate_key(&self, new_key: &[u8; 32], query_id: u64) -> Transfer {
        self.message(REQUEST_VALUE, request(b"rotk", query_id).bytes(new_key))
    }

    fn message(&self, value: Nano, body: ton::Layout) -> Transfer {
        Transfer {
            to: self.address(),
            value,
            bounce: true,
            payload: Some(Payload(body.build())),
            state_init: None,
        }
    }
}

fn request(tag: &[u8; 4], query_id: u64) -> ton::Layout {
    ton::Layout::new().bytes(tag).uint(64, query_id)
}

/// The channel's exit codes, as a transaction or a refusal shows them.
pub mod exit {
    /// Not signed by the key that counts now.
    pub const SIGNATURE: i32 = 401;
    /// For another chain.
    pub const CHAIN: i32 = 402;
    /// For another channel.
    pub const CHANNEL: i32 = 403;
    /// Not above what is paid: a replay, or an older voucher.
    pub const NOT_ABOVE_PAID: i32 = 404;
    /// After `claims_until`.
    pub const AFTER_CLAIMS_UNTIL: i32 = 405;
    /// Not sent by the payer's wallet.
    pub const NOT_PAYER: i32 = 406;
    /// The channel is a tombstone.
    pub const CLOSED: i32 = 407;
    /// The close delay has not passed.
    pub const TOO_EARLY: i32 = 408;
    /// Too little value in the message.
    pub const TOO_LITTLE_VALUE: i32 = 409;
    /// The deposit is used up.
    pub const DEPOSIT_USED_UP: i32 = 410;
    /// Closing already.
    pub const CLOSING: i32 = 411;
    /// A zero amount.
    pub const ZERO_AMOUNT: i32 = 412;
    /// Not a message the channel knows.
    pub const UNKNOWN_MESSAGE: i32 = 65535;
    /// Charge check: not signed by this key.
    pub const CHARGE_SIGNATURE: i32 = 421;
    /// Charge check: cost above cap.
    pub const CHARGE_COST_ABOVE_CAP: i32 = 422;
    /// Charge check: for another chain.
    pub const CHARGE_CHAIN: i32 = 423;
}
