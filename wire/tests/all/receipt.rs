//! Receipts and envelopes: what is accepted, and each nearby thing that is not.

use crate::common::*;
use ed25519_dalek::SigningKey;
use settlement::{Cap, Charge, Nano, SignedCap};
use wire::*;

const USAGE: Usage = Usage {
    prompt: 10,
    cached: 0,
    completion: 100,
};

pub fn core(guest: &Guest) -> ReceiptCore {
    let offer = &guest.keyset.models[0];
    ReceiptCore {
        version: 1,
        sequence: 4,
        previous: CoreDigest([1; 32]),
        keyset: guest.keyset.digest(),
        registers: guest.keyset.registers,
        gpus: vec![],
        engine: "engine/1".into(),
        job: [8; 16],
        parent: None,
        envelope: EnvelopeDigest([2; 32]),
        endpoint: Endpoint::Chat,
        model: offer.id.clone(),
        model_root: offer.root,
        tokenizer: offer.tokenizer,
        quantisation: "f32".into(),
        request: Digest([3; 32]),
        response: Digest([4; 32]),
        events: 5,
        frames: Digest([5; 32]),
        finish: Finish::Stop,
        usage: USAGE,
        prices: offer.prices,
        cost: Nano(400),
        cost_max: Nano(5_000),
        chain: guest.keyset.chain,
        channel: cap().cap.channel,
        voucher_high: Nano(0),
        timings: Timings {
            queue_ms: 1,
            first_token_ms: 2,
            total_ms: 3,
        },
        claimed_at_unix_s: NOW,
        class: "standard".into(),
        seed: Some(1),
        determinism: "machine".into(),
    }
}

pub fn charge(guest: &Guest) -> Charge {
    Charge {
        cap: cap(),
        stake: guest.keyset.stake,
        receipt_hash: [0; 32],
        seq: 4,
        cost: Nano(400),
        cumulative: Nano(400),
    }
}

pub fn payer() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

fn cap() -> SignedCap {
    let terms = terms(&payer());
    let cap = Cap {
        chain: terms.chain,
        channel: terms.address(),
        job: [8; 16],
        most: Nano(5_000),
    };
    cap.sign(&payer())
}

pub fn claims() -> RequestClaims {
    RequestClaims {
        envelope: EnvelopeDigest([2; 32]),
        cap: cap(),
        payer_key: payer().verifying_key().to_bytes(),
        request: Digest([3; 32]),
        answer: AnswerClaims::Whole {
            response: Digest([4; 32]),
            frames: Digest([5; 32]),
            events: 5,
            usage: USAGE,
        },
    }
}

#[test]
fn a_true_receipt_is_verified_and_names_its_charge() {
    let guest = guest();
    let receipt = Receipt::sign(core(&guest), charge(&guest), &guest.receipt);
    let decoded = Receipt::decode(receipt.encode()).unwrap();
    let verified = decoded.verify(&guest.keyset, &claims()).unwrap();
    assert_eq!(verified.digest(), receipt.digest());
    assert_eq!(
        verified.charge().receipt_hash,
        core_digest(verified.core()).0
    );
    assert_eq!(verified.core(), &core(&guest));
}

