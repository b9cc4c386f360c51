//! Taking vouchers and admitting jobs.

use super::*;
use crate::config::NodeUrl;
use crate::fixtures::{
    DEPOSIT, channel_state, channel_terms, charge, config, directory, envelope, receipt_key,
    voucher,
};
use settlement::ChannelStatus;
use tempfile::TempDir;

/// A proxy whose node is away: what it knows of the channel is all it will ever know.
fn proxy(state: &ChannelState) -> (TempDir, Proxy) {
    let directory = directory();
    let away = NodeUrl::parse("http://127.0.0.1:1").expect("a url");
    let proxy = Proxy::open(&config(directory.path(), away)).expect("opens");
    proxy
        .channels
        .set_state(&channel_terms().address(), state, Instant::now());
    (directory, proxy)
}

fn owe(proxy: &Proxy, seq: u64, cost: u64, cumulative: u64) {
    let key = receipt_key().verifying_key().to_bytes();
    let verified = charge(seq, cost, cumulative)
        .verify(&key, &channel_terms().payer_key)
        .expect("signed");
    proxy
        .store
        .record_now(&key, &verified, None)
        .expect("stored")
        .expect("new");
}

async fn refused(proxy: &Proxy, cost_max: u64) -> Option<&'static str> {
    proxy
        .admit(envelope(cost_max, None).unverified())
        .await
        .err()
        .map(|reply| reply.code)
}

#[tokio::test]
async fn a_channel_is_lent_the_window_and_no_more() {
    let (_directory, proxy) = proxy(&channel_state(DEPOSIT));
    assert_eq!(refused(&proxy, 1_000).await, None);
    assert_eq!(refused(&proxy, 1_001).await, Some("exposure"));
    owe(&proxy, 0, 600, 600);
    assert_eq!(refused(&proxy, 400).await, None);
    assert_eq!(refused(&proxy, 401).await, Some("exposure"));
    proxy.take(&voucher(600)).await.expect("taken");
    assert_eq!(refused(&proxy, 1_000).await, None);
    assert_eq!(refused(&proxy, u64::MAX).await, Some("exposure"));
}

#[tokio::test]
async fn a_fresh_channel_is_lent_less_than_it_cost_and_more_as_it_pays() {
    let (_directory, mut proxy) = proxy(&channel_state(DEPOSIT));
    proxy.credit = Credit::new(None, DEPOSIT).expect("within bounds");
    let start = proxy.credit.start.0;
    assert_eq!(refused(&proxy, start).await, None);
    assert_eq!(refused(&proxy, start + 1).await, Some("exposure"));
    owe(&proxy, 0, start, start);
    assert_eq!(refused(&proxy, 1).await, Some("exposure"));
    proxy.take(&voucher(start)).await.expect("taken");
    assert_eq!(refused(&proxy, start + start / 10).await, None);
    assert_eq!(
        refused(&proxy, start + start / 10 + 1).await,
        Some("exposure")
    );
    // What is promised in advance may be used up, and the credit on top of it.
    proxy.take(&voucher(start * 2)).await.expect("taken");
    assert_eq!(refused(&proxy, start * 2 + start / 5).await, None);
}

#[tokio::test]
async fn no_job_is_taken_whose_charge_could_not_be_written_down() {
    let (_directory, proxy) = proxy(&channel_state(DEPOSIT));
    assert_eq!(refused(&proxy, 1).await, None);
    proxy.store.writable(false);
    let lost = proxy.take(&voucher(1)).await.expect_err("not on the disk");
    assert_eq!(lost.code, "internal");
    let reply = proxy.admit(envelope(1, None).unverified()).await;
    let reply = reply.err().expect("refused");
    assert_eq!((reply.status.as_u16(), reply.code), (503, "disk"));
    proxy.store.writable(true);
    assert_eq!(refused(&proxy, 1).await, None);
}

#[tokio::test]
async fn one_channel_does_not_take_every_slot() {
    let (_directory, proxy) = proxy(&channel_state(DEPOSIT));
    let mut running = Vec::new();
    for _ in 0..JOBS_PER_CHANNEL_MAX {
        running.push(
            proxy
                .admit(envelope(1, None).unverified())
                .await
                .expect("admitted"),
        );
    }
    assert_eq!(refused(&proxy, 1).await, Some("busy"));
    running.pop();
    assert_eq!(refused(&proxy, 1).await, None);
}

