//! `chrysalis check`: the same question to another worker, refused where its bits need not agree, and a file that shows both answers.

use super::{Ran, chrysalis, configured};
use crate::world::{EMBEDDER, Fault, World, chat_body, embeddings_body};
use client::Client;
use client::config::Config;
use serde_json::{Value, json};
use wire::{Digest, ReceiptDigest};

/// The configuration of a world with a directory for jobs.
fn keeping(world: &World) -> Config {
    let mut text: Value = serde_json::from_str(&world.config_text()).unwrap();
    text["keep_jobs"] = json!({"directory": "jobs", "days": 7, "mib": 16});
    let text = text.to_string();
    std::fs::write(world.directory.path().join("keeping.yaml"), &text).unwrap();
    Config::parse(&text, world.directory.path()).unwrap()
}

/// A world in which a chat and an embedding were paid and kept, and their receipts.
async fn kept() -> (World, [String; 2]) {
    let world = World::start(3600).await;
    let client = Client::open(keeping(&world), true).unwrap();
    let chat = client.chat(&chat_body(false), &mut |_| ()).await.unwrap();
    let vectors = client.embeddings(&embeddings_body()).await.unwrap();
    let ids = [chat, vectors].map(|answer| answer.payment.receipt.to_string());
    (world, ids)
}

async fn check(world: &World, id: &str, with: &World, more: &[&str]) -> Ran {
    configured(with);
    let with = with.directory.path().join("client.yaml");
    let with = with.to_str().unwrap();
    let root = world.directory.path().join("root.der");
    let root = root.to_str().unwrap();
    // One machine, one root: two names of one file.
    let own = std::path::Path::new(with).with_file_name("root.der");
    std::fs::remove_file(&own).unwrap();
    std::os::unix::fs::symlink(root, own).unwrap();
    let fixed = [
        "check",
        id,
        "--config",
        "keeping.yaml",
        "--with",
        with,
        "--insecure-test-root",
        "root.der",
    ];
    chrysalis(world.directory.path(), &[&fixed[..], more].concat(), "").await
}

