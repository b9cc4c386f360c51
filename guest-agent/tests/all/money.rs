//! Attacks on a provider's money and on other clients' jobs, each of which succeeded once.

use crate::world::*;
use ed25519_dalek::SigningKey;
use settlement::{ChannelTerms, Nano};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use wire::*;

fn claims(job: &SealedJob, receipt: &Receipt) -> RequestClaims {
    let core = receipt.unverified();
    RequestClaims {
        envelope: job.envelope.digest(),
        cap: job.envelope.unverified().cap(),
        payer_key: payer().verifying_key().to_bytes(),
        request: core.request,
        answer: AnswerClaims::Cut { most: core.usage },
    }
}

#[tokio::test]
async fn whoever_hangs_up_owes_what_was_made_and_can_fetch_the_receipt() {
    let window = 200_000;
    let running = boot(&config(|c| {
        c["jobs_max"] = 100.into();
        c["exposure_max_nano"] = window.into();
    }))
    .await;
    let (mut charged, mut hung_up) = (0, 0);
    for number in 0..40 {
        let job = running.seal(number, |e| e.cost_max = Nano(window));
        let (mut stream, agent) = running.begin(&job, 64).await;
        let kind = stream.read_u8().await.unwrap();
        if kind == FrameKind::Refused as u8 {
            break;
        }
        drop(stream);
        agent.await.unwrap();
        let (receipt, charge) = running.fetch(&job).await.expect("it is kept");
        let keyset = running.worker.keyset();
        let verified = receipt.verify(keyset, &claims(&job, &receipt)).unwrap();
        assert_eq!(verified.core().finish, Finish::Stalled);
        assert!(verified.core().usage.prompt > 0);
        assert_eq!(charge.encode(), receipt.charge().encode());
        charged += verified.core().cost.0;
        assert_eq!(charge.charge.cumulative, Nano(charged));
        hung_up += 1;
    }
    assert!(
        (1..40).contains(&hung_up),
        "{hung_up} jobs without a voucher"
    );
    assert!(charged <= window);
}

#[tokio::test]
async fn readers_that_do_not_read_hold_nobody_up() {
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    let mut idle = Vec::new();
    for number in 0..4 {
        let job = running.seal(number, |_| ());
        idle.push(running.begin(&job, 64).await);
    }
    let job = running.code(running.seal(9, |_| ()));
    let answered = timeout(Duration::from_secs(8), job).await;
    assert_eq!(answered.expect("it has its turn"), None);
}