#[tokio::test]
async fn jobs_that_run_at_once_share_the_window() {
    let (_directory, proxy) = proxy(&channel_state(DEPOSIT));
    let running = proxy
        .admit(envelope(700, None).unverified())
        .await
        .expect("admitted");
    assert_eq!(refused(&proxy, 400).await, Some("exposure"));
    drop(running);
    assert_eq!(refused(&proxy, 400).await, None);
    assert!(proxy.reserved.lock().expect("whole").is_empty());
}

#[tokio::test]
async fn the_deposit_bounds_what_is_lent() {
    let (_directory, proxy) = proxy(&channel_state(Nano(500)));
    assert_eq!(refused(&proxy, 500).await, None);
    // Asked again whether there was a top-up; the node is away, so the answer is no.
    tokio::time::sleep(crate::limits::CHANNEL_AGE_MIN).await;
    assert_eq!(refused(&proxy, 501).await, Some("chain_unavailable"));
    proxy.channels.set_state(
        &channel_terms().address(),
        &channel_state(Nano(500)),
        Instant::now(),
    );
    assert_eq!(refused(&proxy, 501).await, Some("exposure"));
}

#[tokio::test]
async fn a_voucher_in_the_envelope_counts_and_an_old_one_is_no_fault() {
    let (_directory, proxy) = proxy(&channel_state(DEPOSIT));
    owe(&proxy, 0, 900, 900);
    assert_eq!(refused(&proxy, 500).await, Some("exposure"));
    let paying = envelope(500, Some(&voucher(900)));
    drop(proxy.admit(paying.unverified()).await.expect("admitted"));
    let old = envelope(500, Some(&voucher(800)));
    drop(proxy.admit(old.unverified()).await.expect("admitted"));
    let channel = channel_terms().address();
    assert_eq!(
        proxy.store.highest(&channel).expect("read"),
        Some(voucher(900))
    );
    let mut forged = voucher(1_000);
    forged.signature[0] ^= 1;
    let forged = envelope(500, Some(&forged));
    let reply = proxy
        .admit(forged.unverified())
        .await
        .err()
        .expect("refused");
    assert_eq!(reply.code, "signature");
}

#[tokio::test]
async fn a_channel_that_will_not_pay_gets_no_job() {
    let open = channel_state(DEPOSIT);
    let closing = ChannelState {
        status: ChannelStatus::Closing,
        ..open.clone()
    };
    let closed = ChannelState {
        status: ChannelStatus::Closed,
        ..open.clone()
    };
    let late = ChannelState {
        claims_until: now_unix_s() as u32 + 60,
        ..open.clone()
    };
    for state in [closing, closed, late] {
        let (_directory, proxy) = proxy(&state);
        assert_eq!(refused(&proxy, 1).await, Some("closed"), "{state:?}");
    }
    let rotated = ChannelState {
        payer_key: [9; 32],
        ..open
    };
    let (_directory, proxy) = proxy(&rotated);
    assert_eq!(refused(&proxy, 1).await, Some("payer"));
}

#[tokio::test]
async fn without_a_young_word_from_the_chain_nothing_is_lent() {
    let (_directory, proxy) = proxy(&channel_state(DEPOSIT));
    assert_eq!(refused(&proxy, 1).await, None);
    let long_ago = Instant::now() - crate::limits::CHANNEL_AGE_MAX * 2;
    proxy.channels.set_state(
        &channel_terms().address(),
        &channel_state(DEPOSIT),
        long_ago,
    );
    assert_eq!(refused(&proxy, 1).await, Some("chain_unavailable"));
}

#[tokio::test]
async fn terms_that_let_a_payer_take_back_what_it_owes_are_not_admitted() {
    let open = channel_state(DEPOSIT);
    let check = async |change: &dyn Fn(&mut ChannelState), code| {
        let mut state = open.clone();
        change(&mut state);
        let (_directory, proxy) = proxy(&state);
        assert_eq!(refused(&proxy, 1).await, Some(code), "{state:?}");
    };
    check(&|s| s.close_delay_s = 0, "terms").await;
    check(&|s| s.close_delay_s = 3_599, "terms").await;
    check(&|s| s.close_delay_s = u32::MAX, "terms").await;
    check(&|s| s.claims_until = u32::MAX, "terms").await;
    let soon = now_unix_s() as u32 + 2;
    check(
        &|s| (s.pending_key, s.pending_at) = ([9; 32], soon),
        "rotating",
    )
    .await;
}
