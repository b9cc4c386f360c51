//! The whole way of a time: the proxy's log closes a tree with a job's charge, an authority of the test stamps it, the client fetches the
//! log's receipt, and `chrysalis verify` names the time for whoever believes that authority. Its clock is made up.

use crate::authority::Authority;
use crate::common;
use axum::Router;
use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tests::report::Steps;
use tests::stack::EMBEDDER;
use tests::{Stack, StackOptions, scenario};
use wire::Proof;

const TIME: &str = "20270102030405Z";
/// Ten seconds for the tree, and then the authority is asked.
const PATIENCE: Duration = Duration::from_secs(60);

/// An authority on loopback; it ends with the test.
async fn serve(authority: Authority) -> String {
    let answer = async move |asked: Bytes| {
        // The digest lies between the algorithm and the wish for certificates.
        let digest = asked[asked.len() - 35..asked.len() - 3].try_into();
        let stamped = authority.response(&digest.expect("32 bytes"), TIME);
        ([(CONTENT_TYPE, "application/timestamp-reply")], stamped)
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let routes = Router::new().fallback(axum::routing::post(answer));
    tokio::spawn(async { axum::serve(listener, routes).await });
    format!("http://{address}")
}

fn write_root(path: &Path, root: &[u8]) {
    let text = BASE64_STANDARD.encode(root);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    std::fs::write(path, pem).unwrap();
}

fn chrysalis(stack: &Stack, words: &[&str]) -> Output {
    let mut command = Command::new(stack.program("chrysalis"));
    command.args(words).current_dir(stack.dir.path());
    command.output().unwrap()
}

/// The exit code of `chrysalis verify`, and all that it said.
fn verify(stack: &Stack, proof: &str, more: &[&str]) -> (Option<i32>, String) {
    let words = ["verify", proof, "--manifest", "manifest.json"];
    let root = [
        "--insecure-test-root",
        "sim/root.der",
        "--trust",
        "other-trust.sqlite",
    ];
    let ran = chrysalis(stack, &[&words[..], &root, more].concat());
    let said = [ran.stdout, ran.stderr].concat();
    (
        ran.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_logged_stamped_and_its_time_believed_by_who_believes_the_authority() {
    let authority = Authority::new(1);
    // The stack's directory does not exist yet, and the roots are read when the proxy starts.
    let roots = tempfile::tempdir().unwrap();
    let ours = roots.path().join("ours.pem");
    let other = roots.path().join("other.pem");
    write_root(&ours, &authority.root);
    write_root(&other, &Authority::new(2).root);
    let url = serve(authority).await;
    let shown = ours.display();
    let options = StackOptions {
        proxy_config: format!(
            "log_period_s: 10\ntime_authority: {{url: \"{url}\", roots: \"{shown}\"}}\n"
        ),
        ..StackOptions::default()
    };
    let Some(stack) = common::stack(options).await else {
        return;
    };
    scenario::open_channel(&stack, &mut Steps::quiet()).unwrap();
    let client = scenario::open_client(&stack).unwrap();
    let body = json!({"model": EMBEDDER, "input": "At the latest."});
    let answer = client.embeddings(&body).await.unwrap();
    let id = answer.payment.receipt.to_string();
    drop(client);

    let (begun, mut number, mut unstamped) = (Instant::now(), 0, None);
    let stamped = loop {
        number += 1;
        let file = format!("{number}.proof");
        let words = ["proof", &id, "--config", "client.yaml", "--out", &file];
        let made = chrysalis(&stack, &words);
        assert!(
            made.status.success(),
            "{}",
            String::from_utf8_lossy(&made.stderr)
        );
        let proof = Proof::decode(&std::fs::read(stack.path(&file)).unwrap()).unwrap();
        let log = proof.log.map(|log| wire::LogReceipt::decode(&log).unwrap());
        match log {
            Some(log) if log.timestamp.is_some() => break file,
            // Closed, and the authority is being asked; or not closed yet.
            _ => unstamped = Some(file),
        }
        assert!(begun.elapsed() < PATIENCE, "no stamped tree");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let [ours, other] = [&ours, &other].map(|path| path.to_str().unwrap());
    let (code, said) = verify(&stack, &stamped, &["--time-authority", ours]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("on 2027-01-02 at the latest"), "{said}");
    let (code, said) = verify(&stack, &stamped, &["--time-authority", other]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("does not lead to a root"), "{said}");
    let (code, said) = verify(&stack, &stamped, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no authority to believe was named"), "{said}");
    // Nobody is believed about a tree that nobody stamped.
    let unstamped = unstamped.expect("the tree was open when it was first asked for");
    let (code, said) = verify(&stack, &unstamped, &["--time-authority", ours]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing here is anchored"), "{said}");
}