#[test]
fn a_receipt_that_lies_about_anything_the_client_knows_is_refused() {
    let guest = guest();
    let verdict = |change: &dyn Fn(&mut ReceiptCore, &mut Charge)| {
        let (mut core, mut charge) = (core(&guest), charge(&guest));
        change(&mut core, &mut charge);
        Receipt::sign(core, charge, &guest.receipt)
            .verify(&guest.keyset, &claims())
            .map(|_| ())
    };
    assert_eq!(verdict(&|_, _| ()), Ok(()));
    type Change = fn(&mut ReceiptCore);
    let fields: [(&str, Change); 11] = [
        ("keyset", |c| c.keyset = KeysetDigest([9; 32])),
        ("registers", |c| c.registers = Digest([9; 32])),
        ("model root", |c| c.model_root = Digest([9; 32])),
        ("tokenizer", |c| c.tokenizer = Digest([9; 32])),
        ("prices", |c| c.prices.prompt = Nano(1)),
        ("job", |c| c.job = [9; 16]),
        ("envelope", |c| c.envelope = EnvelopeDigest([9; 32])),
        ("request", |c| c.request = Digest([9; 32])),
        ("response", |c| c.response = Digest([9; 32])),
        ("frames", |c| c.frames = Digest([9; 32])),
        ("events", |c| c.events = 6),
    ];
    for (name, change) in fields {
        assert_eq!(
            verdict(&|core, _| change(core)),
            Err(ReceiptRefused::Field(name))
        );
    }
    let more = Usage {
        completion: 101,
        ..USAGE
    };
    assert_eq!(
        verdict(&|c, _| c.usage = more),
        Err(ReceiptRefused::Usage {
            claimed: more,
            counted: USAGE
        })
    );
    assert_eq!(
        verdict(&|c, _| c.cost = Nano(500)),
        Err(ReceiptRefused::Cost {
            claimed: Nano(500),
            computed: Nano(400)
        })
    );
    assert_eq!(
        verdict(&|_, c| c.cost = Nano(300)),
        Err(ReceiptRefused::Field("charge's cost"))
    );
    assert_eq!(
        verdict(&|_, c| c.seq = 3),
        Err(ReceiptRefused::Field("charge's sequence"))
    );
    let lower = |c: &mut Charge| {
        let most = Nano(1);
        c.cap = Cap { most, ..c.cap.cap }.sign(&payer());
    };
    let forged = |c: &mut Charge| c.cap = c.cap.cap.sign(&guest.receipt);
    let altered = |c: &mut Charge| c.cap.cap.most = Nano(6_000);
    let changes: [&dyn Fn(&mut Charge); 3] = [&lower, &forged, &altered];
    for change in changes {
        assert!(matches!(
            verdict(&|_, c| change(c)),
            Err(ReceiptRefused::Charge(_))
        ));
    }
    let another = |c: &mut Charge| {
        let job = [9; 16];
        c.cap = Cap { job, ..c.cap.cap }.sign(&payer());
    };
    assert_eq!(
        verdict(&|_, c| another(c)),
        Err(ReceiptRefused::Field("charge's cap"))
    );
}

/// Whoever lost the end of an answer owes what was made, and no more than was asked for.
#[test]
fn a_receipt_of_an_answer_that_was_cut_is_held_against_the_request() {
    let guest = guest();
    let most = |prompt, completion| RequestClaims {
        answer: AnswerClaims::Cut {
            most: Usage {
                prompt,
                cached: 0,
                completion,
            },
        },
        ..claims()
    };
    let receipt = Receipt::sign(core(&guest), charge(&guest), &guest.receipt);
    let verdict = |claims: RequestClaims| receipt.verify(&guest.keyset, &claims).map(drop);
    assert_eq!(verdict(most(10, 100)), Ok(()));
    assert_eq!(verdict(most(10, 500)), Ok(()));
    for (prompt, completion) in [(10, 99), (9, 100), (11, 100)] {
        assert!(matches!(
            verdict(most(prompt, completion)),
            Err(ReceiptRefused::Usage { .. })
        ));
    }
    let mut other = most(10, 100);
    other.request = Digest([9; 32]);
    assert_eq!(verdict(other), Err(ReceiptRefused::Field("request")));
}

#[test]
fn another_key_signs_in_vain() {
    let guest = guest();
    let receipt = Receipt::sign(
        core(&guest),
        charge(&guest),
        &SigningKey::from_bytes(&[9; 32]),
    );
    assert_eq!(
        receipt.verify(&guest.keyset, &claims()).err(),
        Some(ReceiptRefused::Signature)
    );
}

#[test]
fn every_flipped_byte_of_a_receipt_is_refused() {
    let guest = guest();
    let bytes = Receipt::sign(core(&guest), charge(&guest), &guest.receipt)
        .encode()
        .to_vec();
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x01;
        let verdict = Receipt::decode(&flipped).and_then(|r| r.verify(&guest.keyset, &claims()));
        assert!(verdict.is_err(), "byte {index}");
        assert!(Receipt::decode(&bytes[..index]).is_err(), "length {index}");
    }
    assert!(
        Receipt::decode(&[&bytes[..], &[0]].concat()).is_err(),
        "one byte more"
    );
}

#[test]
fn every_flipped_byte_of_a_signed_envelope_is_refused() {
    let payer = payer();
    let signed = envelope(&payer).sign(b"enc", &payer);
    let bytes = signed.encode();
    assert_eq!(
        *SignedEnvelope::decode(&bytes)
            .unwrap()
            .verify(b"enc")
            .unwrap(),
        *signed.unverified()
    );
    assert!(
        SignedEnvelope::decode(&bytes)
            .unwrap()
            .verify(b"another")
            .is_err(),
        "another encapsulated key"
    );
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x01;
        let accepted = SignedEnvelope::decode(&flipped).is_ok_and(|e| e.verify(b"enc").is_ok());
        assert!(!accepted, "byte {index}");
        assert!(
            SignedEnvelope::decode(&bytes[..index]).is_err(),
            "length {index}"
        );
    }
}

