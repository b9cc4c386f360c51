//! The payee's word that it wants no more, so that a channel may close at once.

use crate::{
    Address, ChainId, Nano, VoucherError,
    cell::{CellHasher, Layout},
    limits, signing,
};
use ed25519_dalek::SigningKey;

const TAG: u32 = 0x6363_6c32; // "ccl2": "ccl1" had no end

/// "I have been paid `paid` on this channel and claim no more." The contract closes only if it has paid exactly that, and only until the
/// agreement expires. Whoever signs it takes no more jobs of the channel until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CooperativeClose {
    /// The network.
    pub chain: ChainId,
    /// The channel contract.
    pub channel: Address,
    /// What the payee counts as received.
    pub paid: Nano,
    /// The contract closes on it until then, in Unix seconds.
    pub valid_until: u32,
}

/// A close with the payee's signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedClose {
    /// What the payee agrees to.
    pub close: CooperativeClose,
    /// Ed25519, by the payee's key, over [`CooperativeClose::cell_hash`].
    pub signature: [u8; 64],
}

impl CooperativeClose {
    /// `close#63636c32 chain:int32 channel:MsgAddressInt paid:Coins valid_until:uint32`.
    pub fn cell_hash(&self) -> [u8; 32] {
        self.cell::<CellHasher>().hash
    }

    /// Signs with the payee's key.
    pub fn sign(self, key: &SigningKey) -> SignedClose {
        SignedClose {
            signature: signing::sign(key, &self.cell_hash()),
            close: self,
        }
    }

    pub(crate) fn cell<L: Layout>(&self) -> L::Cell {
        L::new()
            .uint(32, TAG.into())
            .int32(self.chain.0)
            .address(&self.channel)
            .coins(self.paid)
            .uint(32, self.valid_until.into())
            .build()
    }
}

impl SignedClose {
    /// Tag, chain, channel, paid, end, signature; big-endian, fixed widths.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(limits::CLOSE_BYTES);
        bytes.extend_from_slice(&TAG.to_be_bytes());
        bytes.extend_from_slice(&self.close.chain.0.to_be_bytes());
        signing::put_address(&mut bytes, &self.close.channel);
        bytes.extend_from_slice(&self.close.paid.0.to_be_bytes());
        bytes.extend_from_slice(&self.close.valid_until.to_be_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads what [`encode`](Self::encode) writes. Whoever delivers it lets the contract check the signature.
    pub fn decode(bytes: &[u8]) -> Result<SignedClose, VoucherError> {
        let mut fields = signing::Fields::open(bytes, limits::CLOSE_BYTES, TAG)?;
        Ok(SignedClose {
            close: CooperativeClose {
                chain: ChainId(fields.i32()),
                channel: fields.address()?,
                paid: Nano(fields.u64()),
                valid_until: fields.u32(),
            },
            signature: fields.array(),
        })
    }
}
