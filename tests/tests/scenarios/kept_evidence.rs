//! Evidence that a developer's `chrysalis verify` kept is judged by somebody else, later and offline, with `measurements`.

use crate::common;
use serde_json::Value;
use std::process::{Command, Output};
use tests::{Stack, StackOptions};

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

    let judge = |nonce: &str, manifest: &[&str]| {
        let words = ["bundle", "verify", "--bundle", "kept.json", "--root", root];
        let words = [&words[..], &["--json", "--nonce", nonce], manifest].concat();
        let judged = run(&stack, "measurements", &words);
        let said = String::from_utf8_lossy(&judged.stdout).into_owned();
        let error = String::from_utf8_lossy(&judged.stderr).into_owned();
        (judged.status.code(), format!("{said}{error}"))
    };
    let manifest = ["--manifest", "manifest.json"];
    let (code, said) = judge(nonce, &manifest);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = judge(&"ab".repeat(32), &manifest);
    assert_eq!(code, Some(1), "another nonce: {said}");
    // Without a manifest of one's own nobody is verified.
    let (code, said) = judge(nonce, &[]);
    assert_eq!(code, Some(1), "no manifest: {said}");
}
