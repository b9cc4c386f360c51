//! Claims without the wallet.

use super::*;
use settlement::limits::EXTERNAL_GROWTH_MIN;

async fn external() -> (Ledger, Process) {
    let (ledger, mut process) = open().await;
    process.external = true;
    (ledger, process)
}

fn balance(ledger: &Ledger) -> u64 {
    let wallet = ledger.account(&payee().address());
    wallet.expect("read").balance.0
}

#[tokio::test]
async fn what_is_large_enough_is_paid_without_the_wallet_and_cheaply() {
    let (ledger, process) = external().await;
    let before = balance(&ledger);
    process.promise(PROMISED);
    let settled = process.settle().await.expect("settled");
    assert_eq!(settled.price_nano, Nano(PROMISED));
    let fee = settled.fee_nano.expect("seen");
    println!("an external claim costs {}", fee.in_ton());
    assert!(fee <= crate::limits::EXTERNAL_CLAIM_COST, "{fee}");
    assert_eq!(balance(&ledger), before + PROMISED - fee.0);
    let wallet = process.node.wallet(&payee().address()).await;
    assert_eq!(wallet.expect("read").seqno, 0, "the wallet sent nothing");
    let booked = process.store.paid_out(&channel_terms().address());
    assert_eq!(booked.expect("read"), (1, Nano(PROMISED)));
    let entries = process.store.entries().expect("read");
    let [entry] = entries.as_slice() else {
        panic!("{entries:?}");
    };
    assert_eq!(
        (entry.amount, entry.fee, entry.seqno),
        (Nano(PROMISED), Some(fee), None)
    );
    let again = process.settle().await.expect("nothing to do");
    assert_eq!(again.price_nano, Nano::ZERO);
    // What is too little for it goes by the wallet.
    process.promise(PROMISED + EXTERNAL_GROWTH_MIN.0 - 1);
    let settled = process.settle().await.expect("settled");
    assert_eq!(settled.price_nano, Nano(EXTERNAL_GROWTH_MIN.0 - 1));
    let wallet = process.node.wallet(&payee().address()).await;
    assert_eq!(wallet.expect("read").seqno, 1);
}

#[tokio::test]
async fn an_empty_wallet_is_paid_too() {
    let (ledger, process) = external().await;
    let view = process.node.wallet(&process.payee.address()).await;
    by_hand(
        &ledger,
        &process,
        0,
        view.expect("read").balance.0 - 10_000_000,
    );
    process.store.adopt(1, 0).expect("stored");
    process.promise(PROMISED);
    let settled = process.settle().await.expect("settled");
    assert_eq!(settled.price_nano, Nano(PROMISED));
}

#[tokio::test]
async fn after_a_kill_it_is_in_the_books_once_whoever_delivered_it() {
    for delivered in ["nobody", "us", "a wallet"] {
        let (ledger, process) = external().await;
        process.promise(PROMISED);
        let claim = Claim {
            channel: channel_terms().address(),
            cumulative: Nano(PROMISED),
            paid_before: Nano::ZERO,
        };
        let wallet = process.node.wallet(&payee().address()).await.expect("read");
        let begun = process
            .store
            .begin_external(&claim, wallet.balance, wallet.last_lt);
        begun.expect("stored");
        let signed = voucher(PROMISED);
        match delivered {
            "us" => drop(
                ledger
                    .send_external(&signed.insecure_external_claim())
                    .expect("taken"),
            ),
            "a wallet" => {
                let claim = channel_terms().insecure_claim(&signed, 1);
                let payer = settlement::Wallet::from_seed(&[2; 32], ChainId::EMBEDDED);
                let boc = payer.transfer(1, FAR, &[claim]).expect("one transfer");
                ledger.send_external(&boc).expect("accepted");
            }
            _ => {}
        }
        let mut process = process.restart();
        process.external = true;
        let settled = process.settle().await.expect("settled");
        assert_eq!(settled.paid_after_nano, Nano(PROMISED), "{delivered}");
        let booked = process.store.paid_out(&claim.channel).expect("read");
        let expected = match delivered {
            // Somebody else's claim is money, and no claim of ours.
            "a wallet" => (0, Nano::ZERO),
            _ => (1, Nano(PROMISED)),
        };
        assert_eq!(booked, expected, "{delivered}");
        assert_eq!(
            process.store.open_external(&claim.channel).expect("read"),
            None
        );
    }
}
