//! Vouchers, charges and the file they are in.

use super::charges::ChargeRefused;
use super::*;
use crate::fixtures::{
    DEPOSIT, channel_state, channel_terms, charge, directory, payee, payer_key, receipt_key,
    voucher,
};
use crate::limits::{CHARGES_KEPT, CHARGES_PRUNED_EVERY, RECEIPTS_PER_CHANNEL_MAX};
use wire::EnvelopeDigest;

fn open(path: &Path) -> Store {
    Store::open(path, &payee().address(), ChainId::EMBEDDED).expect("opens")
}

fn verified(cumulative: u64) -> VerifiedVoucher {
    crate::voucher::verify(
        &voucher(cumulative),
        &channel_terms().address(),
        &channel_state(DEPOSIT),
    )
    .expect("good")
}

#[test]
fn a_lower_voucher_never_replaces_a_higher_one_and_a_repeat_is_fine() {
    let directory = directory();
    let path = directory.path().join("state.sqlite");
    let store = open(&path);
    assert_eq!(store.take(&verified(10)).expect("stored"), Taken::Stored);
    assert_eq!(store.take(&verified(10)).expect("stored"), Taken::Repeated);
    assert_eq!(
        store.take(&verified(9)).expect("read"),
        Taken::Stale { highest: Nano(10) }
    );
    let mut same_amount = voucher(10).voucher;
    same_amount.usage_root = [9; 32];
    let same_amount = same_amount
        .sign(&payer_key())
        .verify(&channel_state(DEPOSIT).payer_key)
        .expect("signed");
    assert_eq!(
        store.take(&same_amount).expect("read"),
        Taken::Stale { highest: Nano(10) }
    );
    assert_eq!(store.take(&verified(11)).expect("stored"), Taken::Stored);
    // Another process opens the file while we hold it, as `settle` does beside `serve`.
    let beside = open(&path);
    assert_eq!(
        beside.highest(&channel_terms().address()).expect("read"),
        Some(voucher(11))
    );
    assert_eq!(beside.take(&verified(12)).expect("stored"), Taken::Stored);
    assert_eq!(
        store.take(&verified(11)).expect("read"),
        Taken::Stale { highest: Nano(12) }
    );
}

#[test]
fn a_file_of_another_payee_or_chain_is_refused() {
    let directory = directory();
    let path = directory.path().join("state.sqlite");
    drop(open(&path));
    let other = channel_terms().address();
    for (payee, chain) in [
        (other, ChainId::EMBEDDED),
        (payee().address(), ChainId::TESTNET),
    ] {
        let error = Store::open(&path, &payee, chain).err().expect("refused");
        assert!(error.to_string().contains("belongs to payee"), "{error}");
    }
}

#[test]
fn charges_add_up_per_receipt_key_and_one_number_has_one_charge() {
    let directory = directory();
    let store = open(&directory.path().join("state.sqlite"));
    let channel = channel_terms().address();
    let key = receipt_key().verifying_key().to_bytes();
    let keep = |key: &[u8; 32], seq, cost, cumulative| {
        // Only the store is under test: any key stands for the signer's.
        let signed = charge(seq, cost, cumulative);
        let verified = signed
            .verify(
                &receipt_key().verifying_key().to_bytes(),
                &channel_terms().payer_key,
            )
            .expect("signed");
        store.record(key, &verified, None).expect("stored")
    };
    assert_eq!(keep(&key, 0, 5, 5), Ok(()));
    assert_eq!(keep(&key, 0, 5, 5), Ok(()));
    // Number 1 was lost on its way; number 2 counts it.
    assert_eq!(keep(&key, 2, 5, 15), Ok(()));
    assert_eq!(store.figures(&channel).expect("read").owed, Nano(15));
    assert_eq!(keep(&key, 2, 4, 14), Err(ChargeRefused::Another { seq: 2 }));
    assert_eq!(keep(&[9; 32], 0, 100, 100), Ok(()));
    let expected = Figures {
        channel,
        owed: Nano(115),
        vouchered: Nano::ZERO,
    };
    assert_eq!(store.figures(&channel).expect("read"), expected);
    assert_eq!(store.channels().expect("read"), [channel]);
}

