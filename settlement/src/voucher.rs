//! The payer's promise: "of my deposit in this channel, this much in total is the payee's".

use crate::{
    Address, ChainId, Nano, VoucherError,
    cell::{CellHasher, Layout},
    limits, signing,
};
use ed25519_dalek::SigningKey;
use std::ops::Deref;

const TAG: u32 = 0x7663_6831; // "vch1"

/// A cumulative voucher. The larger replaces the smaller; none can be double spent, since the channel pays only the growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Voucher {
    /// The network, so that a simulated promise is void on a live one.
    pub chain: ChainId,
    /// The channel contract.
    pub channel: Address,
    /// Everything promised on this channel so far.
    pub cumulative: Nano,
    /// Hash of the last usage statement the payer verified; binds the promise to what it pays for.
    pub usage_root: [u8; 32],
}

/// A voucher and a signature that nobody has checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedVoucher {
    /// What is promised.
    pub voucher: Voucher,
    /// Ed25519, by the payer's voucher key, over [`Voucher::cell_hash`].
    pub signature: [u8; 64],
}

/// A voucher whose signature was checked. Only [`SignedVoucher::verify`] makes one:
///
/// ```compile_fail
/// fn forge(signed: settlement::SignedVoucher) -> settlement::VerifiedVoucher {
///     settlement::VerifiedVoucher { signed }
/// }
/// ```
///
/// It says who promised. Whether channel, chain and amount suit the payee is for the payee to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedVoucher {
    signed: SignedVoucher,
}

impl Voucher {
    /// What the payer signs and the channel contract recomputes:
    /// `voucher#76636831 chain:int32 channel:MsgAddressInt cumulative:Coins usage_root:uint256`.
    pub fn cell_hash(&self) -> [u8; 32] {
        self.cell::<CellHasher>().hash
    }

    /// Signs with the payer's voucher key.
    pub fn sign(self, key: &SigningKey) -> SignedVoucher {
        SignedVoucher {
            signature: signing::sign(key, &self.cell_hash()),
            voucher: self,
        }
    }

    pub(crate) fn cell<L: Layout>(&self) -> L::Cell {
        L::new()
            .uint(32, TAG.into())
            .int32(self.chain.0)
            .address(&self.channel)
            .coins(self.cumulative)
            .bytes(&self.usage_root)
            .build()
    }
}

impl SignedVoucher {
    /// Tag, chain, channel (workchain, hash), cumulative, usage root, signature; big-endian, fixed widths, one form per value.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(limits::VOUCHER_BYTES);
        bytes.extend_from_slice(&TAG.to_be_bytes());
        bytes.extend_from_slice(&self.voucher.chain.0.to_be_bytes());
        signing::put_address(&mut bytes, &self.voucher.channel);
        bytes.extend_from_slice(&self.voucher.cumulative.0.to_be_bytes());
        bytes.extend_from_slice(&self.voucher.usage_root);
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads what [`encode`](Self::encode) writes, to the last byte. The signature is still unchecked.
    pub fn decode(bytes: &[u8]) -> Result<SignedVoucher, VoucherError> {
        let mut fields = signing::Fields::open(bytes, limits::VOUCHER_BYTES, TAG)?;
        Ok(SignedVoucher {
            voucher: Voucher {
                chain: ChainId(fields.i32()),
                channel: fields.address()?,
                cumulative: Nano(fields.u64()),
                usage_root: fields.array(),
            },
            signature: fields.array(),
        })
    }

    /// `Ok` claims: the holder of `payer_key` signed exactly these fields.
    pub fn verify(&self, payer_key: &[u8; 32]) -> Result<VerifiedVoucher, VoucherError> {
        match signing::verify(payer_key, &self.voucher.cell_hash(), &self.signature) {
            Ok(()) => Ok(VerifiedVoucher { signed: *self }),
            Err(signing::SignatureFault::Key) => Err(VoucherError::Key),
            Err(signing::SignatureFault::Signature) => Err(VoucherError::Signature),
        }
    }
}

impl VerifiedVoucher {
    /// The voucher with its signature, to store, send or claim.
    pub fn signed(&self) -> &SignedVoucher {
        &self.signed
    }
}

impl Deref for VerifiedVoucher {
    type Target = Voucher;

    fn deref(&self) -> &Voucher {
        &self.signed.voucher
    }
}
