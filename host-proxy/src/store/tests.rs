//! Vouchers, charges and the file they are in.

use super::*;
use crate::fixtures::{
    DEPOSIT, channel_state, channel_terms, charge, directory, payee, payer_key, receipt_key,
    voucher,
};

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
        store.record(key, &verified).expect("stored")
    };
    assert_eq!(keep(&key, 0, 5, 5), Ok(()));
    assert_eq!(keep(&key, 0, 5, 5), Ok(()));
    // Number 1 was lost on its way; number 2 counts it.
    assert_eq!(keep(&key, 2, 5, 15), Ok(()));
    assert_eq!(store.figures(&channel).expect("read").owed, Nano(15));
    assert_eq!(keep(&key, 2, 4, 14), Err(Equivocation { seq: 2 }));
    assert_eq!(keep(&[9; 32], 0, 100, 100), Ok(()));
    let expected = Figures {
        channel,
        owed: Nano(115),
        vouchered: Nano::ZERO,
    };
    assert_eq!(store.figures(&channel).expect("read"), expected);
    assert_eq!(store.channels().expect("read"), [channel]);
}

#[test]
fn one_payout_is_on_its_way_at_a_time_and_ends_once() {
    let directory = directory();
    let store = open(&directory.path().join("state.sqlite"));
    let new = NewPayout {
        channel: channel_terms().address(),
        cumulative: Nano(10),
        seqno: 3,
        valid_until: 100,
        boc: vec![1, 2, 3],
        paid_before: Nano(1),
        wallet_before: Nano(2),
    };
    let begun = store
        .begin_payout(&new)
        .expect("stored")
        .expect("the first");
    assert_eq!(store.begin_payout(&new).expect("read"), None);
    assert_eq!(store.pending_payout().expect("read"), Some(begun.clone()));
    let paid = Paid {
        price: Nano(9),
        fee: Nano(1),
        paid_after: Nano(10),
        wallet_after: Nano(10),
    };
    store
        .end_payout(begun.id, &PayoutOutcome::Paid(paid))
        .expect("stored");
    store
        .end_payout(begun.id, &PayoutOutcome::Expired)
        .expect("ignored");
    assert_eq!(store.pending_payout().expect("read"), None);
    assert_eq!(store.paid_out(&new.channel).expect("read"), (1, Nano(9)));
    assert!(store.begin_payout(&new).expect("stored").is_some());
}