fn claims(seqno: u32, channels: &[Address]) -> NewMessage {
    let claim = |channel: &Address| Claim {
        channel: *channel,
        cumulative: Nano(10),
        paid_before: Nano(1),
    };
    NewMessage {
        seqno,
        valid_until: 100,
        boc: vec![1, 2, 3],
        wallet_before: Nano(2),
        after_lt: Some(7),
        purpose: Purpose::Claims(channels.iter().map(claim).collect()),
    }
}

#[test]
fn one_message_is_on_its_way_at_a_time_and_each_claim_ends_once() {
    let directory = directory();
    let store = open(&directory.path().join("state.sqlite"));
    let (one, other) = (channel_terms().address(), payee().address());
    let new = claims(3, &[one, other]);
    let begun = store.begin_message(&new).expect("stored");
    let begun = begun.expect("the first");
    assert_eq!(store.begin_message(&new).expect("read"), None);
    assert_eq!(store.pending_message().expect("read"), Some(begun.clone()));
    store.message_taken(begun.id, Some(9)).expect("stored");
    assert_eq!(store.pending_message().expect("read"), None);
    assert_eq!(
        store.begin_message(&new).expect("read"),
        None,
        "open claims"
    );
    let open = store.open_payouts(begun.id).expect("read");
    assert_eq!(open.len(), 2);
    let paid = Paid {
        price: Nano(9),
        fee: Some(Nano(1)),
        paid_after: Nano(10),
        wallet_after: Nano(10),
    };
    let end = |outcome| store.end_payout(open[0].id, &outcome, 50).expect("stored");
    end(PayoutOutcome::Paid(paid));
    end(PayoutOutcome::Expired);
    assert_eq!(store.paid_out(&one).expect("read"), (1, Nano(9)));
    assert_eq!(store.open_message(&one).expect("read"), None);
    assert_eq!(store.open_message(&other).expect("read"), Some(begun));
    let next = store.begin_message(&claims(4, &[one])).expect("stored");
    assert!(next.is_some(), "the other channel's claim holds up nothing");
}

#[test]
fn books_know_the_numbers_that_they_gave_and_those_that_were_taken_over() {
    let directory = directory();
    let store = open(&directory.path().join("state.sqlite"));
    let check = |known, taken, taken_lt| {
        let expected = Numbers {
            known,
            taken,
            taken_lt,
        };
        assert_eq!(store.numbers().expect("read"), expected);
    };
    let begin = |seqno| {
        let new = claims(seqno, &[channel_terms().address()]);
        let begun = store.begin_message(&new).expect("stored");
        begun.expect("nothing is on its way").id
    };
    check(0, 0, 0);
    let id = begin(0);
    check(1, 0, 0);
    store.message_lost(id, false, 1).expect("stored");
    // Void, so its number is given again.
    check(1, 0, 0);
    let id = begin(0);
    store.message_taken(id, Some(9)).expect("stored");
    check(1, 1, 9);
    store.message_lost(id, true, 2).expect("stored");
    store.adopt(5, 3).expect("stored");
    check(5, 5, 9);
    // What another signer took under a number of ours is none of ours.
    let id = begin(5);
    store.message_lost(id, true, 4).expect("stored");
    check(5, 5, 9);
}

#[test]
fn charges_are_pruned_to_what_is_owed_and_what_may_still_be_disputed() {
    let directory = directory();
    let store = open(&directory.path().join("state.sqlite"));
    let channel = channel_terms().address();
    let keep = |key: [u8; 32], seq: u64| {
        let signed = charge(seq, 1, seq + 1);
        let verified = signed
            .verify(
                &receipt_key().verifying_key().to_bytes(),
                &channel_terms().payer_key,
            )
            .expect("signed");
        store.record(&key, &verified, None).expect("stored")
    };
    let rows = || -> i64 {
        let count = "SELECT COUNT(*) FROM charges";
        store
            .lock()
            .query_row(count, [], |row| row.get(0))
            .expect("read")
    };
    let kept = CHARGES_KEPT.cast_unsigned();
    let many = [
        0,
        1,
        2,
        kept,
        kept + 1,
        kept + CHARGES_PRUNED_EVERY.cast_unsigned(),
    ];
    for seq in many {
        assert_eq!(keep([1; 32], seq), Ok(()));
    }
    assert_eq!(
        (rows(), store.figures(&channel).expect("read").owed.0),
        (3, many[5] + 1)
    );
    // What was there is known; what is as old and was not there cannot be judged any more.
    assert_eq!(keep([1; 32], kept), Ok(()));
    let newest = many[5].cast_signed();
    assert_eq!(keep([1; 32], 3), Err(ChargeRefused::Old { seq: 3, newest }));
    // A guest that starts anew has another key; of the one before only what is owed is of use.
    assert_eq!(keep([2; 32], 0), Ok(()));
    assert_eq!(
        (rows(), store.figures(&channel).expect("read").owed.0),
        (2, many[5] + 2)
    );
}

