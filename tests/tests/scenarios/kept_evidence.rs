//! Evidence that a developer's `chrysalis verify` kept is judged by somebody else, later and offline, with `measurements`.

use crate::common;
use client::Transport;
use client::transport::Ask;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use tests::report::Steps;
use tests::stack::CHAT;
use tests::{Stack, StackOptions, scenario};

/// Tokens of the chat model's context in a stack.
const CONTEXT: u64 = 256;

fn run(stack: &Stack, program: &str, words: &[&str]) -> Output {
    let mut command = Command::new(stack.program(program));
    let ran = command.args(words).current_dir(stack.dir.path()).output();
    ran.expect("the program starts")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_kept_is_verified_by_measurements_and_only_with_its_own_nonce() {
    let Some(stack) = common::stack(StackOptions::default()).await else {
        return;
    };
    let (url, root) = (format!("http://{}", stack.proxy), "sim/root.der");
    let words = ["verify", &url, "--manifest", "manifest.json", "--json"];
    let more = ["--insecure-test-root", root, "--bundle", "kept.json"];
    let verified = run(&stack, "chrysalis", &[&words[..], &more].concat());
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    let error = String::from_utf8_lossy(&verified.stderr);
    assert_eq!(verified.status.code(), Some(0), "{said}{error}");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let nonce = said["nonce"].as_str().expect("the nonce is printed");

    let manifest = ["--manifest", "manifest.json"];
    let (code, said) = judge(&stack, "kept.json", nonce, &manifest);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = judge(&stack, "kept.json", &"ab".repeat(32), &manifest);
    assert_eq!(code, Some(1), "another nonce: {said}");
    // Without a manifest of one's own nobody is verified.
    let (code, said) = judge(&stack, "kept.json", nonce, &[]);
    assert_eq!(code, Some(1), "no manifest: {said}");

    // What a running sidecar shows is the same kind of file.
    scenario::open_channel(&stack, &mut Steps::quiet()).expect("a channel");
    let sidecar = Sidecar::start(&stack);
    let shown = sidecar.get("/v1/attestation").await;
    let bundle = sidecar.get("/v1/attestation/bundle").await;
    std::fs::write(stack.path("shown.json"), bundle).expect("written");
    let shown: Value = serde_json::from_slice(&shown).expect("JSON");
    let nonce = shown["nonce"].as_str().expect("the nonce is shown");
    let (code, said) = judge(&stack, "shown.json", nonce, &manifest);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = judge(&stack, "shown.json", &"ab".repeat(32), &manifest);
    assert_eq!(code, Some(1), "another nonce: {said}");
    let receipt = a_maximum_beyond_the_context_is_clamped(&sidecar).await;
    let shown = sidecar.get(&format!("/v1/receipts/{receipt}")).await;
    drop(sidecar);
    a_receipt_outlives_guest_and_books(stack, &shown);
}

/// The guest is gone, the proxy was killed, and whoever has the receipt has no evidence: the proxy kept it.
fn a_receipt_outlives_guest_and_books(mut stack: Stack, receipt: &[u8]) {
    std::fs::write(stack.path("a.receipt"), receipt).expect("written");
    let config = std::fs::read_to_string(stack.client_config()).expect("it is there");
    let bare = config.replace("state: client.sqlite", "state: none.sqlite");
    std::fs::write(stack.path("bare.yaml"), bare).expect("written");
    stack.kill_proxy();
    stack.kill_guest();
    let root = ["--insecure-test-root", "sim/root.der"];
    let words = ["verify", "a.receipt", "--config", "bare.yaml"];
    let verify = |stack: &Stack, words: &[&str]| {
        let ran = run(stack, "chrysalis", &[words, &root].concat());
        let said = [ran.stdout, ran.stderr].concat();
        (
            ran.status.code(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    let (code, said) = verify(&stack, &words);
    assert_eq!(code, Some(1), "nobody has evidence: {said}");
    assert!(said.contains("no evidence of keyset"), "{said}");
    stack.start_proxy().expect("it starts without its guest");
    let (code, said) = verify(&stack, &[&words[..], &["--cmw", "kept.cmw"]].concat());
    assert_eq!(code, Some(0), "{said}");
    // What it kept is judged by somebody else, and counts for nothing under another manifest.
    let words = ["verify", "kept.cmw", "--manifest", "manifest.json"];
    let (code, said) = verify(&stack, &words);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("freshness: "), "{said}");
}

/// The guest's context is 256 tokens: what a prompt leaves of it is what an answer may have. Gives back the last receipt's id.
async fn a_maximum_beyond_the_context_is_clamped(sidecar: &Sidecar) -> String {
    let ask = async |content: String, most: u64| {
        let message = json!({"role": "user", "content": content});
        let body = json!({"model": CHAT, "messages": [message], "max_tokens": most});
        let answer = sidecar.post("/v1/chat/completions", &body).await;
        let tokens = answer["usage"]["prompt_tokens"].as_u64();
        (tokens.expect("a number"), answer)
    };
    let (prompt, _) = ask("a".into(), 1).await;
    let more = usize::try_from(CONTEXT - 8 - prompt).expect("a short prompt");
    let (prompt, answer) = ask(format!("a{}", " a".repeat(more)), 200_000).await;
    assert!((CONTEXT - 16..CONTEXT).contains(&prompt), "{answer}");
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
    assert_eq!(answer["usage"]["total_tokens"], CONTEXT, "{answer}");
    let id = answer["x_job"]["receipt_id"].as_str();
    id.expect("it has a receipt").to_owned()
}

/// The exit code of `measurements bundle verify`, and what it said.
fn judge(stack: &Stack, file: &str, nonce: &str, manifest: &[&str]) -> (Option<i32>, String) {
    let root = ["--root", "sim/root.der", "--json"];
    let words = ["bundle", "verify", "--bundle", file, "--nonce", nonce];
    let judged = run(
        stack,
        "measurements",
        &[&words, &root[..], manifest].concat(),
    );
    let said = String::from_utf8_lossy(&judged.stdout).into_owned();
    let error = String::from_utf8_lossy(&judged.stderr).into_owned();
    (judged.status.code(), format!("{said}{error}"))
}

/// `chrysalis serve` over a stack.
struct Sidecar {
    child: Child,
    transport: Transport,
}

impl Sidecar {
    fn start(stack: &Stack) -> Sidecar {
        let mut child = Command::new(stack.program("chrysalis"))
            .args(["serve", "--open", "--listen", "127.0.0.1:0"])
            .args(["--insecure-test-root", "sim/root.der"])
            .args(["--config", "client.yaml"])
            .current_dir(stack.dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sidecar starts");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        let read = BufReader::new(stdout).read_line(&mut url);
        read.expect("it says where it listens");
        let url = url.trim().strip_suffix("/v1").expect("an address");
        let transport = Transport::new(url).expect("an address");
        Sidecar { child, transport }
    }

    async fn ask(&self, method: &'static str, path: &str, body: Vec<u8>) -> Vec<u8> {
        let ask = Ask {
            method,
            path,
            content_type: "application/json",
            authorization: "",
            body,
        };
        let reply = self.transport.call(ask, 1 << 20).await.expect("it answers");
        let said = String::from_utf8_lossy(&reply.body);
        assert_eq!(reply.status, 200, "{path}: {said}");
        reply.body.to_vec()
    }

    async fn get(&self, path: &str) -> Vec<u8> {
        self.ask("GET", path, Vec::new()).await
    }

    async fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.ask("POST", path, body.to_string().into_bytes()).await;
        serde_json::from_slice(&answer).expect("JSON")
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
