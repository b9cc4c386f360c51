//! Whole paths of the client against a proxy that may misbehave: a typed error, or a whole verified answer.

#[path = "../../measurements/timestamp/tests/all/authority.rs"]
mod authority;
mod developer;
mod endpoint;
mod files;
mod killed;
mod page;
mod registry;
mod reported;
mod sdks;
mod vouchers;
mod wallet;
mod world;

use attest::Manifest;
use client::trust::{Minimum, Platform};
use client::{
    BudgetError, Client, ClientError, Endpoint, Executed, Fault as Whose, Job, Spender, Transport,
    Verifier,
};
use registers::Digest48;
use serde_json::{Value, json};
use settlement::Nano;
use simulator::Flaws;
use std::time::Duration;
use world::{Fault, World, chat_body, copy, embeddings_body};

async fn chat(client: &Client) -> Result<client::Answer, ClientError> {
    client.chat(&chat_body(false), &mut |_| ()).await
}

#[tokio::test]
async fn chat_and_embeddings_are_answered_verified_and_paid() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    let mut chunks = Vec::new();
    let mut sink =
        |event: &Value| chunks.extend(event.pointer("/choices/0/delta/content").cloned());
    let answer = client.chat(&chat_body(false), &mut sink).await.unwrap();
    assert_eq!(answer.text, "hello world");
    assert_eq!(chunks, [json!(""), json!("hello"), json!(" world")]);
    // 3 prompt tokens at 1000 and 3 completion tokens at 2000 nanoTON.
    assert_eq!(answer.payment.cost, Nano(32_000));
    let embeddings = client.embeddings(&embeddings_body()).await.unwrap();
    assert_eq!(embeddings.usage.prompt, 3);
    assert_eq!(embeddings.payment.cumulative, Nano(64_000));
    assert!(answer.delivered && embeddings.delivered);
    let vouchers = world.guest.vouchers.lock().unwrap();
    let amounts: Vec<u64> = vouchers.iter().map(|v| v.voucher.cumulative.0).collect();
    assert_eq!(amounts, [32_000, 64_000]);
    assert!(client.receipt(&answer.payment.receipt).unwrap().is_some());
}

#[tokio::test]
async fn an_answer_ends_before_a_stop_sequence() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    let mut body = chat_body(true);
    for (stop, text) in [
        (json!("wor"), "hello "),
        (json!([" w", "lo"]), "hel"),
        (json!("nowhere"), "hello world"),
    ] {
        body["stop"] = stop;
        let mut shown = String::new();
        let mut last = Value::Null;
        let mut sink = |event: &Value| {
            let content = event.pointer("/choices/0/delta/content");
            shown += content.and_then(Value::as_str).unwrap_or_default();
            last = event["choices"][0]["finish_reason"].clone();
        };
        let answer = client.chat(&body, &mut sink).await.unwrap();
        assert_eq!((answer.text.as_str(), shown.as_str()), (text, text));
        assert_eq!(last, "stop");
        assert_eq!(answer.usage.completion, 3, "what was made is counted");
    }
}

#[tokio::test]
async fn of_texts_that_were_not_all_embedded_in_time_those_that_were_are_paid() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    world.set(Fault::OutOfTime);
    let error = client.embeddings(&embeddings_body()).await.unwrap_err();
    assert!(
        error.to_string().contains("only some of the texts"),
        "{error}"
    );
    // Two tokens of the first text, in the world's price step.
    assert_eq!(client.budget().cumulative(), Ok(Nano(32_000)));
    world.set(Fault::Missing);
    let error = client.embeddings(&embeddings_body()).await.unwrap_err();
    let expected = "the answer is refused: it has 1 vectors; 2 were asked for";
    assert_eq!(error.to_string(), expected);
    assert_eq!(client.budget().cumulative(), Ok(Nano(32_000)));
}

async fn refused(fault: Fault, expected: &str, whose: Whose, executed: Executed) {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    world.set(fault);
    let error = chat(&client).await.unwrap_err();
    assert!(
        error.to_string().starts_with(expected),
        "{fault:?}: {error}"
    );
    assert_eq!(
        (error.fault(), error.executed()),
        (whose, executed),
        "{fault:?}"
    );
    // Nothing is paid, and nothing stays set aside.
    assert_eq!(client.budget().cumulative(), Ok(Nano(0)));
    // After a restart neither, but for what was made of an answer that was cut.
    drop(client);
    let client = world.client().unwrap();
    let left = client.budget().in_flight() != Nano(0);
    assert_eq!(left, fault == Fault::Cut, "{fault:?}");
    world.set(Fault::None);
    assert!(chat(&client).await.is_ok());
}

