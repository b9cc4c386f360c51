//! The payer's limit for the cost of one job, small enough for a TVM to check.

use crate::{
    Address, ChainId, Nano,
    cell::{CellHasher, Layout},
    signing,
};
use ed25519_dalek::SigningKey;
use std::ops::Deref;

const TAG: u32 = 0x6361_7031; // "cap1"

/// "This job may cost at most `most` on this channel." A charge repeats it with its signature, so that a guest cannot allow itself more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// The network.
    pub chain: ChainId,
    /// The channel that pays.
    pub channel: Address,
    /// The job's id, which its payer chose.
    pub job: [u8; 16],
    /// The most it may cost.
    pub most: Nano,
}

/// A cap and a signature that nobody has checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedCap {
    /// What is allowed.
    pub cap: Cap,
    /// Ed25519, by the key in the channel's terms, over [`Cap::cell_hash`].
    pub signature: [u8; 64],
}

/// A cap that its payer signed. Only [`SignedCap::verify`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedCap {
    signed: SignedCap,
}

impl Cap {
    /// What the payer signs and a TVM recomputes: `cap#63617031 chain:int32 channel:MsgAddressInt job:uint128 most:Coins`.
    pub fn cell_hash(&self) -> [u8; 32] {
        self.cell::<CellHasher>().hash
    }

    /// Signs with the payer's key.
    pub fn sign(self, key: &SigningKey) -> SignedCap {
        SignedCap {
            signature: signing::sign(key, &self.cell_hash()),
            cap: self,
        }
    }

    pub(crate) fn cell<L: Layout>(&self) -> L::Cell {
        L::new()
            .uint(32, TAG.into())
            .int32(self.chain.0)
            .address(&self.channel)
            .bytes(&self.job)
            .coins(self.most)
            .build()
    }
}

impl SignedCap {
    /// `Some` claims: the holder of `payer_key` signed exactly these fields.
    pub fn verify(&self, payer_key: &[u8; 32]) -> Option<VerifiedCap> {
        signing::verify(payer_key, &self.cap.cell_hash(), &self.signature)
            .ok()
            .map(|()| VerifiedCap { signed: *self })
    }
}

impl VerifiedCap {
    /// The cap with its signature.
    pub fn signed(&self) -> &SignedCap {
        &self.signed
    }
}

impl Deref for VerifiedCap {
    type Target = Cap;

    fn deref(&self) -> &Cap {
        &self.signed.cap
    }
}
