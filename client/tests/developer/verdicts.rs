//! `chrysalis verify` and `chrysalis proof`: one verdict, whatever the target is, and no other byte is good enough.

use super::{Ran, chrysalis, configured};
use crate::authority::Authority;
use crate::world::{World, chat_body};
use base64::prelude::{BASE64_STANDARD, Engine};
use client::trust::Minimum;
use client::{ClientError, Verifier};
use serde_json::Value;
use wire::{Bundle, LogLeaf, LogReceipt, LogTree, NotProven, NotTrusted, Proof, Receipt};

pub const ROOT: [&str; 2] = ["--insecure-test-root", "root.der"];
pub const MANIFEST: [&str; 2] = ["--manifest", "manifest.json"];
pub const CONFIG: [&str; 2] = ["--config", "client.yaml"];

pub async fn run(world: &World, parts: &[&[&str]]) -> Ran {
    chrysalis(world.directory.path(), &parts.concat(), "").await
}

/// A world in which one job was paid, and its receipt's id.
pub async fn paid() -> (World, String) {
    let world = World::start(3600).await;
    configured(&world);
    let client = world.client().unwrap();
    let answer = client.chat(&chat_body(false), &mut |_| ()).await.unwrap();
    (world, answer.payment.receipt.to_string())
}

fn first_line(ran: &Ran) -> &str {
    ran.out.lines().next().unwrap_or_default()
}