#[tokio::test]
async fn only_a_jobs_client_cancels_it_and_pays_for_what_was_made() {
    let (running, hold) = boot_held(&config(|_| ())).await;
    let job = running.seal(1, |_| ());
    let (mut stream, agent) = running.begin(&job, 1 << 20).await;
    stream.read_u8().await.unwrap();
    hold.step();
    // It cannot end by itself: the second of its eleven tokens waits for the test. The proxy's guess, and the client's word.
    let cancel = job.cancel.cancel(job.envelope.digest()).encode();
    let mut guess = cancel;
    guess[63] ^= 1;
    for bytes in [&guess, &cancel] {
        assert!(!agent.is_finished());
        let ask = Frame::encode(FrameKind::OpenCancel, bytes);
        let frames = exchange(&running.serving, [ask, end()].concat()).await;
        assert_eq!(frames.len(), 1, "nothing tells whether it was right");
        assert_eq!(frames[0].kind, FrameKind::End);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let agent = timeout(Duration::from_secs(8), agent).await;
    agent.expect("it ends").unwrap();
    let (receipt, _) = running.fetch(&job).await.expect("it is kept");
    let keyset = running.worker.keyset();
    let core = receipt.verify(keyset, &claims(&job, &receipt)).unwrap();
    let core = core.core();
    assert_eq!((core.finish, core.usage.completion), (Finish::Cancelled, 1));
    assert_eq!(core.usage.prompt as usize, greeting().prompt.len());
    assert!(core.cost > Nano(0));
    // The step that was under way passes, and the next job has the model.
    drop(hold);
    assert_eq!(running.code(running.seal(2, |_| ())).await, None);
}

/// Who is not started owes nothing, and a job that is waits for nobody else's end.
#[tokio::test]
async fn jobs_share_the_steps_of_a_model_and_one_that_waits_is_cancelled_without_a_charge() {
    let (running, hold) = boot_held(&config(|c| c["jobs_max"] = 100.into())).await;
    let first = running.seal(1, |_| ());
    let (mut stream, agent) = running.begin(&first, 1 << 20).await;
    stream.read_u8().await.unwrap();
    // The model is busy with the first one's prompt.
    let jobs = [2, 3, 4].map(|number| running.seal(number, |_| ()));
    let mut begun = Vec::new();
    for job in &jobs {
        begun.push(running.begin(job, 1 << 20).await);
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let cancel = jobs[2].cancel.cancel(jobs[2].envelope.digest()).encode();
    let ask = Frame::encode(FrameKind::OpenCancel, &cancel);
    exchange(&running.serving, [ask, end()].concat()).await;
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let sequences = hold.sequences.clone();
    drop(hold);
    agent.await.unwrap();
    for (_, agent) in begun {
        agent.await.unwrap();
    }
    assert_eq!(
        sequences.load(Ordering::SeqCst),
        3,
        "all but the cancelled one"
    );
    for job in [&first, &jobs[0], &jobs[1]] {
        let (receipt, _) = running.fetch(job).await.expect("it is kept");
        let core = receipt.unverified();
        assert_eq!((core.finish, core.usage.completion), (Finish::Stop, 11));
    }
    assert!(running.fetch(&jobs[2]).await.is_none());
}

/// A proxy that does not know the secret ends nothing.
#[tokio::test]
async fn a_forged_cancel_ends_nothing() {
    let running = boot(&config(|c| c["interval_ms"] = 100.into())).await;
    let job = running.seal(1, |_| ());
    let (mut stream, agent) = running.begin(&job, 1 << 20).await;
    stream.read_u8().await.unwrap();
    let mut forged = job.cancel.cancel(job.envelope.digest()).encode();
    forged[40] ^= 1;
    let ask = Frame::encode(FrameKind::OpenCancel, &forged);
    exchange(&running.serving, [ask, end()].concat()).await;
    agent.await.unwrap();
    let (receipt, _) = running.fetch(&job).await.expect("it is kept");
    assert_eq!(receipt.unverified().finish, Finish::Stop);
}

#[tokio::test]
async fn a_part_of_a_true_envelope_is_refused_as_bytes() {
    let running = boot(&config(|_| ())).await;
    let job = running.seal(1, |_| ());
    let envelope = job.envelope.encode();
    let inner = &envelope[2..envelope.len() - 64];
    let (subject, _) = running.refusal(inner, &job.request).await.expect("refused");
    assert_eq!(subject, Subject::Unread(UnreadDigest::of(inner)));
    assert_ne!(UnreadDigest::of(inner).0, job.envelope.digest().0);
    assert_eq!(running.code(job).await, None, "the true one runs");
}

#[tokio::test]
async fn nobody_buys_on_somebody_elses_channel() {
    let running = boot(&config(|c| c["jobs_max"] = 100.into())).await;
    let stranger = SigningKey::from_bytes(&[8; 32]);
    // In the victim's name, with the stranger's signature.
    let mut envelope = running.seal(1, |_| ()).envelope.unverified().clone();
    let job = running.seal(2, |_| ());
    envelope.job = [2; 16];
    envelope.sealed_bytes = job.request.len() as u32;
    let enc = OpenedJob::encapsulated_key(&job.request).unwrap();
    let forged = envelope.sign(enc, &stranger).encode();
    let refused = running.refusal(&forged, &job.request).await;
    let unread = Subject::Unread(UnreadDigest::of(&forged));
    assert_eq!(refused, Some((unread, RefusalCode::EnvelopeSignature)));
    // Terms with another key are another channel, which the victim's vouchers do not pay.
    let others = ChannelTerms {
        payer_key: stranger.verifying_key().to_bytes(),
        ..terms()
    };
    assert_ne!(others.address(), terms().address());
    let paid = running.seal_as(&stranger, 3, |e| {
        e.terms = others;
        e.voucher = Some(voucher(1_000_000).encode());
    });
    assert_eq!(running.code(paid).await, Some(RefusalCode::Voucher));
}

/// The first job comes without a voucher, the next with one from before this boot.
#[tokio::test]
async fn what_was_promised_before_this_boot_pays_nothing_of_it() {
    let old = voucher(5_862_000);
    for held in [None, Some(old)] {
        let running = boot(&config(|c| {
            c["jobs_max"] = 100.into();
            c["exposure_max_nano"] = 200_000.into();
        }))
        .await;
        let mut runs = 0;
        for number in 0..20 {
            let job = running.seal(number, |e| {
                e.cost_max = Nano(200_000);
                e.voucher = (number > 0).then(|| old.encode());
            });
            match running.code_with(job, held).await {
                None => runs += 1,
                Some(RefusalCode::Exposure { .. } | RefusalCode::Quota { .. }) => {}
                Some(code) => panic!("{code:?}"),
            }
        }
        assert!((1..10).contains(&runs), "{runs} jobs for an old voucher");
    }
}

#[tokio::test]
async fn garbage_of_one_client_leaves_the_keys_to_the_others() {
    let running = boot(&config(|c| c["jobs_max"] = 64.into())).await;
    let stranger = SigningKey::from_bytes(&[8; 32]);
    let mut codes = Vec::new();
    for number in 0..40 {
        let mut job = running.seal_as(&stranger, number, |e| {
            e.terms.payer_key = stranger.verifying_key().to_bytes();
        });
        *job.request.last_mut().unwrap() ^= 1;
        codes.extend(running.code(job).await);
    }
    let (opened, kept_out) = codes.split_at(4);
    assert!(opened.iter().all(|code| *code == RefusalCode::Seal));
    let quota = RefusalCode::Quota { max: 4 };
    assert!(kept_out.iter().all(|code| *code == quota), "{codes:?}");
    assert!(!quota.proves_not_started(), "it was not recorded");
    assert_eq!(running.code(running.seal(50, |_| ())).await, None);
}
