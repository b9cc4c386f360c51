//! Cells and signatures against another implementation: `vectors/` is written by `contracts/build.mjs` with @ton/core.

use ed25519_dalek::SigningKey;
use serde_json::Value;
use settlement::{Address, Cap, ChainId, Charge, CooperativeClose, Nano, Voucher};
use std::{fs, path::Path};

pub fn file(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("vectors")
        .join(name);
    serde_json::from_slice(&fs::read(path).expect("the vector is committed"))
        .expect("the vector is JSON")
}

pub fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} is a string"))
}

pub fn hash(value: &Value, name: &str) -> [u8; 32] {
    hex::decode(text(value, name))
        .expect("hex")
        .try_into()
        .expect("32 bytes")
}

fn address(value: &Value, name: &str) -> Address {
    text(value, name).parse().expect("an address")
}

fn nano(value: &Value, name: &str) -> Nano {
    text(value, name).parse().expect("an amount")
}

fn chain(value: &Value) -> ChainId {
    ChainId(value["chain"].as_i64().expect("a number") as i32)
}

#[test]
fn voucher_cells_and_signatures_are_those_of_ton_core() {
    let vectors = file("voucher.json");
    let key = SigningKey::from_bytes(&hash(&vectors, "seed"));
    assert_eq!(key.verifying_key().to_bytes(), hash(&vectors, "public_key"));
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 5);
    for case in cases {
        let fields = &case["fields"];
        let voucher = Voucher {
            chain: chain(fields),
            channel: address(fields, "channel"),
            cumulative: nano(fields, "cumulative"),
            usage_root: hash(fields, "usage_root"),
        };
        assert_eq!(voucher.cell_hash(), hash(case, "cell_hash"), "{fields}");
        let signed = voucher.sign(&key);
        assert_eq!(
            hex::encode(signed.signature),
            text(case, "signature"),
            "{fields}"
        );
        assert!(signed.verify(&hash(&vectors, "public_key")).is_ok());
    }
}

fn cap(fields: &Value) -> Cap {
    let job = hex::decode(text(fields, "job")).expect("hex");
    Cap {
        chain: chain(fields),
        channel: address(fields, "channel"),
        job: job.try_into().expect("16 bytes"),
        most: nano(fields, "most"),
    }
}

#[test]
fn cap_cells_and_signatures_are_those_of_ton_core() {
    let vectors = file("cap.json");
    let key = SigningKey::from_bytes(&hash(&vectors, "seed"));
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let cap = cap(&case["fields"]);
        assert_eq!(cap.cell_hash(), hash(case, "cell_hash"), "{cap:?}");
        let signed = cap.sign(&key);
        assert_eq!(hex::encode(signed.signature), text(case, "signature"));
        assert!(signed.verify(&hash(&vectors, "public_key")).is_some());
    }
}

#[test]
fn close_cells_and_signatures_are_those_of_ton_core() {
    let vectors = file("close.json");
    let key = SigningKey::from_bytes(&hash(&vectors, "seed"));
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let fields = &case["fields"];
        let until = fields["valid_until"].as_u64().expect("a number");
        let close = CooperativeClose {
            chain: chain(fields),
            channel: address(fields, "channel"),
            paid: nano(fields, "paid"),
            valid_until: u32::try_from(until).expect("32 bits"),
        };
        assert_eq!(close.cell_hash(), hash(case, "cell_hash"), "{close:?}");
        let signature = close.sign(&key).signature;
        assert_eq!(hex::encode(signature), text(case, "signature"));
    }
}

#[test]
fn charge_cells_and_signatures_are_those_of_ton_core() {
    let vectors = file("charge.json");
    let key = SigningKey::from_bytes(&hash(&vectors, "seed"));
    let cases = vectors["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 3);
    for case in cases {
        let fields = &case["fields"];
        let charge = Charge {
            cap: cap(fields).sign(&key),
            stake: address(fields, "stake"),
            receipt_hash: hash(fields, "receipt_hash"),
            seq: text(fields, "seq").parse().expect("a number"),
            cost: nano(fields, "cost"),
            cumulative: nano(fields, "cumulative"),
        };
        assert_eq!(charge.cell_hash(), hash(case, "cell_hash"), "{fields}");
        assert_eq!(
            hex::encode(charge.sign(&key).signature),
            text(case, "signature"),
            "{fields}"
        );
    }
}