fn verifier(world: &World) -> Verifier {
    let at = |name: &str| world.directory.path().join(name);
    let root = at("root.der");
    Verifier::open(
        &at("manifest.json"),
        Some(&root),
        &at("t"),
        Minimum::default(),
    )
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_a_proof_and_a_receipt_get_one_verdict_each_with_what_is_not_proved() {
    let (world, id) = paid().await;
    let path = |name: &str| world.directory.path().join(name);
    let proof = run(&world, &[&["proof", &id, "--out", "a.proof"], &CONFIG]).await;
    assert_eq!(proof.code, Some(0), "{}", proof.err);
    let stored = std::fs::read(path("a.proof")).unwrap();
    let decoded = Proof::decode(&stored).unwrap();
    std::fs::write(path("a.receipt"), &decoded.receipt).unwrap();

    let targets: [(&str, &[&str]); 4] = [
        (&world.address, &MANIFEST),
        ("a.proof", &MANIFEST),
        (&id, &CONFIG),
        ("a.receipt", &CONFIG),
    ];
    for (target, with) in targets {
        let ran = run(&world, &[&["verify", target], with, &ROOT]).await;
        assert_eq!(ran.code, Some(0), "{target}: {}{}", ran.out, ran.err);
        assert!(first_line(&ran).starts_with("verified: "), "{}", ran.out);
        for part in [
            "image",
            "platform",
            "proved:",
            "not proved:",
            "test root",
            "weights",
            "GPU",
        ] {
            assert!(ran.out.contains(part), "{target} lacks {part}: {}", ran.out);
        }
        let ran = run(&world, &[&["verify", target, "--json"], with, &ROOT]).await;
        let object: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(object["verified"], true, "{object}");
        assert_eq!(object["root"], "insecure-test", "{object}");
        assert_eq!(object["changes"], serde_json::json!([]), "{object}");
        let abouts: Vec<&str> = { object["claims"].as_array().unwrap().iter() }
            .map(|claim| claim["about"].as_str().unwrap())
            .collect();
        let is_job = target != world.address;
        assert_eq!(abouts.contains(&"receipt"), is_job, "{abouts:?}");
        assert_eq!(abouts.contains(&"freshness"), !is_job, "{abouts:?}");
        // A receipt alone brings no voucher.
        assert_eq!(abouts.contains(&"voucher"), is_job && target != "a.receipt");
    }
    // Never over a file that is there.
    let again = run(&world, &[&["proof", &id, "--out", "a.proof"], &CONFIG]).await;
    assert_eq!(again.code, Some(1), "{}", again.err);
    assert_eq!(std::fs::read(path("a.proof")).unwrap(), stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_verified_ends_with_1_and_misuse_with_2() {
    let (world, id) = paid().await;
    let path = |name: &str| world.directory.path().join(name);
    let proof = run(&world, &[&["proof", &id, "--out", "a.proof"], &CONFIG]).await;
    assert_eq!(proof.code, Some(0), "{}", proof.err);
    let other =
        attest::Manifest::process(registers::Digest48::of(b"x"), registers::Digest48::of(b"y"));
    std::fs::write(path("other.json"), other.to_json()).unwrap();
    std::fs::write(path("noise"), [0xa1; 100]).unwrap();
    let absent = "00".repeat(32);
    let no: [(&[&str], &str); 6] = [
        (
            &[
                "a.proof",
                "--manifest",
                "other.json",
                "--insecure-test-root",
                "root.der",
            ],
            "RTMR3",
        ),
        (&["a.proof", "--manifest", "manifest.json"], "root"),
        (
            &["noise", "--manifest", "manifest.json"],
            "not a well-formed encoding",
        ),
        (
            &[
                &absent,
                "--config",
                "client.yaml",
                "--insecure-test-root",
                "root.der",
            ],
            "no receipt of that id",
        ),
        (
            &["http://127.0.0.1:1", "--manifest", "manifest.json"],
            "cannot be reached",
        ),
        // Before the certificates of this run were made.
        (
            &[
                "a.proof",
                "--manifest",
                "manifest.json",
                "--insecure-test-root",
                "root.der",
                "--at",
                "2001-01-01",
            ],
            "valid",
        ),
    ];
    for (arguments, reason) in no {
        let ran = run(&world, &[&["verify"], arguments]).await;
        assert_eq!(ran.code, Some(1), "{arguments:?}: {}{}", ran.out, ran.err);
        let line = first_line(&ran);
        assert!(
            line.starts_with("not verified: ") && line.contains(reason),
            "{line}"
        );
        let ran = run(&world, &[&["verify", "--json"], arguments]).await;
        let object: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!(
            (ran.code, &object["verified"]),
            (Some(1), &Value::Bool(false)),
            "{object}"
        );
    }
    // A file that is missing, and a test root that nobody confirmed, fail as they do everywhere.
    let failing: [&[&str]; 2] = [
        &["a.proof", "--manifest", "gone.json"],
        &["a.proof", "--config", "client.yaml"],
    ];
    for arguments in failing {
        let ran = run(&world, &[&["verify"], arguments]).await;
        assert_eq!(ran.code, Some(1), "{arguments:?}: {}{}", ran.out, ran.err);
    }
    let misuse: [&[&str]; 4] = [
        &["nothing-of-that-name", "--manifest", "manifest.json"],
        &["a.proof"],
        &[&id, "--manifest", "manifest.json"],
        &[
            "http://127.0.0.1:1",
            "--manifest",
            "manifest.json",
            "--at",
            "2026-01-01",
        ],
    ];
    for arguments in misuse {
        let ran = run(&world, &[&["verify"], arguments]).await;
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}{}", ran.out, ran.err);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_with_another_machine_is_verified_and_announced() {
    let (mut world, _) = paid().await;
    let verify = ["verify", &world.address.clone()];
    let first = run(&world, &[&verify, &MANIFEST, &ROOT]).await;
    assert!(first.out.contains("first time"), "{}", first.out);
    let again = run(&world, &[&verify, &MANIFEST, &ROOT]).await;
    assert!(again.out.contains("unchanged"), "{}", again.out);
    // The same address, another module under a root of its own.
    world.replace_machine().await;
    let moved = run(&world, &[&verify, &MANIFEST, &ROOT]).await;
    assert_eq!(moved.code, Some(0), "{}{}", moved.out, moved.err);
    assert!(
        moved.out.contains("ALERT: machine changed"),
        "{}",
        moved.out
    );
    assert!(!moved.out.contains("ALERT: image"), "{}", moved.out);
}

/// Collateral repeats the root's certificate, which the verifier has of its own and does not read there: such a byte may
/// be another, and the verdict is the same to the letter. All other bytes are signed, or name what is.
#[tokio::test(flavor = "multi_thread")]
async fn another_byte_of_a_proof_is_refused_or_changes_nothing() {
    let (world, id) = paid().await;
    let mut digest = [0; 32];
    hex::decode_to_slice(&id, &mut digest).unwrap();
    let client = world.client().unwrap();
    let proof = client.budget().proof(&wire::ReceiptDigest(digest)).unwrap();
    let verifier = verifier(&world);
    let proved = verifier.verify_proof(&proof, None).unwrap();
    let bytes = proof.encode();
    assert!(Proof::decode(&bytes[..bytes.len() - 1]).is_err());
    assert!(Proof::decode(&[&bytes[..], &[0]].concat()).is_err());
    // Evidence is long and each judgement takes a while: a sample of it, and every byte of the rest.
    let evidence = proof.bundle.len();
    let places = (0..evidence).step_by(211).chain(evidence..bytes.len());
    let mut refused = 0;
    for at in places.clone() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        let Ok(other) = Proof::decode(&flipped) else {
            refused += 1;
            continue;
        };
        let Ok(job) = verifier.verify_proof(&other, None) else {
            refused += 1;
            continue;
        };
        let (mut bundle, original) = (
            Bundle::decode(&other.bundle).unwrap(),
            Bundle::decode(&proof.bundle).unwrap(),
        );
        assert_ne!(bundle.collateral, original.collateral, "byte {at}");
        bundle.collateral = original.collateral;
        let mended = Proof {
            bundle: bundle.encode(),
            ..other
        };
        assert_eq!(mended.encode(), bytes, "byte {at}");
        assert_eq!(job.worker().peer(), proved.worker().peer(), "byte {at}");
        assert_eq!(job.receipt(), proved.receipt(), "byte {at}");
    }
    assert!(refused > places.count() * 9 / 10, "{refused} were refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_two_proofs_make_none() {
    let (world, id) = paid().await;
    let (other, other_id) = paid().await;
    let proof_of = |world: &World, id: &str| {
        let mut digest = [0; 32];
        hex::decode_to_slice(id, &mut digest).unwrap();
        let client = world.client().unwrap();
        client.budget().proof(&wire::ReceiptDigest(digest)).unwrap()
    };
    let (proof, foreign) = (proof_of(&world, &id), proof_of(&other, &other_id));
    let verifier = verifier(&world);
    let refused = |proof: Proof| verifier.verify_proof(&proof, None).unwrap_err();
    let mut mixed = proof.clone();
    mixed.receipt = foreign.receipt.clone();
    let error = refused(mixed);
    assert!(
        matches!(error, ClientError::Proof(NotProven::Receipt(_))),
        "{error}"
    );
    let mut mixed = proof.clone();
    mixed.voucher = foreign.voucher.clone();
    let error = refused(mixed);
    assert!(
        matches!(error, ClientError::Proof(NotProven::Voucher(_))),
        "{error}"
    );
    let mut mixed = proof.clone();
    mixed.nonce = foreign.nonce;
    let error = refused(mixed);
    let evidence = |e: &ClientError| {
        matches!(
            e,
            ClientError::Proof(NotProven::Evidence(NotTrusted::Quote(_)))
        )
    };
    assert!(evidence(&error), "{error}");
    let mut mixed = proof;
    mixed.bundle = foreign.bundle;
    let error = refused(mixed);
    assert!(evidence(&error), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_a_sidecar_has_the_books_open_it_is_asked() {
    let (world, id) = paid().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut text: Value = serde_json::from_str(&world.config_text()).unwrap();
    text["listen"] = address.into();
    std::fs::write(world.directory.path().join("client.yaml"), text.to_string()).unwrap();
    let client = std::sync::Arc::new(world.client().unwrap());
    let key = client::api_key(&world.directory.path().join("api.key")).unwrap();
    let keys = vec![(client::Spender::default(), key)];
    let access = client::serve::Access::Keys(keys);
    let unknown = client::serve::Unknown::Refuse;
    let serving = tokio::spawn(client::serve::serve(client, listener, access, unknown));
    let ran = run(&world, &[&["verify", &id], &CONFIG, &ROOT]).await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("voucher"), "{}", ran.out);
    let absent = "00".repeat(32);
    let ran = run(&world, &[&["verify", &absent], &CONFIG, &ROOT]).await;
    assert_eq!(ran.code, Some(1), "{}", ran.out);
    assert!(ran.out.contains("receipt_not_found"), "{}", ran.out);
    serving.abort();
}

/// The proof with a receipt of the provider's log, as its proxy gives one out.
fn logged(proof: &Proof, world: &World, timestamp: Option<Vec<u8>>) -> LogReceipt {
    let receipt = Receipt::decode(&proof.receipt).unwrap();
    let leaves = [LogLeaf::head(0, &[0; 32]), LogLeaf::of(receipt.charge())];
    let of = LogTree {
        payee: receipt.charge().charge.stake,
        tree: 0,
        size: 2,
        closed_unix_s: 1_790_000_000,
    };
    LogReceipt {
        of,
        index: 1,
        path: wire::log_path(&leaves, 1).unwrap(),
        signature: of.sign(&wire::log_root(&leaves), &world.guest.payee),
        timestamp,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_proved_by_the_authority_that_is_named() {
    let (world, id) = paid().await;
    let path = |name: &str| world.directory.path().join(name);
    let proof = run(&world, &[&["proof", &id, "--out", "a.proof"], &CONFIG]).await;
    assert_eq!(proof.code, Some(0), "{}", proof.err);
    let proof = Proof::decode(&std::fs::read(path("a.proof")).unwrap()).unwrap();
    let plain = logged(&proof, &world, None);
    let authority = Authority::new(1);
    let digest = wire::log_imprint(&plain.signature);
    let answer = authority.response(&digest, "20270102030405Z");
    let token = timestamp::token(&answer).unwrap().to_vec();
    let stamped = logged(&proof, &world, Some(token));
    for (name, log) in [("plain.proof", &plain), ("stamped.proof", &stamped)] {
        std::fs::write(path(name), proof.clone().with_log(log).encode()).unwrap();
    }
    for (name, root) in [
        ("ours.pem", authority.root),
        ("other.pem", Authority::new(2).root),
    ] {
        let text = BASE64_STANDARD.encode(root);
        let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
        std::fs::write(path(name), pem).unwrap();
    }
    std::fs::write(path("empty.pem"), "").unwrap();
    for (target, with, code, says) in [
        ("plain.proof", None, 0, "nothing here is anchored"),
        (
            "plain.proof",
            Some("ours.pem"),
            0,
            "nothing here is anchored",
        ),
        (
            "stamped.proof",
            None,
            0,
            "no authority to believe was named",
        ),
        (
            "stamped.proof",
            Some("ours.pem"),
            0,
            "on 2027-01-02 at the latest",
        ),
        (
            "stamped.proof",
            Some("other.pem"),
            1,
            "does not lead to a root",
        ),
        (
            "stamped.proof",
            Some("empty.pem"),
            1,
            "no certificates in PEM",
        ),
    ] {
        let named = with.map(|file| ["--time-authority", file]);
        let named = named.iter().flatten().copied().collect::<Vec<_>>();
        let ran = run(&world, &[&["verify", target], &MANIFEST, &ROOT, &named]).await;
        assert_eq!(
            ran.code,
            Some(code),
            "{target} {with:?}: {}{}",
            ran.out,
            ran.err
        );
        let said = [ran.out.as_str(), &ran.err].concat();
        assert!(said.contains(says), "{target} {with:?}: {said}");
    }
}
