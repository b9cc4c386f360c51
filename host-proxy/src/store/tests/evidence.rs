//! Evidence is kept while a receipt may need it, and no longer.

use super::{on_each, open};
use crate::fixtures::{charge, payer_key, receipt_key};
use crate::limits::{EVIDENCE_KEPT_S, EVIDENCE_UNUSED_S};
use crate::store::{KeptEvidence, RememberedKeyset, Store};
use wire::KeysetDigest;

const DAY_S: u64 = 24 * 3600;

fn evidence(n: u8) -> KeptEvidence {
    KeptEvidence {
        bundle: vec![n; 100],
        nonce: [n; 32],
    }
}

fn learn(store: &Store, n: u8, receipt_key: [u8; 32], evidence: &KeptEvidence, at: u64) {
    let keyset = RememberedKeyset {
        guest: "unix:guest.sock".into(),
        digest: KeysetDigest([n; 32]),
        receipt_key,
    };
    store.remember_keyset(&keyset, evidence, at).expect("kept");
}

#[test]
fn evidence_stays_for_the_keysets_that_signed_charges() {
    on_each(|place| {
        let store = open(place);
        let kept = |n: u8| {
            let kept = open(place).evidence(&KeysetDigest([n; 32])).expect("read");
            kept.map(|kept| kept.nonce[0])
        };
        let begin = 1_800_000_000;
        let key = receipt_key().verifying_key().to_bytes();
        learn(&store, 1, key, &evidence(1), begin);
        learn(&store, 2, [2; 32], &evidence(2), begin);
        // The first that came stays.
        learn(&store, 1, key, &evidence(9), begin + 1);
        let signed = charge(0, 1, 1).verify(&key, payer_key().verifying_key().as_bytes());
        let recorded = store.record_now(&key, &signed.expect("good"), None);
        recorded.expect("recorded").expect("taken");
        learn(&store, 3, [3; 32], &evidence(3), begin + EVIDENCE_UNUSED_S);
        assert_eq!([1, 2, 3].map(kept), [Some(1), Some(2), Some(3)]);
        learn(
            &store,
            4,
            [4; 32],
            &evidence(4),
            begin + EVIDENCE_UNUSED_S + 1,
        );
        assert_eq!([1, 2, 3, 4].map(kept), [Some(1), None, Some(3), Some(4)]);
        learn(&store, 5, [5; 32], &evidence(5), begin + EVIDENCE_KEPT_S);
        assert_eq!([1, 3, 4, 5].map(kept), [Some(1), None, None, Some(5)]);
        learn(
            &store,
            6,
            [6; 32],
            &evidence(6),
            begin + EVIDENCE_KEPT_S + DAY_S,
        );
        assert_eq!(kept(1), None, "its time is over");
    });
}
