//! `chrysalis init`: from nothing to an answer, against a real ledger in this process, and what it refuses.

use super::{Ran, chrysalis, configured};
use crate::world::World;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// The program that the page for developers shows; its `main` reads arguments and calls `ask`.
#[expect(dead_code)]
#[path = "../../examples/first_call.rs"]
mod first_call;

#[tokio::test]
async fn a_first_call_from_rust_shows_the_answer_and_what_was_verified_and_paid() {
    let world = World::start(3600).await;
    configured(&world);
    let at = |name: &str| world.directory.path().join(name).display().to_string();
    let mut out = Vec::new();
    let asked = first_call::ask(&at("client.yaml"), "Why?", Some(at("root.der")), &mut out).await;
    asked.unwrap();
    let said = String::from_utf8(out).unwrap();
    let (text, paid) = said.split_once("\n\nverified and paid: ").expect(&said);
    assert_eq!(text, "hello world");
    assert!(
        paid.contains(" completion tokens, 32000 nanoTON, receipt "),
        "{said}"
    );
    assert_eq!(world.guest.vouchers.lock().unwrap().len(), 1);
    // Nothing is sealed to a simulated machine whose root was not named.
    let mut out = Vec::new();
    let unnamed = first_call::ask(&at("client.yaml"), "Why?", None, &mut out).await;
    assert!(unnamed.is_err() && out.is_empty());
    assert_eq!(world.guest.jobs(), 1);
}

/// The embedded ledger at an address of its own.
async fn ledger(directory: &Path) -> String {
    let ledger = ledger::Ledger::open(&directory.join("ledger.sqlite")).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(ledger::serve(ledger, listener));
    address
}

fn arguments(world: &World, toncenter: &str) -> Vec<String> {
    let at = |name: &str| world.directory.path().join(name).display().to_string();
    let listen = crate::page::free_port();
    let words = [
        "init",
        "desk",
        "--proxy",
        &world.address,
        "--manifest",
        &at("manifest.json"),
        "--model",
        &format!("tiny-chat={}", at("model")),
        "--toncenter",
        toncenter,
        "--insecure-test-root",
        &at("root.der"),
        "--listen",
        &format!("127.0.0.1:{listen}"),
    ];
    words.map(String::from).to_vec()
}

async fn run(directory: &Path, arguments: &[String], more: &[&str], input: &str) -> Ran {
    let words: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .chain(more.iter().copied())
        .collect();
    chrysalis(directory, &words, input).await
}

#[tokio::test(flavor = "multi_thread")]
async fn from_an_empty_directory_one_command_leads_to_a_sidecar_that_answers() {
    let world = World::start(3600).await;
    let home = tempfile::tempdir().unwrap();
    let toncenter = ledger(world.directory.path()).await;
    let arguments = arguments(&world, &toncenter);
    let made = run(home.path(), &arguments, &["--simulate"], "").await;
    assert_eq!(made.code, Some(0), "{}{}", made.out, made.err);
    assert!(made.out.contains("status        open"), "{}", made.out);
    let desk = home.path().join("desk");
    let mode = |name: &str| {
        std::fs::metadata(desk.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode("payer.key"), mode("wallet.key"), mode("")),
        (0o600, 0o600, 0o700)
    );

    let mut serve = Command::new(env!("CARGO_BIN_EXE_chrysalis"))
        .args([
            "serve",
            "--config",
            "client.yaml",
            "--insecure-test-root",
            "root.der",
        ])
        .current_dir(&desk)
        .env("XDG_STATE_HOME", home.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let listen = arguments.last().unwrap().clone();
    let port = listen.rsplit_once(':').unwrap().1.parse().unwrap();
    crate::page::await_port(port).await;
    let key = std::fs::read_to_string(desk.join("api.key")).unwrap();
    let body = json!({"model": "tiny-chat", "messages": [{"role": "user", "content": "hello world hello"}]});
    let ask = client::transport::Ask {
        method: "POST",
        path: "/v1/chat/completions",
        content_type: "application/json",
        authorization: &format!("Bearer {key}"),
        body: body.to_string().into_bytes(),
    };
    let sidecar = client::Transport::new(&format!("http://{listen}")).unwrap();
    let reply = sidecar.call(ask, 1 << 20).await.unwrap();
    let answer: Value = serde_json::from_slice(&reply.body).unwrap();
    let _ = serve.kill();
    let _ = serve.wait();
    assert_eq!(
        answer["choices"][0]["message"]["content"], "hello world",
        "{answer}"
    );
    assert_eq!(answer["x_job"]["verified"], true, "{answer}");

    // A second time it touches nothing.
    let before = std::fs::read(desk.join("payer.key")).unwrap();
    let again = run(home.path(), &arguments, &["--simulate"], "").await;
    assert_eq!(again.code, Some(1), "{}", again.err);
    assert!(again.err.contains("client.yaml exists"), "{}", again.err);
    assert_eq!(std::fs::read(desk.join("payer.key")).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_missing_is_named_and_nothing_is_written() {
    let world = World::start(3600).await;
    let home = tempfile::tempdir().unwrap();
    // This node has no faucet.
    let given = arguments(&world, &world.address);
    let replaced = |what: &str, with: &str| -> Vec<String> {
        { given.iter() }
            .map(|word| {
                if word.contains(what) {
                    with.into()
                } else {
                    word.clone()
                }
            })
            .collect()
    };
    let other =
        attest::Manifest::process(registers::Digest48::of(b"x"), registers::Digest48::of(b"y"));
    std::fs::write(home.path().join("other.json"), other.to_json()).unwrap();
    for (arguments, code, reason) in [
        (
            replaced("manifest.json", "other.json"),
            1,
            "the worker is not what the manifest says",
        ),
        (
            replaced("tiny-chat=", "no-such=model"),
            1,
            "it has tiny-chat",
        ),
        (replaced("tiny-chat=", "tiny-chat=nowhere"), 1, "nowhere"),
        (replaced("tiny-chat=", "tiny-chat"), 2, "NAME=DIR"),
        (replaced("manifest.json", "absent.json"), 1, "absent.json"),
    ] {
        let ran = run(home.path(), &arguments, &["--simulate"], "").await;
        assert_eq!(
            ran.code,
            Some(code),
            "{arguments:?}: {}{}",
            ran.out,
            ran.err
        );
        assert!(ran.err.contains(reason), "{reason}: {}", ran.err);
        assert!(!home.path().join("desk").exists(), "{reason}");
    }
    let without_root = [&given[..10], &given[12..]].concat();
    let ran = run(home.path(), &without_root, &["--simulate"], "").await;
    assert_eq!(ran.code, Some(2), "{}", ran.err);
    let ran = run(home.path(), &given, &["--simulate"], "").await;
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(
        ran.err.contains("test funds") && ran.err.contains("channel open"),
        "{}",
        ran.err
    );
    assert!(
        home.path().join("desk/client.yaml").exists(),
        "complete but for the money"
    );
}
