//! What a registry's terms may be, and how much there can be in it.

use super::*;

const ENTRIES_MAX: u16 = 128;
const REVOCATIONS_MAX: u16 = 256;
const REVOCATIONS_OF_GUARDIAN: u16 = 192;
const PROPOSALS_MAX: u16 = 32;
/// The contract's own constants.
const STATE_BITS: u64 = 300_000;
const STATE_CELLS: u64 = 900;
const GAS_MAX: u64 = 400_000;

#[test]
fn a_registry_opens_once_by_its_terms_and_never_begins_again() {
    let check = |change: &dyn Fn(&mut RegistryTerms), expected: Result<(), i32>| {
        let mut at = Registered::undeployed();
        change(&mut at.terms);
        at.registry = Registry(at.terms.address());
        assert_eq!(at.open_it(), expected, "{:?}", at.terms);
    };
    check(&|t| t.delay_s = DAY, Ok(()));
    check(&|t| t.delay_s = 30 * DAY, Ok(()));
    check(&|t| t.open_until = START, Ok(()));
    for delay in [0, DAY - 1, 30 * DAY + 1, u32::MAX] {
        check(&|t| t.delay_s = delay, Err(code::TERMS));
    }
    check(&|t| t.open_until = START + 30 * DAY + 1, Err(code::TERMS));
    check(&|t| t.admin.workchain = -1, Err(code::TERMS));
    check(&|t| t.guardian.workchain = -1, Err(code::TERMS));
    check(&|t| t.chain = ChainId::MAINNET, Err(code::CHAIN));
    check(&|t| t.open_until = START - 1, Err(code::TOO_LATE_TO_OPEN));

    let at = Registered::undeployed();
    for message in [
        at.registry.propose(&image(1), 1),
        at.registry.execute(&image(1).key(), 1),
        at.registry.cancel(&image(1).key(), 1),
        at.registry.tighten(&Tightening::Fee(0), 1),
        at.registry.withdraw(1),
    ] {
        let unopened = Transfer {
            state_init: Some(at.terms.state_init()),
            ..message
        };
        let refused = at.at(&at.network.developer, unopened);
        assert_eq!(refused, Err(code::NOT_OPEN));
    }
    let poor = Transfer {
        value: Nano(300_000_000),
        ..at.terms.open(1)
    };
    let opened = at.at(&at.network.stranger, poor);
    assert_eq!(opened, Err(code::TOO_LITTLE_VALUE));
    assert_eq!(at.open_it(), Ok(()));
    assert_eq!(at.open_it(), Ok(()), "more money, no other version");
    assert_eq!(at.state().version, 1);
}

/// Keys that differ in one bit each make a dictionary as deep as it has entries.
#[test]
fn a_full_registry_of_the_worst_keys_stays_cheap_to_change_and_to_read() {
    let at = Registered::open();
    let deep = |bit: u16| {
        let mut id = [0; 32];
        id[usize::from(bit / 8)] = 0x80 >> (bit % 8);
        id
    };
    let endpoint = "a".repeat(74);
    let entry = |n: u16| match n {
        0..64 => Entry::Image {
            digest: deep(4 * n),
            not_after: u32::MAX,
        },
        _ => Entry::Proxy {
            key: deep(4 * (n - 64)),
            region: *b"DE",
            endpoint: endpoint.clone(),
        },
    };
    let mut most_gas = 0;
    let mut send = |from: &Wallet, message: Transfer| {
        let sent = at.network.send(from, message);
        let view = network::of(&sent, &at.terms.address()).expect("a transaction");
        most_gas = most_gas.max(view.gas_used);
        network::verdict(&sent, &at.terms.address())
    };
    let (admin, guardian) = (&at.network.developer, &at.network.provider);
    for first in (0..ENTRIES_MAX).step_by(usize::from(PROPOSALS_MAX)) {
        let changes: Vec<Change> = (first..first + PROPOSALS_MAX)
            .map(|n| Change::Allow(entry(n)))
            .collect();
        for change in &changes {
            assert_eq!(send(admin, at.registry.propose(change, 1)), Ok(()));
        }
        let more = Change::Allow(model(1, 1));
        let full = send(admin, at.registry.propose(&more, 1));
        assert_eq!(full, Err(code::PROPOSALS_FULL));
        at.wait(DELAY);
        for change in &changes {
            assert_eq!(
                send(guardian, at.registry.execute(&change.key(), 1)),
                Ok(())
            );
        }
    }
    let more = Change::Allow(model(1, 1));
    assert_eq!(send(admin, at.registry.propose(&more, 1)), Ok(()));
    at.wait(DELAY);
    let full = send(admin, at.registry.execute(&more.key(), 1));
    assert_eq!(full, Err(code::ENTRIES_FULL));
    let revoke = |n: u16| {
        let what = Revocable::Platform(deep(n));
        at.registry.tighten(&Tightening::Revoke(what, 0), 1)
    };
    for n in 0..REVOCATIONS_OF_GUARDIAN {
        assert_eq!(send(guardian, revoke(n)), Ok(()));
    }
    let full = send(guardian, revoke(REVOCATIONS_OF_GUARDIAN));
    assert_eq!(full, Err(code::REVOCATIONS_FULL), "the guardian's part");
    for n in REVOCATIONS_OF_GUARDIAN..REVOCATIONS_MAX {
        assert_eq!(send(admin, revoke(n)), Ok(()));
    }
    let revoke_image = |n: u16| Tightening::Revoke(Revocable::Image(deep(4 * n)), 0);
    let full = send(admin, at.registry.tighten(&revoke_image(0), 1));
    assert_eq!(full, Err(code::REVOCATIONS_FULL));
    // An image is stopped all the same.
    let name = EntryName::Image(deep(4 * 63));
    let removed = send(guardian, at.registry.tighten(&Tightening::Remove(name), 1));
    assert_eq!(removed, Ok(()));
    for n in 0..PROPOSALS_MAX - 1 {
        let change = Change::Allow(entry(64 + n));
        assert_eq!(send(admin, at.registry.propose(&change, 1)), Ok(()));
    }
    assert_eq!(at.counts(), (127, 256, 32));
    assert_eq!(at.listed(false).len(), 127 + 256);
    let deepest = RegistryView::question(
        &deep(4 * 62),
        &Revocable::Platform(deep(255)),
        &deep(0),
        &deep(0),
    );
    let ledger = &at.network.ledger;
    let answer = ledger.run_get_method(&at.terms.address(), RegistryView::GET_METHOD, &deepest);
    let answer = answer.expect("a registry");
    println!(
        "at most {most_gas} gas for a change, {} to read",
        answer.gas_used
    );
    assert!(most_gas < GAS_MAX && answer.gas_used < GAS_MAX / 2);
    let view = RegistryView::parse(&answer.stack).expect("a view");
    assert!(view.platform_revoked_at.is_some() && view.image_not_after.is_some());

    at.wait(20 * DAY);
    let sent = at.network.send(admin, at.registry.withdraw(1));
    let view = network::of(&sent, &at.terms.address()).expect("a transaction");
    let taken = (view.storage_fees.0 << 16) / u64::from(20 * DAY);
    let computed = STATE_BITS + 500 * STATE_CELLS;
    println!("room {taken} of {computed}");
    assert!(taken <= computed, "{taken} of {computed}");
    at.network.assert_conserved();
}