#[test]
fn a_keyset_survives_its_encoding_and_no_flip_gives_the_same_keyset() {
    let keyset = guest().keyset;
    let bytes = keyset.encode();
    assert_eq!(Keyset::decode(&bytes), Ok(keyset.clone()));
    for index in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x01;
        assert_ne!(Keyset::decode(&flipped), Ok(keyset.clone()), "byte {index}");
        assert!(Keyset::decode(&bytes[..index]).is_err(), "length {index}");
    }
    assert!(matches!(
        Keyset::decode(&vec![0; 20_000]),
        Err(Malformed::TooLong { .. })
    ));
}

#[test]
fn costs_are_rounded_up_to_the_step_and_never_overflow() {
    let prices = Prices {
        prompt: Nano(1_000_000),
        cached: Nano(0),
        completion: Nano(3_000_000),
    };
    let cost = |prompt, completion, step| {
        prices.cost(
            &Usage {
                prompt,
                cached: 0,
                completion,
            },
            Nano(step),
        )
    };
    assert_eq!(cost(0, 0, 100), Some(Nano(0)));
    assert_eq!(cost(1, 0, 1), Some(Nano(1)));
    assert_eq!(cost(1, 0, 100), Some(Nano(100)));
    assert_eq!(cost(10, 100, 100), Some(Nano(400)));
    assert_eq!(
        cost(10, 100, 0),
        Some(Nano(310)),
        "no step means steps of one"
    );
    let dear = Prices {
        prompt: Nano(u64::MAX),
        cached: Nano(u64::MAX),
        completion: Nano(u64::MAX),
    };
    assert_eq!(
        dear.cost(
            &Usage {
                prompt: u32::MAX,
                cached: u32::MAX,
                completion: u32::MAX
            },
            Nano(1)
        ),
        None
    );
    assert_eq!(
        dear.cost(
            &Usage {
                prompt: 1_000_000,
                cached: 0,
                completion: 0
            },
            Nano(1)
        ),
        Some(Nano(u64::MAX))
    );
    assert_eq!(prices.cost(&USAGE, Nano(u64::MAX)), Some(Nano(u64::MAX)));
}

#[test]
fn a_proof_with_a_log_receipt_names_the_tree_and_takes_no_other_ones_signature() {
    let guest = guest();
    let receipt = Receipt::sign(core(&guest), charge(&guest), &guest.receipt);
    let without = Proof {
        version: 1,
        bundle: guest.bundle(&NONCE).encode(),
        nonce: NONCE,
        receipt: receipt.encode().to_vec(),
        payer_key: payer().verifying_key().to_bytes(),
        voucher: None,
        log: None,
    };
    let verify = |proof: &Proof| {
        let decoded = Proof::decode(&proof.encode()).unwrap();
        decoded.verify(&guest.policy(), &guest.root(), &guest.expected(), NOW)
    };
    assert_eq!(verify(&without).unwrap().logged(), None);
    let logged_by = |key: &SigningKey| {
        let leaves = [LogLeaf::head(0, &[0; 32]), LogLeaf::of(receipt.charge())];
        let of = LogTree {
            payee: PAYEE,
            tree: 0,
            size: 2,
            closed_unix_s: NOW,
        };
        LogReceipt {
            of,
            index: 1,
            path: log_path(&leaves, 1).unwrap(),
            signature: of.sign(&log_root(&leaves), key),
            timestamp: None,
        }
    };
    let with = without.clone().with_log(&logged_by(&guest.payee));
    let proven = verify(&with).unwrap();
    let logged = proven.logged().unwrap();
    assert_eq!((logged.of().tree, logged.index()), (0, 1));
    // The receipt's own key does not vouch for the provider's log.
    let foreign = without.clone().with_log(&logged_by(&guest.receipt));
    assert_eq!(
        verify(&foreign).unwrap_err(),
        NotProven::Log(NotLogged::Signature)
    );
    // The version says whether there is one.
    for (version, log) in [(2, None), (1, with.log.clone())] {
        let other = Proof {
            version,
            log,
            ..without.clone()
        };
        assert!(matches!(
            Proof::decode(&other.encode()),
            Err(Malformed::Version { .. })
        ));
    }
}
