//! `host-proxy stake`.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_stake_is_named_deployed_shown_and_asked_back() {
    let provider = provider().await;
    let refused = provider.run(&["stake", "status"]).await;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && said.contains("names no `stake`"),
        "{said}"
    );
    let until = (provider.ledger.now() + 365 * 86_400).to_string();
    let terms = ["--unbond-days", "7", "--slashable-until", &until];
    let deposit = ["stake", "deposit", "--json", "--amount", "2"];
    let deposit = [&deposit[..], &terms].concat();
    let dry_run = [&deposit[..], &["--dry-run"]].concat();
    let dry = provider.json(&dry_run).await;
    let stake = dry["stake"].as_str().expect("an address").to_owned();
    let refused = provider.run(&deposit).await;
    assert!(!refused.status.success(), "no configuration names it");
    let path = provider.directory.path().join("host-proxy.yaml");
    let config = std::fs::read_to_string(&path).expect("read");
    std::fs::write(&path, format!("{config}\nstake: \"{stake}\"\n")).expect("written");
    let dry = provider.json(&dry_run).await;
    assert_eq!(
        (&dry["deploys"], nano(&dry, "amount_nano")),
        (&Value::Bool(true), 2_000_000_000)
    );
    let status = provider.json(&["stake", "status", "--json"]).await;
    assert_eq!(status["state"], Value::Null, "a dry run sends nothing");
    let done = provider.json(&deposit).await;
    assert_eq!(nano(&done["state"], "bonded_nano"), 2_000_000_000);
    let unbond = ["stake", "unbond", "--json", "--amount", "0.5"];
    let done = provider.json(&unbond).await;
    assert_eq!(nano(&done["state"], "unbonding_nano"), 500_000_000);
    let early = provider.run(&["stake", "withdraw", "--json"]).await;
    let said: Value = serde_json::from_slice(&early.stdout).expect("JSON");
    assert!(
        said["error"]
            .as_str()
            .is_some_and(|why| why.contains("can leave at")),
        "{said}"
    );
    let csv = provider.run(&["earnings", "--csv"]).await;
    let csv = String::from_utf8_lossy(&csv.stdout).into_owned();
    assert!(
        csv.contains("stake_deposit,") && !csv.contains("unbond"),
        "{csv}"
    );
}
