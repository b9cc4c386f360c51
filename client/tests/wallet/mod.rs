//! `chrysalis wallet`, run as a developer runs it, on a ledger.

use ledger::Ledger;
use serde_json::Value;
use settlement::{Address, Nano};
use std::path::Path;
use std::process::Output;
use tokio::net::TcpListener;
use tokio::process::Command;

async fn run(config: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chrysalis"));
    command.args(arguments).arg("--config").arg(config);
    command.output().await.expect("the program runs")
}

async fn json(config: &Path, arguments: &[&str]) -> Value {
    let output = run(config, &[arguments, &["--json"]].concat()).await;
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_is_made_funded_shown_and_listed() {
    let ledger = Ledger::in_memory().expect("a ledger");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let node = listener.local_addr().expect("bound");
    tokio::spawn(ledger::serve(ledger.clone(), listener));
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("client.yaml");
    let example = include_str!("../../example.yaml");
    assert!(example.contains("http://127.0.0.1:8081"));
    let text = example.replace("127.0.0.1:8081", &node.to_string());
    std::fs::write(&config, text).expect("written");

    let made = json(&config, &["wallet", "create"]).await;
    let wallet: Address = made["wallet"]
        .as_str()
        .expect("text")
        .parse()
        .expect("an address");
    let again = json(&config, &["wallet", "create"]).await;
    assert_eq!(made, again, "keys that are there are left alone");
    let fund = json(&config, &["wallet", "fund", "--amount", "0.5"]).await;
    let link = format!(
        "ton://transfer/{}?amount=500000000",
        wallet.friendly_unbounceable()
    );
    assert_eq!(fund["link"], link);
    ledger.faucet(&wallet, Nano(2_000_000_000)).expect("money");
    let before = json(&config, &["wallet", "balance"]).await;
    assert_eq!(before["wallet_nano"], "2000000000");
    assert_eq!(before["deposit_nano"], Value::Null);
    // A channel that is not there is opened by the link, one that is there topped up.
    let into = ["wallet", "fund", "--channel", "--amount", "0.5"];
    let opens = json(&config, &into).await;
    assert!(opens["ton_connect"]["messages"][0]["stateInit"].is_string());
    let opened = run(&config, &["channel", "open", "--deposit", "1"]).await;
    assert!(opened.status.success(), "{opened:?}");
    let tops_up = json(&config, &into).await;
    assert_eq!(
        tops_up["ton_connect"]["messages"][0]["stateInit"],
        Value::Null
    );
    assert_eq!(tops_up["ton_connect"]["messages"][0]["amount"], "580000000");
    let after = json(&config, &["wallet", "balance"]).await;
    assert_eq!(after["left_nano"], "1000000000");
    assert_eq!(
        after["jobs_left"],
        Value::Null,
        "no job has cost anything yet"
    );
    let csv = run(&config, &["wallet", "history", "--csv"]).await.stdout;
    let csv = String::from_utf8(csv).expect("text");
    let columns = |line: &str| line.split(',').count();
    let lines: Vec<&str> = csv.lines().collect();
    assert!(lines.len() >= 3, "{csv}");
    assert!(
        lines.iter().all(|line| columns(line) == columns(lines[0])),
        "{csv}"
    );
    assert!(csv.contains(",2000000000,2.000000000,"), "{csv}");
    let misuse = run(&config, &["wallet", "fund", "--amount", "much"]).await;
    assert_eq!(misuse.status.code(), Some(2));
}
