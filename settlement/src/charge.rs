//! The guest's statement of what one job cost, small enough for a TVM to judge.

use crate::{
    Address, ChainId, ChargeError, Nano,
    cell::{CellHasher, Layout},
    limits, signing,
};
use ed25519_dalek::SigningKey;
use std::ops::Deref;

const TAG: u32 = 0x6368_6731; // "chg1"

/// A charge. Two of one receipt key with one `seq`, or one with `cost` above `cap`, are grounds to slash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The network.
    pub chain: ChainId,
    /// The stake contract that answers for the receipt key.
    pub stake: Address,
    /// SHA-256 of the receipt that says what was done.
    pub receipt_hash: [u8; 32],
    /// Counts the receipt key's charges; never used twice by an honest guest.
    pub seq: u64,
    /// What this job cost.
    pub cost: Nano,
    /// What the payer allowed for it.
    pub cap: Nano,
    /// The channel that pays.
    pub channel: Address,
    /// The sum of all costs this key has charged on this channel, this one included.
    pub cumulative: Nano,
}

/// A charge and a signature that nobody has checked yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedCharge {
    /// What is charged.
    pub charge: Charge,
    /// Ed25519, by the guest's receipt key, over [`Charge::cell_hash`].
    pub signature: [u8; 64],
}

/// A charge whose signature was checked and whose cost is within its cap. Only [`SignedCharge::verify`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedCharge {
    signed: SignedCharge,
}

impl Charge {
    /// What the receipt key signs and a TVM recomputes: `charge#63686731 chain:int32 stake:MsgAddressInt receipt_hash:uint256
    /// seq:uint64 cost:Coins cap:Coins tail:^[ channel:MsgAddressInt cumulative:Coins ]`.
    pub fn cell_hash(&self) -> [u8; 32] {
        self.cell::<CellHasher>().hash
    }

    /// The cell as a bag of cells, for a get method or a stake contract.
    #[cfg(feature = "wallet")]
    pub fn cell_boc(&self) -> Vec<u8> {
        self.cell::<crate::ton::TreeBuilder>().boc()
    }

    /// Signs with the guest's receipt key. It signs what it is told: the check of cost against cap is the verifier's, so that
    /// tests can make the evidence a stake contract judges.
    pub fn sign(self, key: &SigningKey) -> SignedCharge {
        SignedCharge {
            signature: signing::sign(key, &self.cell_hash()),
            charge: self,
        }
    }

    fn cell<L: Layout>(&self) -> L::Cell {
        let tail = L::new()
            .address(&self.channel)
            .coins(self.cumulative)
            .build();
        L::new()
            .uint(32, TAG.into())
            .int32(self.chain.0)
            .address(&self.stake)
            .bytes(&self.receipt_hash)
            .uint(64, self.seq)
            .coins(self.cost)
            .coins(self.cap)
            .reference(&tail)
            .build()
    }
}

impl SignedCharge {
    /// Tag, chain, stake, receipt hash, seq, cost, cap, channel, cumulative, signature; big-endian, fixed widths, one form per value.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(limits::CHARGE_BYTES);
        bytes.extend_from_slice(&TAG.to_be_bytes());
        bytes.extend_from_slice(&self.charge.chain.0.to_be_bytes());
        signing::put_address(&mut bytes, &self.charge.stake);
        bytes.extend_from_slice(&self.charge.receipt_hash);
        bytes.extend_from_slice(&self.charge.seq.to_be_bytes());
        bytes.extend_from_slice(&self.charge.cost.0.to_be_bytes());
        bytes.extend_from_slice(&self.charge.cap.0.to_be_bytes());
        signing::put_address(&mut bytes, &self.charge.channel);
        bytes.extend_from_slice(&self.charge.cumulative.0.to_be_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads what [`encode`](Self::encode) writes, to the last byte. The signature is still unchecked.
    pub fn decode(bytes: &[u8]) -> Result<SignedCharge, ChargeError> {
        let mut fields = signing::Fields::open(bytes, limits::CHARGE_BYTES, TAG)?;
        Ok(SignedCharge {
            charge: Charge {
                chain: ChainId(fields.i32()),
                stake: fields.address()?,
                receipt_hash: fields.array(),
                seq: fields.u64(),
                cost: Nano(fields.u64()),
                cap: Nano(fields.u64()),
                channel: fields.address()?,
                cumulative: Nano(fields.u64()),
            },
            signature: fields.array(),
        })
    }

    /// `Ok` claims: the holder of `receipt_key` signed exactly these fields, and the cost is within the cap.
    pub fn verify(&self, receipt_key: &[u8; 32]) -> Result<VerifiedCharge, ChargeError> {
        signing::verify(receipt_key, &self.charge.cell_hash(), &self.signature).map_err(
            |fault| match fault {
                signing::SignatureFault::Key => ChargeError::Key,
                signing::SignatureFault::Signature => ChargeError::Signature,
            },
        )?;
        let Charge { cost, cap, .. } = self.charge;
        if cost > cap {
            return Err(ChargeError::CostAboveCap { cost, cap });
        }
        Ok(VerifiedCharge { signed: *self })
    }
}

impl VerifiedCharge {
    /// The charge with its signature.
    pub fn signed(&self) -> &SignedCharge {
        &self.signed
    }
}

impl Deref for VerifiedCharge {
    type Target = Charge;

    fn deref(&self) -> &Charge {
        &self.signed.charge
    }
}