#[test]
fn receipts_are_kept_with_their_charges_and_bounded() {
    let directory = directory();
    let path = directory.path().join("state.sqlite");
    let store = open(&path);
    let key = receipt_key().verifying_key().to_bytes();
    let receipt = |n: u32| KeptReceipt {
        envelope: EnvelopeDigest::of(&n.to_be_bytes()),
        channel: channel_terms().address(),
        payer_key: [3; 32],
        receipt: vec![4; 100],
        charge: vec![1, 2],
    };
    for n in 0..RECEIPTS_PER_CHANNEL_MAX + 2 {
        let signed = charge(n.into(), 1, u64::from(n) + 1);
        let verified = signed
            .verify(&key, &channel_terms().payer_key)
            .expect("signed");
        store
            .record(&key, &verified, Some(&receipt(n)))
            .expect("stored")
            .expect("new");
    }
    let kept = |n: u32| open(&path).receipt(&receipt(n).envelope).expect("read");
    assert_eq!((kept(0), kept(1)), (None, None));
    for n in [2, RECEIPTS_PER_CHANNEL_MAX + 1] {
        assert_eq!(kept(n), Some(receipt(n)));
    }
}

#[test]
fn a_file_of_the_first_version_keeps_what_is_in_it() {
    let directory = directory();
    let path = directory.path().join("state.sqlite");
    let old = Connection::open(&path).expect("opens");
    old.execute_batch(schema::STEPS[0]).expect("made");
    old.execute(
        "INSERT INTO owner VALUES (?1, ?2)",
        params![payee().address().to_string(), ChainId::EMBEDDED.0],
    )
    .expect("written");
    let channel = channel_terms().address();
    for (cumulative, state) in [(5, "paid"), (9, "pending")] {
        old.execute(
            "INSERT INTO payouts VALUES (NULL, ?1, ?2, 3, 100, x'0102', 0, 7, ?3, NULL, NULL, NULL, NULL)",
            params![channel.to_string(), cumulative, state],
        )
        .expect("written");
    }
    old.pragma_update(None, "user_version", 1).expect("written");
    drop(old);
    let check = |store: &Store| {
        let pending = store.pending_message().expect("read");
        let pending = pending.expect("still pending");
        let open = store.open_payouts(pending.id).expect("read");
        assert_eq!(
            (pending.id, pending.seqno, pending.after_lt, open.len()),
            (2, 3, None, 1)
        );
        assert_eq!(open[0].claim.cumulative, Nano(9));
        assert_eq!(
            store.open_message(&channel).expect("read"),
            Some(pending),
            "the paid one has ended"
        );
    };
    // Killed within the change, the file is as it was.
    let mut killed = Connection::open(&path).expect("opens");
    let change = killed.transaction().expect("begun");
    change.execute_batch(schema::STEPS[1]).expect("made");
    drop(change);
    drop(killed);
    check(&open(&path));
    check(&open(&path));
    let later = Connection::open(&path).expect("opens");
    later
        .pragma_update(None, "user_version", schema::STEPS.len() as i64 + 1)
        .expect("written");
    drop(later);
    let refused = Store::open(&path, &payee().address(), ChainId::EMBEDDED)
        .err()
        .expect("refused");
    assert!(refused.to_string().contains("has version 7"), "{refused}");
}