async fn verify(world: &World, file: &str, json: bool) -> Ran {
    let fixed = [
        "verify",
        file,
        "--manifest",
        "manifest.json",
        "--insecure-test-root",
        "root.der",
    ];
    let json: &[&str] = if json { &["--json"] } else { &[] };
    chrysalis(world.directory.path(), &[&fixed[..], json].concat(), "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn another_worker_answers_with_the_same_bits_and_its_file_shows_that() {
    let (world, ids) = kept().await;
    let other = world.beside(|_| ()).await;
    let dry = check(&world, &ids[0], &other, &["--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{}", dry.err);
    assert!(dry.out.contains("at most 32000 nanoTON"), "{}", dry.out);
    assert_eq!(other.guest.jobs(), 0, "a dry run asks nothing");
    for (id, file, what) in [
        (&ids[0], "chat.json", "3 tokens"),
        (&ids[1], "vectors.json", "2 vectors"),
    ] {
        let ran = check(&world, id, &other, &["--out", file]).await;
        assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
        let same = format!("same: {what} agree bit for bit");
        assert!(ran.out.starts_with(&same), "{}", ran.out);
        assert!(
            ran.out.contains("two keysets on one machine"),
            "{}",
            ran.out
        );
        let judged = verify(&world, file, false).await;
        assert_eq!(judged.code, Some(0), "{}{}", judged.out, judged.err);
        for part in [
            "verified: ",
            &same,
            "commitments of both receipts",
            "not proved:",
            "truth",
        ] {
            assert!(judged.out.contains(part), "no {part}: {}", judged.out);
        }
        // Nothing is paid for a file that cannot be written.
        let jobs = other.guest.jobs();
        let again = check(&world, id, &other, &["--out", file]).await;
        assert_eq!(
            (again.code, other.guest.jobs()),
            (Some(2), jobs),
            "{}",
            again.err
        );
    }
    let object: Value = serde_json::from_str(&verify(&world, "chat.json", true).await.out).unwrap();
    let of = |name: &str| object[name].clone();
    assert_eq!(
        (of("verified"), of("same"), of("compared")),
        (json!(true), json!(true), json!(3))
    );
    assert_eq!(
        (of("another_keyset"), of("another_machine")),
        (json!(true), json!(false))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn other_tokens_end_with_1_and_the_file_has_both_receipts() {
    let (world, ids) = kept().await;
    let other = world.beside(|_| ()).await;
    other.set(Fault::OtherToken);
    let ran = check(&world, &ids[0], &other, &["--out", "other.json", "--json"]).await;
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    let object: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        (&object["same"], &object["differs_at"]),
        (&json!(false), &json!(1)),
        "{object}"
    );
    let judged = verify(&world, "other.json", false).await;
    assert_eq!(judged.code, Some(1), "{}{}", judged.out, judged.err);
    assert!(judged.out.contains("from token 2 on"), "{}", judged.out);
    assert!(judged.out.contains("both receipts hold"), "{}", judged.out);
    // Both receipts are in it, and no other byte of what it shows.
    let text = std::fs::read(world.directory.path().join("other.json")).unwrap();
    let file = client::check::CheckFile::from_json(&text).unwrap();
    let digest = |bytes: &[u8]| ReceiptDigest::of(bytes).to_string();
    assert_eq!(digest(&file.first.proof.receipt), ids[0]);
    assert_eq!(json!(digest(&file.second.proof.receipt)), object["second"]);
    let mut forged: Value = serde_json::from_slice(&text).unwrap();
    forged["second"] = forged["first"].clone();
    std::fs::write(
        world.directory.path().join("twice.json"),
        forged.to_string(),
    )
    .unwrap();
    let judged = verify(&world, "twice.json", false).await;
    assert!(
        judged.code == Some(1) && judged.out.contains("one receipt twice"),
        "{}",
        judged.out
    );
    let mut forged: Value = serde_json::from_slice(&text).unwrap();
    let transcript = forged["second"]["transcript"].as_str().unwrap();
    let said = transcript.replacen("04000000", "02000000", 1);
    assert_ne!(said, transcript);
    forged["second"]["transcript"] = said.into();
    std::fs::write(
        world.directory.path().join("forged.json"),
        forged.to_string(),
    )
    .unwrap();
    let judged = verify(&world, "forged.json", false).await;
    assert_eq!(judged.code, Some(1), "{}", judged.out);
    assert!(
        judged.out.contains("the receipt commits to"),
        "{}",
        judged.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_bits_need_not_agree_is_refused_before_it_is_paid() {
    let (world, ids) = kept().await;
    type Change = fn(&mut wire::Keyset);
    let refused: [(Change, &str); 3] = [
        (
            |keyset| keyset.models[0].root = Digest([1; 32]),
            "no model with root",
        ),
        (
            |keyset| keyset.models[0].quantisation = "q8".into(),
            "keeps the weights as q8",
        ),
        (
            |keyset| keyset.models[0].determinism = "other".into(),
            "class of bits is other",
        ),
    ];
    for (change, why) in refused {
        let other = world.beside(|keyset| {
            keyset.models.truncate(1);
            change(keyset);
        });
        let other = other.await;
        let ran = check(&world, &ids[0], &other, &["--out", "no.json"]).await;
        assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
        assert!(ran.err.contains(why), "{}", ran.err);
        assert_eq!(other.guest.jobs(), 0);
        assert!(!world.directory.path().join("no.json").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_kept_only_where_their_owner_says_so() {
    let world = World::start(3600).await;
    configured(&world);
    let answer = world
        .client()
        .unwrap()
        .embeddings(&embeddings_body())
        .await
        .unwrap();
    let id = answer.payment.receipt.to_string();
    let root = ["--insecure-test-root", "root.der", "--dry-run"];
    let run = async |config: &'static str| {
        let arguments = [&["check", &id, "--config", config], &root[..]].concat();
        chrysalis(world.directory.path(), &arguments, "").await
    };
    let ran = run("client.yaml").await;
    assert!(
        ran.code == Some(2) && ran.err.contains("keep_jobs"),
        "{}",
        ran.err
    );
    keeping(&world);
    let ran = run("keeping.yaml").await;
    assert!(
        ran.code == Some(1) && ran.err.contains("not kept"),
        "{}",
        ran.err
    );
    let kept = std::fs::read_dir(world.directory.path().join("jobs"))
        .unwrap()
        .count();
    assert_eq!(kept, 0, "a job of {EMBEDDER} was kept");
}