#[tokio::test]
async fn a_receipt_is_paid_once_and_never_above_the_deposit() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    let session = client.session().await.unwrap();
    let prepared = Job::prepare(&session, Endpoint::Chat, chat_body(false)).unwrap();
    let answering = prepared.seal().unwrap().send(client.proxy()).await.unwrap();
    let answered = answering.finish().await.unwrap();
    let bytes = answered.receipt.clone();
    let verified = answered.verify(&session).unwrap();
    let (budget, spender) = (client.budget(), Spender::default());
    let pay = |deposit| budget.pay(verified.receipt(), &bytes, Nano(deposit), &spender);
    assert!(matches!(pay(31_999), Err(BudgetError::AfterTheAnswer(_))));
    assert_eq!(budget.cumulative(), Ok(Nano(0)));
    let paid = pay(32_000).map(|signed| signed.voucher.cumulative);
    assert_eq!(paid, Ok(Nano(32_000)));
    assert_eq!(pay(64_000), Err(BudgetError::PaidBefore));
    assert_eq!(budget.cumulative(), Ok(Nano(32_000)));
}

/// The stream breaks in the middle, or the proxy gives up; the guest has signed for what it made.
#[tokio::test]
async fn what_was_made_of_a_cut_answer_is_cancelled_and_paid() {
    for fault in [Fault::CutAndKept, Fault::GivenUp] {
        cut(fault).await;
    }
}

async fn cut(fault: Fault) {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    world.set(fault);
    let error = chat(&client).await.unwrap_err();
    let named = matches!(
        error,
        ClientError::Cut(_) | ClientError::ProxyRefused { status: 504, .. }
    );
    assert!(named, "{error}");
    for _ in 0..100 {
        if client.budget().cumulative() == Ok(Nano(32_000)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(client.budget().cumulative(), Ok(Nano(32_000)), "once");
    let cancels = world.guest.cancels.lock().unwrap().clone();
    assert!(wire::Cancel::decode(&cancels[0]).is_ok());
    // The next job carries the voucher.
    world.set(Fault::None);
    assert_eq!(
        chat(&client).await.unwrap().payment.cumulative,
        Nano(64_000)
    );
}

#[tokio::test]
async fn every_fault_is_named_and_nothing_is_paid() {
    use Executed::{Maybe, Yes};
    refused(Fault::Cut, "host-proxy cut the answer", Whose::Proxy, Maybe).await;
    refused(
        Fault::FlipAnswer,
        "wire::seal refused the answer",
        Whose::Proxy,
        Maybe,
    )
    .await;
    refused(
        Fault::OtherReceipt,
        "wire::receipt refused the receipt",
        Whose::Guest,
        Yes,
    )
    .await;
    refused(
        Fault::OverCount,
        "wire::receipt refused the receipt: the receipt counts",
        Whose::Guest,
        Yes,
    )
    .await;
    refused(
        Fault::ForeignToken,
        "the answer is refused: completion token 1 is one that the tokenizer does not have",
        Whose::Guest,
        Yes,
    )
    .await;
    refused(
        Fault::ControlTokenInside,
        "the answer is refused: completion token 1 is a control token",
        Whose::Guest,
        Yes,
    )
    .await;
    refused(
        Fault::OtherFinish,
        "the answer is refused: it ended otherwise than its receipt says",
        Whose::Guest,
        Maybe,
    )
    .await;
    refused(
        Fault::FlipCharge,
        "settlement::charge refused the charge",
        Whose::Proxy,
        Yes,
    )
    .await;
    refused(
        Fault::OtherCharge,
        "settlement::charge refused the charge: the one in the clear",
        Whose::Proxy,
        Yes,
    )
    .await;
    refused(
        Fault::UnsignedRefusal,
        "host-proxy refused the job: pay first (exposure)",
        Whose::Proxy,
        Maybe,
    )
    .await;
    refused(
        Fault::Failure,
        "guest-agent failed after it accepted the job: the engine failed",
        Whose::Guest,
        Yes,
    )
    .await;
}

#[tokio::test]
async fn a_worker_that_signs_two_histories_is_named_and_not_paid() {
    for fault in [Fault::Repeats, Fault::Forgets] {
        let world = World::start(3600).await;
        let client = world.client().unwrap();
        let paid = chat(&client).await.unwrap().payment.cumulative;
        world.set(fault);
        let error = chat(&client).await.unwrap_err();
        assert!(error.to_string().contains("signs two histories"), "{error}");
        assert_eq!(
            (error.fault(), error.executed()),
            (Whose::Guest, Executed::Yes)
        );
        assert_eq!(error.code(), "bad_receipt");
        assert_eq!(client.budget().cumulative(), Ok(paid));
    }
}

#[tokio::test]
async fn tampering_between_the_stages_is_named() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    let session = client.attest().await.unwrap();
    let prepare = || {
        Job::prepare(&session, Endpoint::Chat, chat_body(false))
            .unwrap()
            .seal()
            .unwrap()
    };
    // 1. The envelope.
    let mut sealed = prepare();
    let at = sealed
        .body
        .windows(9)
        .position(|w| w == world::CHAT.as_bytes())
        .unwrap();
    sealed.body[at] ^= 1;
    let mut answering = sealed.send(client.proxy()).await.unwrap();
    let error = answering.next_event().await.unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("guest-agent refused the envelope"),
        "{error}"
    );
    assert_eq!(error.executed(), Executed::Maybe);
    // 2. The receipt.
    let mut answered = prepare()
        .send(client.proxy())
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    let middle = answered.receipt.len() / 2;
    answered.receipt[middle] ^= 1;
    let error = answered.verify(&session).err().unwrap();
    assert!(
        error
            .to_string()
            .starts_with("wire::receipt refused the receipt"),
        "{error}"
    );
    // 3. The voucher.
    let answered = prepare()
        .send(client.proxy())
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();
    let mut payment = answered
        .verify(&session)
        .unwrap()
        .pay(client.budget())
        .unwrap();
    payment.voucher.signature[0] ^= 1;
    let error = client.deliver(&payment).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "host-proxy refused the voucher: its signature is wrong (voucher)"
    );
    // The one on disk is whole, and goes out at the next contact.
    client.deliver_outstanding().await.unwrap();
    assert_eq!(client.budget().unacknowledged(), Ok(None));
}

