//! What payers and strangers can do to a payout.

use super::*;
use crate::store::Purpose;
use settlement::Wallet;

fn payer() -> Wallet {
    Wallet::from_seed(&[2; 32], ChainId::EMBEDDED)
}

/// The payer closes its channel before anything was claimed.
fn close(ledger: &Ledger) {
    let terms = channel_terms();
    let send = |seqno, message| {
        let boc = payer().transfer(seqno, FAR, &[message]);
        ledger
            .send_external(&boc.expect("one transfer"))
            .expect("accepted");
    };
    send(1, terms.request_close(1));
    ledger.set_time(ledger.now() + terms.close_delay_s + 1);
    send(2, terms.finalize_close(2));
}

#[tokio::test]
async fn a_claim_on_a_closed_channel_is_an_error_and_not_a_price_of_zero() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    close(&ledger);
    let lost = process.settle().await;
    assert!(
        matches!(
            lost,
            Err(SettleError::Over {
                lost: Nano(PROMISED),
                ..
            })
        ),
        "{lost:?}"
    );
}

#[tokio::test]
async fn a_stranger_who_encodes_the_message_anew_delays_nothing() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    let written = process.write_payout().await;
    let anew = ledger::reencoded(&written.boc).expect("a message");
    assert_ne!(anew, written.boc);
    ledger.send_external(&anew).expect("accepted");
    let settling = tokio::time::timeout(std::time::Duration::from_secs(20), process.settle()).await;
    let settled = settling.expect("in time").expect("settled");
    check_paid_once(&ledger, &process, &settled).await;
}

#[tokio::test]
async fn dust_hides_no_payout() {
    let (ledger, process) = open().await;
    process.promise(PROMISED);
    let written = process.write_payout().await;
    process.node.send(&written.boc).await.expect("accepted");
    for _ in 0..300 {
        ledger.faucet(&payee().address(), Nano(1)).expect("dust");
    }
    let settling = tokio::time::timeout(std::time::Duration::from_secs(20), process.settle()).await;
    let settled = settling.expect("in time").expect("settled");
    assert_eq!(settled.price_nano, Nano(PROMISED));
    assert_eq!(process.store.pending_message().expect("read"), None);
}

#[tokio::test]
async fn a_channel_that_answers_nothing_blocks_no_other() {
    let (_ledger, process) = open().await;
    process.promise(PROMISED);
    let mut stuck = process.prepare().await;
    let channel = channel_terms_of(9).address();
    stuck.purpose = Purpose::Claims(vec![Claim {
        channel,
        cumulative: Nano(PROMISED),
        paid_before: Nano::ZERO,
    }]);
    let to_nobody = Transfer::money(channel, Nano(1_000_000));
    let signed = process
        .payee
        .wallet()
        .transfer(stuck.seqno, stuck.valid_until, &[to_nobody]);
    stuck.boc = signed.expect("one transfer");
    let begun = process.store.begin_message(&stuck, None).expect("stored");
    begun.expect("the only one");
    let anew = ledger::reencoded(&stuck.boc).expect("a message");
    process.node.send(&anew).await.expect("accepted");
    let settling = tokio::time::timeout(std::time::Duration::from_secs(20), process.settle()).await;
    let settled = settling.expect("in time").expect("settled");
    assert_eq!(settled.price_nano, Nano(PROMISED));
}

fn channel_terms_of(salt: u64) -> settlement::ChannelTerms {
    settlement::ChannelTerms {
        salt,
        ..channel_terms()
    }
}
