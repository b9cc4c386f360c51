//! Signed statements: one form each, and every altered byte is noticed.

use ed25519_dalek::SigningKey;
use settlement::{
    Address, Cap, ChainId, ChannelTerms, Charge, ChargeError, CooperativeClose, DecodeError, Nano,
    SignedCharge, SignedClose, SignedVoucher, Voucher, VoucherError, limits,
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

fn payer() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn payer_public() -> [u8; 32] {
    payer().verifying_key().to_bytes()
}

fn cap(most: u64) -> Cap {
    Cap {
        chain: ChainId::EMBEDDED,
        channel: account(1),
        job: [6; 16],
        most: Nano(most),
    }
}

fn charge(cost: u64, most: u64) -> SignedCharge {
    Charge {
        cap: cap(most).sign(&payer()),
        stake: account(2),
        receipt_hash: [3; 32],
        seq: 5,
        cost: Nano(cost),
        cumulative: Nano(90),
    }
    .sign(&key())
}

fn terms() -> ChannelTerms {
    ChannelTerms {
        chain: ChainId::EMBEDDED,
        payer: account(3),
        payee: account(4),
        payer_key: payer_public(),
        payee_key: [5; 32],
        close_delay_s: 3_600,
        claims_until: 2_000_000_000,
        salt: 7,
    }
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
        signed
            .verify(&public(), &payer_public())
            .expect("signed by these keys")
            .cost,
        Nano(80)
    );

    let bytes = terms().encode();
    assert_eq!(bytes.len(), limits::TERMS_BYTES);
    assert_eq!(ChannelTerms::decode(&bytes), Ok(terms()));

    let close = CooperativeClose {
        chain: ChainId::EMBEDDED,
        channel: account(1),
        paid: Nano(5),
        valid_until: 7,
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
        let verdict = SignedCharge::decode(&changed)
            .and_then(|signed| signed.verify(&public(), &payer_public()));
        assert!(verdict.is_err(), "charge, bit {bit}");
    }
    let bytes = terms().encode();
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        if let Ok(read) = ChannelTerms::decode(&changed) {
            assert_eq!(read.encode(), changed);
            assert_ne!(read.address(), terms().address(), "terms, bit {bit}");
        }
        assert!(ChannelTerms::decode(&bytes[..bit / 8]).is_err());
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
        valid_until: 7,
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
    let verdict = |cost, most| charge(cost, most).verify(&public(), &payer_public());
    assert!(verdict(100, 100).is_ok());
    let above = ChargeError::CostAboveCap {
        cost: Nano(101),
        cap: Nano(100),
    };
    assert_eq!(verdict(101, 100), Err(above));
}

/// A guest that writes the cap itself signs what it likes with its own key, or changes what the payer signed.
#[test]
fn a_cap_that_the_payer_did_not_sign_is_refused_by_name() {
    let honest = charge(100, 100).charge;
    let of_the_guest = cap(100).sign(&key());
    let mut raised = honest.cap;
    raised.cap.most = Nano(1_000);
    let mut another_job = honest.cap;
    another_job.cap.job = [7; 16];
    for cap in [of_the_guest, raised, another_job] {
        let charge = Charge { cap, ..honest }.sign(&key());
        assert_eq!(
            charge.verify(&public(), &payer_public()),
            Err(ChargeError::CapSignature)
        );
    }
}