#[tokio::test]
async fn two_sidecars_on_one_channel_are_refused() {
    let world = World::start(3600).await;
    let first = world.client().unwrap();
    let error = world.client().err().unwrap();
    assert!(
        error.to_string().contains("is in use by another client"),
        "{error}"
    );
    drop(first);
    assert!(world.client().is_ok());
}

#[tokio::test]
async fn a_keyset_that_is_too_old_is_attested_again() {
    let world = World::start(1).await;
    let client = world.client().unwrap();
    chat(&client).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    chat(&client).await.unwrap();
    assert_eq!(*world.guest.attestations.lock().unwrap(), 2);
}

/// Four lifetimes' worth of keysets go by, each challenge takes 0.7 s, and no job waits for one.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_keys_are_there_before_the_last_ones_end_and_no_job_waits() {
    let world = World::start(4).await;
    let client = std::sync::Arc::new(world.client().unwrap());
    client.attest().await.unwrap();
    world.set(Fault::SlowOnChallenges);
    let renewing = std::sync::Arc::clone(&client);
    let renewing = tokio::spawn(async move { renewing.renew().await });
    let (begun, mut keysets) = (std::time::Instant::now(), std::collections::BTreeSet::new());
    while begun.elapsed() < Duration::from_secs(9) {
        let asked = std::time::Instant::now();
        let answer = chat(&client).await.unwrap();
        let receipt = client.receipt(&answer.payment.receipt).unwrap().unwrap();
        keysets.insert(receipt.keyset.0);
        assert!(asked.elapsed() < Duration::from_millis(600), "it waited");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    renewing.abort();
    let attested = *world.guest.attestations.lock().unwrap();
    assert!(
        keysets.len() >= 3 && attested <= 5,
        "{} keysets, {attested} challenges",
        keysets.len()
    );
}

