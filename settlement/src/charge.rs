//! The guest's statement of what one job cost, small enough for a TVM to judge.

use crate::{
    Address, Cap, ChainId, ChargeError, Nano, SignedCap, VerifiedCap,
    cell::{CellHasher, Layout},
    limits, signing,
};
use ed25519_dalek::SigningKey;
use std::ops::Deref;

const TAG: u32 = 0x6368_6731; // "chg1"

/// A charge. Two of one receipt key with one `seq`, or one whose cap the payer did not sign or whose `cost` is above it, are grounds to
/// slash. Chain and channel are those of the cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// What the payer allowed this job to cost, with its signature.
    pub cap: SignedCap,
    /// The stake contract that answers for the receipt key.
    pub stake: Address,
    /// Digest of the receipt that says what was done.
    pub receipt_hash: [u8; 32],
    /// Counts the receipt key's charges; never used twice by an honest guest.
    pub seq: u64,
    /// What this job cost.
    pub cost: Nano,
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

/// A charge whose signatures were checked and whose cost is within its cap. Only [`SignedCharge::verify`] and
/// [`SignedCharge::verify_under`] make one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedCharge {
    signed: SignedCharge,
}

impl Charge {
    /// The channel that pays.
    pub fn channel(&self) -> Address {
        self.cap.cap.channel
    }

    /// The network.
    pub fn chain(&self) -> ChainId {
        self.cap.cap.chain
    }

    /// What the receipt key signs and a TVM recomputes: `charge#63686731 stake:MsgAddressInt receipt_hash:uint256 seq:uint64
    /// cost:Coins cumulative:Coins cap:^Cap payer_signature:^[ bits512 ]`.
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

    pub(crate) fn cell<L: Layout>(&self) -> L::Cell {
        L::new()
            .uint(32, TAG.into())
            .address(&self.stake)
            .bytes(&self.receipt_hash)
            .uint(64, self.seq)
            .coins(self.cost)
            .coins(self.cumulative)
            .reference(&self.cap.cap.cell::<L>())
            .reference(&L::new().bytes(&self.cap.signature).build())
            .build()
    }
}

impl SignedCharge {
    /// Tag, chain, channel, job, cap, the payer's signature, stake, receipt hash, seq, cost, cumulative, signature; big-endian, fixed
    /// widths, one form per value.
    pub fn encode(&self) -> Vec<u8> {
        let SignedCap { cap, signature } = &self.charge.cap;
        let mut bytes = Vec::with_capacity(limits::CHARGE_BYTES);
        bytes.extend_from_slice(&TAG.to_be_bytes());
        bytes.extend_from_slice(&cap.chain.0.to_be_bytes());
        signing::put_address(&mut bytes, &cap.channel);
        bytes.extend_from_slice(&cap.job);
        bytes.extend_from_slice(&cap.most.0.to_be_bytes());
        bytes.extend_from_slice(signature);
        signing::put_address(&mut bytes, &self.charge.stake);
        bytes.extend_from_slice(&self.charge.receipt_hash);
        bytes.extend_from_slice(&self.charge.seq.to_be_bytes());
        bytes.extend_from_slice(&self.charge.cost.0.to_be_bytes());
        bytes.extend_from_slice(&self.charge.cumulative.0.to_be_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads what [`encode`](Self::encode) writes, to the last byte. The signatures are still unchecked.
    pub fn decode(bytes: &[u8]) -> Result<SignedCharge, ChargeError> {
        let mut fields = signing::Fields::open(bytes, limits::CHARGE_BYTES, TAG)?;
        let cap = Cap {
            chain: ChainId(fields.i32()),
            channel: fields.address()?,
            job: fields.array(),
            most: Nano(fields.u64()),
        };
        let cap = SignedCap {
            cap,
            signature: fields.array(),
        };
        Ok(SignedCharge {
            charge: Charge {
                cap,
                stake: fields.address()?,
                receipt_hash: fields.array(),
                seq: fields.u64(),
                cost: Nano(fields.u64()),
                cumulative: Nano(fields.u64()),
            },
            signature: fields.array(),
        })
    }

    /// `Ok` claims: the holder of `receipt_key` signed exactly these fields, the holder of `payer_key` signed the cap among them, and
    /// the cost is within it. That `payer_key` is the channel's is for the caller to know, by the channel's terms.
    pub fn verify(
        &self,
        receipt_key: &[u8; 32],
        payer_key: &[u8; 32],
    ) -> Result<VerifiedCharge, ChargeError> {
        self.verify_signature(receipt_key)?;
        let cap = self.charge.cap.verify(payer_key);
        self.within(&cap.ok_or(ChargeError::CapSignature)?)
    }

    /// The same for whoever verified the job's cap before it was run: the charge is to be under that one.
    pub fn verify_under(
        &self,
        receipt_key: &[u8; 32],
        cap: &VerifiedCap,
    ) -> Result<VerifiedCharge, ChargeError> {
        self.verify_signature(receipt_key)?;
        self.within(cap)
    }

    fn verify_signature(&self, receipt_key: &[u8; 32]) -> Result<(), ChargeError> {
        let hash = self.charge.cell_hash();
        signing::verify(receipt_key, &hash, &self.signature).map_err(|fault| match fault {
            signing::SignatureFault::Key => ChargeError::Key,
            signing::SignatureFault::Signature => ChargeError::Signature,
        })
    }

    fn within(&self, verified: &VerifiedCap) -> Result<VerifiedCharge, ChargeError> {
        let Charge { cost, cap, .. } = self.charge;
        if cap != *verified.signed() {
            return Err(ChargeError::OtherCap);
        }
        let cap = cap.cap.most;
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
