//! A worker signs what it should not: its answer is refused, and its stake is cut by a report of the client.

use crate::developer::chrysalis;
use crate::registry::Chain;
use crate::world::{Fault, World, chat_body};
use client::{Client, Transport};
use serde_json::Value;
use settlement::{ChainId, Nano, StakeState, StakeTerms};

const STAKED: u64 = 10_000_000_000;

/// A world whose worker has a stake on a ledger, and `client.yaml` with a wallet that may report.
async fn staked() -> (World, Chain, StakeTerms) {
    let world = World::start(3600).await;
    let chain = Chain::of(&world).await;
    let mut terms = StakeTerms {
        chain: ChainId::EMBEDDED,
        owner: chain.wallet.address(),
        owner_key: [0; 32],
        unbond_delay_s: 7 * 86_400,
        slashable_until: chain.ledger.now() + 365 * 86_400,
        salt: 0,
    };
    let change = |keyset: &mut wire::Keyset| {
        terms.owner_key = keyset.payee_key;
        keyset.stake = terms.address();
    };
    let world = world.beside(change).await;
    let channel = world.guest.terms().deploy(Nano(1_000_000_000), 1);
    for transfer in [channel, terms.deposit(Nano(STAKED), 1)] {
        chain.send(transfer.expect("an amount"));
    }
    let directory = world.directory.path();
    let node = format!("\"toncenter\":\"{}\"", world.address);
    let ledger = format!("\"toncenter\":\"{}\"", chain.node);
    let text = world.config_text().replace(&node, &ledger);
    let text = text.replacen('{', "{\"wallet_key_file\":\"wallet.key\",", 1);
    std::fs::write(directory.join("client.yaml"), text).expect("written");
    let key = directory.join("wallet.key");
    std::fs::write(&key, hex::encode([5; 32])).expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&key, private).expect("set");
    (world, chain, terms)
}

fn state(chain: &Chain, terms: &StakeTerms) -> StakeState {
    let answer = chain
        .ledger
        .run_get_method(&terms.address(), StakeState::GET_METHOD, &[]);
    StakeState::parse(&answer.expect("a stake").stack).expect("its state")
}

fn client(world: &World, chain: &Chain) -> Client {
    let client = world.client().expect("a client");
    let [proxy, node] = [&world.address, &chain.node].map(|url| Transport::new(url));
    client.through(proxy.expect("a url"), node.expect("a url"))
}

async fn report(world: &World, more: &[&str]) -> (Option<i32>, Value) {
    let arguments = ["report", "--config", "client.yaml", "--json"];
    let ran = chrysalis(world.directory.path(), &[&arguments, more].concat(), "").await;
    let first = ran.out.lines().next().unwrap_or_default();
    let said = serde_json::from_str(first).unwrap_or_else(|_| panic!("{} {}", ran.out, ran.err));
    (ran.code, said)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_should_not_sign_cuts_its_stake() {
    for (fault, what) in [
        (Fault::Repeats, "two charges of one number"),
        (Fault::OtherCharge, "two charges of one number"),
        (Fault::AboveCap, "a charge that its payer did not allow"),
    ] {
        let (world, chain, terms) = staked().await;
        let client = client(&world, &chain);
        let ask = async || client.chat(&chat_body(false), &mut |_| ()).await;
        ask().await.expect("an honest answer");
        assert_eq!(client.budget().offences(), Ok(Vec::new()));
        world.set(fault);
        ask().await.expect_err("refused");
        drop(client);
        let (code, dry) = report(&world, &["--dry-run"]).await;
        assert_eq!(
            (code, &dry["reports"][0]["offence"]),
            (Some(0), &what.into()),
            "{dry}"
        );
        assert_eq!(state(&chain, &terms).slashes, 0, "a dry run sends nothing");
        let (code, sent) = report(&world, &[]).await;
        assert_eq!(
            (code, &sent["reports"][0]["slashes"]),
            (Some(0), &1.into()),
            "{sent}"
        );
        let after = state(&chain, &terms);
        assert_eq!(
            (after.bonded.0, after.slashes),
            (STAKED * 7 / 10, 1),
            "{fault:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_worker_is_not_reported() {
    let (world, chain, _) = staked().await;
    let client = client(&world, &chain);
    for fault in [
        Fault::None,
        Fault::FlipCharge,
        Fault::FlipAnswer,
        Fault::Forgets,
    ] {
        world.set(fault);
        let _ = client.chat(&chat_body(false), &mut |_| ()).await;
    }
    drop(client);
    let (code, said) = report(&world, &[]).await;
    assert_eq!(
        (code, &said["reports"]),
        (Some(0), &Value::Array(Vec::new())),
        "{said}"
    );
}
