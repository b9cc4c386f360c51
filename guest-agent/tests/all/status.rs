//! What a guest tells its host of itself: enough to see how it is, and nothing of any prompt or answer.

use crate::world::{body, boot, config, end, exchange};
use wire::*;

async fn ask(running: &crate::world::Running) -> (Status, Vec<u8>) {
    let open = Frame::encode(FrameKind::OpenStatus, b"");
    let frames = exchange(&running.serving, [open, end()].concat()).await;
    let bytes = body(&frames, FrameKind::Data);
    (Status::decode(&bytes).unwrap(), bytes)
}

#[tokio::test]
async fn a_guest_says_how_it_is_and_nothing_that_was_said() {
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    let (before, _) = ask(&running).await;
    let stages: Vec<&str> = before
        .stages
        .iter()
        .map(|stage| stage.name.as_str())
        .collect();
    assert_eq!(stages, ["booted", "measured", "attested", "serving"]);
    assert!(before.stages.is_sorted_by_key(|stage| stage.at_ms));
    let peer = running.worker.peer();
    let [r0, r1, r2, r3] = peer.registers.rtmr;
    let registers = [peer.registers.mrtd, r0, r1, r2, r3].map(|register| register.0);
    assert_eq!(before.registers, registers.concat());
    let events = running.worker.events().iter();
    let events: Vec<_> = events.map(|e| (e.name.clone(), e.digest.0)).collect();
    let told = before.events.iter().map(|e| (e.name.clone(), e.digest));
    assert_eq!(told.collect::<Vec<_>>(), events);
    assert_eq!((before.profile.as_str(), before.gpus.len()), ("sim", 0));
    assert_eq!(before.epochs[0].keyset, running.worker.keyset_digest());
    assert_eq!((before.epochs[0].jobs, before.load.jobs), (0, 0));

    let prompt = random_model::prompt("Hello");
    let job = running.seal(1, |_| ());
    assert_eq!(running.code(job).await, None);
    let refused = running.seal(2, |envelope| envelope.cost_max = settlement::Nano(1));
    assert!(running.code(refused).await.is_some());
    let (after, bytes) = ask(&running).await;
    assert_eq!(after.epochs[0].jobs, 2);
    assert!(
        after
            .log
            .iter()
            .any(|line| line.contains("refused a job: CostMax")),
        "{:?}",
        after.log
    );
    // No four tokens of the prompt or of the answer, as they travel inside the seal.
    for ids in [prompt, random_model::answer()] {
        let words: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        for part in words.windows(16).step_by(4) {
            assert!(!bytes.windows(16).any(|told| told == part));
        }
    }
}

#[tokio::test]
async fn a_question_with_something_in_it_is_none() {
    let running = boot(&config(|_| ())).await;
    let open = Frame::encode(FrameKind::OpenStatus, b"x");
    let frames = exchange(&running.serving, [open, end()].concat()).await;
    assert!(frames.is_empty());
}
