//! Signed statements: one form each, and every altered byte is noticed.

use ed25519_dalek::SigningKey;
use settlement::{
    Address, ChainId, Charge, ChargeError, CooperativeClose, DecodeError, Nano, SignedCharge,
    SignedClose, SignedVoucher, Voucher, VoucherError, limits,
};

fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn public() -> [u8; 32] {
    key().verifying_key().to_bytes()
}

fn account(byte: u8) -> Address {
    Address {
        workchain: 0,
        hash: [byte; 32],
    }
}

fn voucher() -> SignedVoucher {
    let chain = ChainId::EMBEDDED;
    Voucher {
        chain,
        channel: account(1),
        cumulative: Nano(1_234_567),
        usage_root: [9; 32],
    }
    .sign(&key())
}

fn charge(cost: u64, cap: u64) -> SignedCharge {
    Charge {
        chain: ChainId::EMBEDDED,
        stake: account(2),
        receipt_hash: [3; 32],
        seq: 5,
        cost: Nano(cost),
        cap: Nano(cap),
        channel: account(1),
        cumulative: Nano(90),
    }
    .sign(&key())
}

#[test]
fn what_is_encoded_is_decoded_and_verified() {
    let signed = voucher();
    assert_eq!(signed.encode().len(), limits::VOUCHER_BYTES);
    assert_eq!(SignedVoucher::decode(&signed.encode()), Ok(signed));
    assert_eq!(
        signed
            .verify(&public())
            .expect("signed by this key")
            .cumulative,
        Nano(1_234_567)
    );

    let signed = charge(80, 100);
    assert_eq!(signed.encode().len(), limits::CHARGE_BYTES);
    assert_eq!(SignedCharge::decode(&signed.encode()), Ok(signed));
    assert_eq!(
        signed.verify(&public()).expect("signed by this key").cost,
        Nano(80)
    );

    let close = CooperativeClose {
        chain: ChainId::EMBEDDED,
        channel: account(1),
        paid: Nano(5),
    }
    .sign(&key());
    assert_eq!(SignedClose::decode(&close.encode()), Ok(close));
}

#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    let bytes = voucher().encode();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verdict = SignedVoucher::decode(&changed).and_then(|signed| signed.verify(&public()));
        assert!(verdict.is_err(), "voucher, bit {bit}");
        // One form per value: what decodes, encodes to the same bytes.
        if let Ok(signed) = SignedVoucher::decode(&changed) {
            assert_eq!(signed.encode(), changed);
        }
    }
    let bytes = charge(80, 100).encode();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let verdict = SignedCharge::decode(&changed).and_then(|signed| signed.verify(&public()));
        assert!(verdict.is_err(), "charge, bit {bit}");
    }
    for length in (0..400).filter(|length| *length != limits::VOUCHER_BYTES) {
        let expected = DecodeError::Length {
            got: length,
            expected: limits::VOUCHER_BYTES,
        };
        assert_eq!(
            SignedVoucher::decode(&vec![0; length]),
            Err(VoucherError::Decode(expected))
        );
    }
}

#[test]
fn one_kind_of_statement_is_never_another() {
    let key = key();
    let (chain, channel) = (ChainId::EMBEDDED, account(1));
    let close = CooperativeClose {
        chain,
        channel,
        paid: Nano(5),
    }
    .sign(&key);
    let voucher = Voucher {
        chain,
        channel,
        cumulative: Nano(5),
        usage_root: [0; 32],
    };
    assert_ne!(close.close.cell_hash(), voucher.cell_hash());
    let moved = SignedVoucher {
        voucher,
        signature: close.signature,
    };
    assert_eq!(moved.verify(&public()), Err(VoucherError::Signature));
}

#[test]
fn another_key_and_a_key_that_is_none_are_told_apart() {
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes();
    assert_eq!(voucher().verify(&other), Err(VoucherError::Signature));
    let none = (0..=255)
        .map(|byte| [byte; 32])
        .find(|key| voucher().verify(key) == Err(VoucherError::Key));
    assert!(none.is_some(), "some 32 bytes are no point of the curve");
}

#[test]
fn a_signed_charge_above_its_cap_is_refused_by_name() {
    assert!(charge(100, 100).verify(&public()).is_ok());
    let above = ChargeError::CostAboveCap {
        cost: Nano(101),
        cap: Nano(100),
    };
    assert_eq!(charge(101, 100).verify(&public()), Err(above));
}
