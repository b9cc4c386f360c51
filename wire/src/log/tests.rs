use super::*;
use settlement::{Cap, ChainId, Charge, Nano};

fn address(n: u8) -> Address {
    Address {
        workchain: 0,
        hash: [n; 32],
    }
}

fn charge(seq: u64) -> SignedCharge {
    let cap = Cap {
        chain: ChainId::EMBEDDED,
        channel: address(1),
        job: [1; 16],
        most: Nano(100),
    };
    let charge = Charge {
        cap: cap.sign(&SigningKey::from_bytes(&[3; 32])),
        stake: address(2),
        receipt_hash: [8; 32],
        seq,
        cost: Nano(seq),
        cumulative: Nano(seq),
    };
    charge.sign(&SigningKey::from_bytes(&[4; 32]))
}

fn key() -> SigningKey {
    SigningKey::from_bytes(&[5; 32])
}

const OF: LogTree = LogTree {
    payee: Address {
        workchain: 0,
        hash: [2; 32],
    },
    tree: 7,
    size: 0,
    closed_unix_s: 1_800_000_000,
};

/// The tree of so many charges.
fn leaves(charges: u64) -> Vec<LogLeaf> {
    let head = LogLeaf::head(7, &[9; 32]);
    let charges = (0..charges).map(|seq| LogLeaf::of(&charge(seq)));
    std::iter::once(head).chain(charges).collect()
}

fn receipt(charges: u64, seq: u64) -> LogReceipt {
    let leaves = leaves(charges);
    let of = LogTree {
        size: leaves.len() as u64,
        ..OF
    };
    LogReceipt {
        of,
        index: seq + 1,
        path: log_path(&leaves, seq as usize + 1).expect("an entry"),
        signature: of.sign(&log_root(&leaves), &key()),
        timestamp: None,
    }
}

fn verify(receipt: &LogReceipt, seq: u64) -> Result<Logged, NotLogged> {
    receipt.verify(&charge(seq), &address(2), key().verifying_key().as_bytes())
}

/// From RFC 9162's reference implementation in Go, certificate-transparency-go's and transparency-dev's test data.
#[test]
fn roots_are_those_of_other_implementations() {
    let entries: [&[u8]; 8] = [
        b"",
        &[0x00],
        &[0x10],
        &[0x20, 0x21],
        &[0x30, 0x31],
        &[0x40, 0x41, 0x42, 0x43],
        &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
        &[
            0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
            0x6e, 0x6f,
        ],
    ];
    let leaves: Vec<LogLeaf> = entries.iter().map(|entry| LogLeaf(leaf(entry))).collect();
    for (size, root) in [
        (
            0,
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ),
        (
            1,
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        ),
        (
            2,
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        ),
        (
            3,
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        ),
        (
            5,
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        ),
        (
            8,
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ),
    ] {
        assert_eq!(hex::encode(log_root(&leaves[..size])), root, "{size}");
    }
}

#[test]
fn every_entry_of_every_size_is_proved_and_no_other() {
    for size in 1..20 {
        for seq in 0..size {
            let receipt = receipt(size, seq);
            let logged = verify(&receipt, seq).expect("in the tree");
            assert_eq!((logged.index(), logged.of().size), (seq + 1, size + 1));
            assert_eq!(*logged.root(), log_root(&leaves(size)));
            assert_eq!(verify(&receipt, seq + 1), Err(NotLogged::Signature));
            let again = LogReceipt::decode(&receipt.encode());
            assert_eq!(again, Ok(receipt));
        }
    }
    assert_eq!(log_path(&leaves(3), 4), None);
}

#[test]
fn what_the_provider_did_not_sign_is_refused() {
    let good = receipt(9, 4);
    let check = |change: fn(&mut LogReceipt), expected: NotLogged| {
        let mut changed = good.clone();
        change(&mut changed);
        assert_eq!(verify(&changed, 4), Err(expected));
    };
    check(|of| of.of.tree += 1, NotLogged::Signature);
    // The path fits eleven entries, too.
    check(|of| of.of.size += 1, NotLogged::Signature);
    check(|of| of.of.closed_unix_s -= 1, NotLogged::Signature);
    check(|of| of.signature[0] ^= 1, NotLogged::Signature);
    check(|of| of.path[0][0] ^= 1, NotLogged::Signature);
    check(|of| of.path.swap(0, 1), NotLogged::Signature);
    let path = |index, size| NotLogged::Path { index, size };
    check(|of| of.path.truncate(3), path(5, 10));
    check(|of| of.path.push([0; 32]), path(5, 10));
    // The tree's own entry, and one that is not in the tree.
    check(|of| of.index = 0, path(0, 10));
    check(|of| of.index = 10, path(10, 10));
    check(|of| of.of.size = 0, path(5, 0));
    let (got, want) = (address(3), address(2));
    let mut foreign = good.clone();
    foreign.of.payee = got;
    assert_eq!(verify(&foreign, 4), Err(NotLogged::Payee { got, want }));
    assert_eq!(
        good.verify(&charge(4), &address(2), &[5; 32]),
        Err(NotLogged::Signature)
    );
}

