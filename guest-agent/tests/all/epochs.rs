//! Keysets follow each other while jobs run: the old one serves until its time is over, and then nobody.

use crate::world::{Running, asking, boot, boot_held, config, greeting};
use std::time::Duration;
use wire::*;

fn short() -> Vec<u8> {
    config(|config| {
        config["lifetime_s"] = 2.into();
        config["jobs_max"] = 100.into();
    })
}

async fn pass(seconds: f32) {
    tokio::time::sleep(Duration::from_secs_f32(seconds)).await;
}

/// The code of a refusal, and whether the guest's newest keys signed it.
async fn refused(running: &Running, newest: &Running, number: u8) -> Option<(RefusalCode, bool)> {
    let job = running.seal(number, |_| ());
    let frames = running.send(&job.envelope.encode(), &job.request).await;
    let refusal = frames
        .iter()
        .find(|frame| frame.kind == FrameKind::Refused)?;
    let refusal = SignedRefusal::decode(&refusal.payload).unwrap();
    let by = |of: &Running| refusal.verify(&of.worker.keyset().receipt_key);
    let (_, code) = by(newest).or(by(running)).unwrap();
    Some((code, by(newest).is_some()))
}

#[tokio::test]
async fn a_job_sealed_to_the_keys_before_runs_until_they_end() {
    let first = boot(&short()).await;
    pass(1.1).await;
    let second = first.attest_again().await;
    assert_eq!(
        second.worker.keyset().epoch,
        first.worker.keyset().epoch + 1
    );
    assert_ne!(first.worker.keyset_digest(), second.worker.keyset_digest());
    assert_eq!(refused(&first, &second, 1).await, None);
    assert_eq!(refused(&second, &second, 2).await, None);
    pass(2.1).await;
    // Erased: the job cannot be opened any more, and the guest says so under the keys of today.
    let third = first.attest_again().await;
    assert_eq!(
        refused(&first, &third, 3).await,
        Some((RefusalCode::StaleKeyset, true))
    );
    assert_eq!(refused(&third, &third, 4).await, None);
}

#[tokio::test]
async fn a_job_in_flight_ends_under_its_own_keys_and_its_receipt_can_be_fetched() {
    let (running, hold) = boot_held(&short()).await;
    let body = asking(Ask::Chat(greeting())).encode().unwrap();
    let job = running.seal_body(1, &body, |_| ());
    let (stream, agent) = running.begin(&job, 1 << 20).await;
    pass(3.2).await;
    // Nobody can seal to them any more, and the job goes on.
    let newest = running.attest_again().await;
    assert!(newest.worker.keyset().epoch >= 2);
    for _ in 0..200 {
        hold.step();
    }
    agent.await.unwrap();
    drop(stream);
    let (receipt, _) = running
        .fetch(&job)
        .await
        .expect("kept beyond the end of its keys");
    let core = receipt.unverified();
    assert_eq!(core.keyset, running.worker.keyset_digest());
    let payer = crate::world::payer().verifying_key().to_bytes();
    assert!(receipt.verify_alone(running.worker.keyset(), payer).is_ok());
    assert!(receipt.verify_alone(newest.worker.keyset(), payer).is_err());
}
