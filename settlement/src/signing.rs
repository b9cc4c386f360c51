//! What terms, vouchers, charges and closes share: a tag, a fixed layout of bytes, a signature over a cell's hash.

use crate::{Address, AddressError, Nano, limits};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};

/// Why bytes are not terms, or a signed voucher, charge or close. The fault is the sender's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum DecodeError {
    #[error("{got} bytes where exactly {expected} are due")]
    Length { got: usize, expected: usize },
    #[error("tag {got:08x} where {expected:08x} is due")]
    Tag { got: u32, expected: u32 },
    #[error("an address in it: {0}")]
    Address(#[from] AddressError),
}

/// Why a voucher is worth nothing. The fault is the payer's, or of whoever altered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum VoucherError {
    #[error("not a voucher: {0}")]
    Decode(#[from] DecodeError),
    #[error("the payer's key is not an Ed25519 public key")]
    Key,
    #[error("the voucher is not signed by the payer's key over these fields")]
    Signature,
}

/// Why a charge is worth nothing. The fault is the guest's, or of whoever altered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum ChargeError {
    #[error("not a charge: {0}")]
    Decode(#[from] DecodeError),
    #[error("the receipt key is not an Ed25519 public key")]
    Key,
    #[error("the charge is not signed by the receipt key over these fields")]
    Signature,
    #[error("the cap in the charge is not signed by the channel's payer")]
    CapSignature,
    #[error("the charge is for another job or another cap than it should be")]
    OtherCap,
    #[error("the charge of {cost} nanoTON is above its cap of {cap}")]
    CostAboveCap { cost: Nano, cap: Nano },
}

pub(crate) enum SignatureFault {
    Key,
    Signature,
}

pub(crate) fn sign(key: &SigningKey, hash: &[u8; 32]) -> [u8; 64] {
    key.sign(hash).to_bytes()
}

/// Strict verification: what passes here, a TVM's `CHKSIGNU` passes too; the reverse need not hold for malformed keys.
pub(crate) fn verify(
    key: &[u8; 32],
    hash: &[u8; 32],
    signature: &[u8; 64],
) -> Result<(), SignatureFault> {
    let key = VerifyingKey::from_bytes(key).map_err(|_| SignatureFault::Key)?;
    key.verify_strict(hash, &Signature::from_bytes(signature))
        .map_err(|_| SignatureFault::Signature)
}

/// Reads an encoding of fixed length from its start. The length is checked once, so that no field can be short.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn open(
        bytes: &'a [u8],
        expected: usize,
        tag: u32,
    ) -> Result<Fields<'a>, DecodeError> {
        if bytes.len() != expected {
            return Err(DecodeError::Length {
                got: bytes.len(),
                expected,
            });
        }
        let mut fields = Fields { rest: bytes };
        match u32::from_be_bytes(fields.array()) {
            got if got == tag => Ok(fields),
            got => Err(DecodeError::Tag { got, expected: tag }),
        }
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (head, rest) = self
            .rest
            .split_first_chunk()
            .expect("the layout's widths add up to the length checked at the start");
        self.rest = rest;
        *head
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    pub(crate) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    pub(crate) fn address(&mut self) -> Result<Address, DecodeError> {
        let [workchain] = self.array();
        Ok(Address::checked(workchain as i8, self.array())?)
    }
}

pub(crate) fn put_address(bytes: &mut Vec<u8>, address: &Address) {
    bytes.push(address.workchain as u8);
    bytes.extend_from_slice(&address.hash);
}

const _: () = assert!(
    limits::VOUCHER_BYTES == 145
        && limits::CHARGE_BYTES == 282
        && limits::CLOSE_BYTES == 117
        && limits::TERMS_BYTES == 154
);