#[test]
fn any_flipped_bit_and_any_cut_is_an_error_or_another_receipt_that_proves_nothing() {
    let good = receipt(9, 4).encode();
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            if let Ok(decoded) = LogReceipt::decode(&flipped) {
                assert!(verify(&decoded, 4).is_err(), "byte {at}, bit {bit}");
            }
        }
        assert!(LogReceipt::decode(&good[..at]).is_err(), "{at}");
    }
    assert!(LogReceipt::decode(&[&good[..], &[0]].concat()).is_err());
    let long = vec![0; LOG_RECEIPT_BYTES_MAX + 1];
    assert!(matches!(
        LogReceipt::decode(&long),
        Err(Malformed::TooLong { .. })
    ));
}

/// The longest path that is taken still fits.
#[test]
fn the_limits_agree() {
    let mut longest = receipt(9, 4);
    longest.path = vec![[1; 32]; LOG_PATH_MAX as usize];
    (longest.of.size, longest.index, longest.of.tree) = (u64::MAX, u64::MAX, u64::MAX);
    longest.of.closed_unix_s = u64::MAX;
    longest.timestamp = Some(vec![0; TIMESTAMP_BYTES_MAX]);
    let bytes = longest.encode();
    assert!(bytes.len() <= LOG_RECEIPT_BYTES_MAX, "{}", bytes.len());
    assert_eq!(LogReceipt::decode(&bytes), Ok(longest.clone()));
    longest.path.pop();
    longest.timestamp = Some(vec![0; TIMESTAMP_BYTES_MAX + 1]);
    let malformed = Err(Malformed::NotDecodable { what: WHAT });
    assert_eq!(LogReceipt::decode(&longest.encode()), malformed);
    #[cfg(feature = "client")]
    assert_eq!(TIMESTAMP_BYTES_MAX, timestamp::limits::TIMESTAMP_BYTES_MAX);
}

/// The example in RFC 9921's registration: under label 270, not signed, over the signature with its head.
#[test]
fn a_timestamp_is_beside_what_is_signed() {
    let plain = receipt(9, 4);
    let mut stamped = plain.clone();
    stamped.timestamp = Some(vec![7; 300]);
    let bytes = stamped.encode();
    assert_eq!(LogReceipt::decode(&bytes), Ok(stamped.clone()));
    let sign1 = <coset::CoseSign1 as coset::TaggedCborSerializable>::from_tagged_slice(&bytes);
    let rest = sign1.expect("a COSE_Sign1").unprotected.rest;
    let labels: Vec<coset::Label> = rest.iter().map(|(label, _)| label.clone()).collect();
    assert_eq!(labels, [coset::Label::Int(270), coset::Label::Int(396)]);
    let (with, without) = (verify(&stamped, 4), verify(&plain, 4));
    let (with, without) = (with.expect("logged"), without.expect("logged"));
    assert!(with.has_timestamp() && !without.has_timestamp());
    assert_eq!(
        (with.root(), with.imprint),
        (without.root(), without.imprint)
    );
    let signature = [&[0x58, 0x40], &plain.signature[..]].concat();
    assert_eq!(with.imprint, <[u8; 32]>::from(Sha256::digest(signature)));
}

/// Another reader of COSE finds the same parts, and its own Sig_structure verifies.
#[test]
fn coset_reads_it_as_a_cose_sign1_with_a_detached_payload() {
    use coset::{CoseSign1, TaggedCborSerializable, iana};
    let receipt = receipt(9, 4);
    let sign1 = CoseSign1::from_tagged_slice(&receipt.encode()).expect("a COSE_Sign1");
    assert_eq!(sign1.payload, None);
    let algorithm = coset::Algorithm::Assigned(iana::Algorithm::EdDSA);
    assert_eq!(sign1.protected.header.alg, Some(algorithm));
    let root = log_root(&leaves(9));
    sign1
        .verify_detached_signature(&root, b"", |signature, message| {
            key()
                .verifying_key()
                .verify_strict(message, &Signature::from_slice(signature)?)
        })
        .expect("the signature");
}
