//! A payment channel: its terms, its address, and the messages it understands (`contracts/channel.tolk`).

use crate::{
    Address, ChainId, DecodeError, Nano,
    cell::{CellHash, CellHasher, Layout, state_init},
    contracts::{CHANNEL_CODE, CHANNEL_CODE_V1},
    limits, signing,
};

mod conditions;
#[cfg(feature = "wallet")]
mod messages;

pub use conditions::TermsRefused;

const TAG: u32 = 0x7472_6d31; // "trm1"

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

impl ChannelTerms {
    /// Where these terms live: the hash of the contract's initial state.
    pub fn address(&self) -> Address {
        self.address_with(&CHANNEL_CODE)
    }

    /// Where version 1 of the contract lives with these terms.
    pub fn address_v1(&self) -> Address {
        self.address_with(&CHANNEL_CODE_V1)
    }

    fn address_with(&self, code: &CellHash) -> Address {
        let state = state_init::<CellHasher>(code, &self.data::<CellHasher>());
        Address {
            workchain: 0,
            hash: state.hash,
        }
    }

    /// Tag, chain, payer, payee, payer key, payee key, close delay, end of claims, salt; big-endian, fixed widths, one form per value.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(limits::TERMS_BYTES);
        bytes.extend_from_slice(&TAG.to_be_bytes());
        bytes.extend_from_slice(&self.chain.0.to_be_bytes());
        signing::put_address(&mut bytes, &self.payer);
        signing::put_address(&mut bytes, &self.payee);
        bytes.extend_from_slice(&self.payer_key);
        bytes.extend_from_slice(&self.payee_key);
        bytes.extend_from_slice(&self.close_delay_s.to_be_bytes());
        bytes.extend_from_slice(&self.claims_until.to_be_bytes());
        bytes.extend_from_slice(&self.salt.to_be_bytes());
        bytes
    }

    /// Reads what [`encode`](Self::encode) writes, to the last byte. That a channel of these terms exists only a chain can say.
    pub fn decode(bytes: &[u8]) -> Result<ChannelTerms, DecodeError> {
        let mut fields = signing::Fields::open(bytes, limits::TERMS_BYTES, TAG)?;
        Ok(ChannelTerms {
            chain: ChainId(fields.i32()),
            payer: fields.address()?,
            payee: fields.address()?,
            payer_key: fields.array(),
            payee_key: fields.array(),
            close_delay_s: fields.u32(),
            claims_until: fields.u32(),
            salt: fields.u64(),
        })
    }

    pub(crate) fn data<L: Layout>(&self) -> L::Cell {
        let terms = L::new()
            .address(&self.payer)
            .address(&self.payee)
            .uint(32, self.close_delay_s.into())
            .uint(32, self.claims_until.into())
            .bytes(&self.payee_key)
            .uint(64, self.salt)
            .build();
        // status:open chain deposit paid unlock_at payer_key pending_key pending_at ^terms
        L::new()
            .uint(8, 0)
            .int32(self.chain.0)
            .coins(Nano::ZERO)
            .coins(Nano::ZERO)
            .uint(32, 0)
            .bytes(&self.payer_key)
            .bytes(&[0; 32])
            .uint(32, 0)
            .reference(&terms)
            .build()
    }
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
    /// The terms are out of bounds.
    pub const TERMS: i32 = 413;
    /// The payee agreed to close at another amount than is paid.
    pub const OTHER_AMOUNT: i32 = 414;
    /// What the payee agreed to has expired.
    pub const AGREEMENT_EXPIRED: i32 = 415;
    /// Not closing.
    pub const NOT_CLOSING: i32 = 416;
    /// Grown by too little for an external claim.
    pub const GROWTH_TOO_SMALL: i32 = 417;
    /// Not a message the channel knows.
    pub const UNKNOWN_MESSAGE: i32 = 65535;
    /// Charge check: not signed by this key.
    pub const CHARGE_SIGNATURE: i32 = 421;
    /// Charge check: cost above cap.
    pub const CHARGE_COST_ABOVE_CAP: i32 = 422;
    /// Charge check: for another chain.
    pub const CHARGE_CHAIN: i32 = 423;
    /// Charge check: what was shown is not the channel's initial data.
    pub const CHARGE_CHANNEL: i32 = 424;
    /// Charge check: the payer did not sign this cap.
    pub const CHARGE_CAP_SIGNATURE: i32 = 425;
}