/// What ended stays verifiable: the evidence of each keyset with a receipt is on file.
#[tokio::test]
async fn a_receipt_of_keys_that_ended_keeps_its_proof() {
    let world = World::start(1).await;
    let client = world.client().unwrap();
    let mut receipts = Vec::new();
    for _ in 0..3 {
        receipts.push(chat(&client).await.unwrap().payment.receipt);
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    let keysets = receipts.iter().map(|id| {
        let proof = client.budget().proof(id).unwrap();
        let receipt = wire::Receipt::decode(&proof.receipt).unwrap();
        let evidence = client
            .budget()
            .evidence(&receipt.unverified().keyset)
            .unwrap();
        assert_eq!(evidence.unwrap().nonce, proof.nonce);
        receipt.unverified().keyset.0
    });
    assert_eq!(keysets.collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[tokio::test]
async fn keys_that_do_not_end_are_refused_by_this_clock() {
    let world = World::start(1).await;
    world.set(Fault::ClockHeld);
    let client = world.client().unwrap();
    chat(&client).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    let error = chat(&client).await.unwrap_err();
    assert!(
        matches!(error, ClientError::OldKeys { lifetime_s: 1, .. }),
        "{error}"
    );
    // A client that comes back knows them still.
    drop(client);
    let error = chat(&world.client().unwrap()).await.unwrap_err();
    assert!(matches!(error, ClientError::OldKeys { .. }), "{error}");
    world.set(Fault::None);
    assert_eq!(
        chat(&world.client().unwrap()).await.unwrap().text,
        "hello world"
    );
}

#[tokio::test]
async fn a_signed_refusal_for_stale_keys_is_retried_once_with_fresh_ones() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    client.attest().await.unwrap();
    world.set(Fault::StaleOnce);
    assert_eq!(chat(&client).await.unwrap().text, "hello world");
    assert_eq!(*world.guest.attestations.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_refusal_by_unknown_keys_proves_nothing_and_the_next_job_attests_again() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    client.attest().await.unwrap();
    world.set(Fault::RestartedOnce);
    let error = chat(&client).await.unwrap_err();
    assert_eq!(error, ClientError::UnknownSigner);
    assert_eq!(
        (error.executed(), error.retryable()),
        (Executed::Maybe, true)
    );
    assert_eq!(chat(&client).await.unwrap().text, "hello world");
    assert_eq!(*world.guest.attestations.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_test_root_counts_only_when_a_person_named_it() {
    let world = World::start(3600).await;
    assert!(matches!(
        Client::open(world.config(), false),
        Err(ClientError::Config(_))
    ));
    let mut intel = world.config();
    intel.insecure_test_root = None;
    let error = Client::open(intel, false)
        .unwrap()
        .attest()
        .await
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("attest::verify refused the quote"),
        "{error}"
    );
}

#[tokio::test]
async fn a_dead_proxy_is_unreachable_and_nothing_was_executed() {
    let world = World::start(3600).await;
    let client = world.client().unwrap();
    let session = client.attest().await.unwrap();
    world.server.abort();
    let sealed = Job::prepare(&session, Endpoint::Chat, chat_body(false))
        .unwrap()
        .seal()
        .unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let error = sealed.send(client.proxy()).await.err().unwrap();
    assert!(matches!(error, ClientError::Unreachable(_)), "{error}");
    assert_eq!(error.executed(), Executed::No);
}

#[tokio::test]
async fn attesting_needs_no_wallet_no_channel_and_no_money() {
    let world = World::start(3600).await;
    let at = |name: &str| world.directory.path().join(name);
    world.set(Fault::NoChannel);
    let verifier = |manifest: &str, minimum| {
        let root = at("root.der");
        Verifier::open(&at(manifest), Some(&root), &at("trust.sqlite"), minimum).unwrap()
    };
    let proxy = Transport::new(&world.address).unwrap();
    let minimum = Minimum::default();
    let good = client::verify(&proxy, &verifier("manifest.json", minimum))
        .await
        .unwrap();
    assert_eq!(good.platform(), Platform::First);
    let again = client::verify(&proxy, &verifier("manifest.json", minimum))
        .await
        .unwrap();
    assert_eq!(again.platform(), Platform::Known);

    let other = Manifest::process(Digest48::of(b"another"), Digest48::of(b"config"));
    std::fs::write(at("other.json"), other.to_json()).unwrap();
    let error = client::verify(&proxy, &verifier("other.json", minimum))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("RTMR3"), "{error}");
    // What the owner demands of the platform's age.
    let number = Minimum {
        tcb_evaluation_number: 10_000,
        ..minimum
    };
    let error = client::verify(&proxy, &verifier("manifest.json", number))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("10000"), "{error}");
    let date = Minimum {
        tcb_unix_s: 4_000_000_000,
        ..minimum
    };
    let error = client::verify(&proxy, &verifier("manifest.json", date))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("2096-10-02"), "{error}");
}
