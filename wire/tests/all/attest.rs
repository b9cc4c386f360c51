//! What makes a worker trusted, and everything nearby that does not.

use crate::common::*;
use ed25519_dalek::SigningKey;
use settlement::{Address, ChainId};
use wire::*;

#[test]
fn a_guest_with_the_demanded_registers_is_attested() {
    let guest = guest();
    let worker = guest.attest(&guest.bundle(&NONCE)).unwrap();
    assert_eq!(worker.keyset(), &guest.keyset);
    assert_eq!(worker.peer().root, attest::RootClass::InsecureTest);
    assert_eq!(worker.events(), guest.events);
}

#[test]
fn an_old_keyset_under_a_new_nonce_is_refused() {
    let guest = guest();
    let old = guest.bundle(&[1; 32]);
    assert!(matches!(guest.attest(&old), Err(NotTrusted::Quote(_))));
}

#[test]
fn a_keyset_the_payee_did_not_endorse_is_refused() {
    let guest = guest();
    let mut bundle = guest.bundle(&NONCE);
    bundle.endorsement =
        Endorsement::sign(guest.keyset.digest(), &SigningKey::from_bytes(&[9; 32]));
    assert_eq!(guest.attest(&bundle).err(), Some(NotTrusted::Endorsement));
    bundle.endorsement = Endorsement::sign(KeysetDigest([1; 32]), &guest.payee);
    assert_eq!(guest.attest(&bundle).err(), Some(NotTrusted::Endorsement));
}

#[test]
fn a_keyset_that_says_something_else_than_expected_is_refused() {
    let guest = guest();
    let refused = |change: &dyn Fn(&mut Keyset)| {
        let mut keyset = guest.keyset.clone();
        change(&mut keyset);
        guest
            .attest(&guest.bundle_of(&keyset, &NONCE))
            .err()
            .map(|e| e.to_string())
    };
    let text = |change: &dyn Fn(&mut Keyset)| refused(change).expect("refused");
    assert_eq!(refused(&|_| ()), None);
    assert!(text(&|k| k.registers = Digest([1; 32])).contains("other registers"));
    assert!(text(&|k| k.profile = "cpu".into()).contains("profile"));
    assert!(text(&|k| k.chain = ChainId(-239)).contains("chain"));
    assert!(
        text(&|k| k.payee = Address {
            workchain: 0,
            hash: [0; 32]
        })
        .contains("payee")
    );
    assert!(text(&|k| k.payee_key = [0; 32]).contains("payee"));
    assert!(text(&|k| k.version = 2).contains("version"));
    assert!(text(&|k| k.models.push(k.models[0].clone())).contains("model id twice"));
}

#[test]
fn simulated_evidence_never_serves_a_live_chain() {
    let guest = guest();
    let mut keyset = guest.keyset.clone();
    keyset.chain = ChainId(-239);
    let bundle = guest.bundle_of(&keyset, &NONCE);
    let expected = Expected {
        chain: ChainId(-239),
        ..guest.expected()
    };
    let refused = attest(
        &bundle.encode(),
        &NONCE,
        &guest.policy(),
        &guest.root(),
        &expected,
        NOW,
    );
    assert_eq!(refused.err(), Some(NotTrusted::SimulatedOnLiveChain));
}

#[test]
fn an_event_list_that_does_not_replay_is_refused() {
    let guest = guest();
    let mut bundle = guest.bundle(&NONCE);
    let mut evidence = Evidence::decode(&bundle.evidence).unwrap();
    evidence.events.swap(0, 1);
    bundle.evidence = evidence.encode();
    assert!(matches!(
        guest.attest(&bundle),
        Err(NotTrusted::Events { .. })
    ));
}

#[test]
fn every_flipped_byte_of_a_bundle_is_refused_or_stands_where_nothing_is_believed() {
    let guest = guest();
    let (policy, root, expected) = (guest.policy(), guest.root(), guest.expected());
    let bundle = guest.bundle(&NONCE);
    let bytes = bundle.encode();
    let collateral = bytes.len() - bundle.collateral.len();
    let name = bytes
        .windows(5)
        .position(|w| w == b"agent")
        .expect("the event's name is in the bundle");
    let mut refused = 0;
    for index in (0..bytes.len()).step_by(97) {
        let mut flipped = bytes.clone();
        flipped[index] ^= 0x01;
        let Ok(worker) = attest(&flipped, &NONCE, &policy, &root, &expected, NOW) else {
            refused += 1;
            continue;
        };
        // Event names are for people. In the collateral, copies of the root and of the PCK CA's certificate are not
        // what the verifier builds its chains from.
        assert!(
            index >= collateral || (name..name + 5).contains(&index),
            "byte {index} passed"
        );
        assert_eq!(worker.keyset(), &guest.keyset);
        assert_eq!(worker.peer().registers, guest.module.registers());
    }
    assert!(refused > 100, "only {refused} flips were refused");
    for length in (0..bytes.len()).step_by(211) {
        assert!(attest(&bytes[..length], &NONCE, &policy, &root, &expected, NOW).is_err());
    }
}

/// What a provider configured is in RTMR3, which a registry's image leaves out.
#[test]
fn an_image_is_four_registers_and_not_the_fifth() {
    let registers = |changed: usize| {
        let value = |n: usize| registers::Digest48([u8::from(n == changed); 48]);
        registers::Registers {
            mrtd: value(0),
            rtmr: [value(1), value(2), value(3), value(4)],
        }
    };
    let same = wire::image_digest(&registers(9));
    for changed in 0..4 {
        assert_ne!(wire::image_digest(&registers(changed)), same);
    }
    assert_eq!(wire::image_digest(&registers(4)), same);
    let all = [0; 192];
    assert_eq!(same, wire::sha256("chrysalis/image/v1", &[&all]));
}
