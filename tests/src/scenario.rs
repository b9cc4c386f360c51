//! One private answer, step by step, over a running [`Stack`].

use crate::report::{Report, Steps};
use crate::stack::{CHAT, EMBEDDER, seconds};
use crate::{Stack, Tamper};
use anyhow::{Context, ensure};
use client::{Client, Config, Endpoint, Job, Payment, Session, VerifiedAnswer};
use serde_json::{Value, json};
use settlement::{Address, Nano};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Two sentences that mean much the same, and one that does not.
const SENTENCES: [&str; 3] = [
    "The patient's blood pressure fell after the treatment.",
    "Following therapy, the sick man's arterial tension decreased.",
    "The orchestra tuned its violins before the concert.",
];
const QUESTION: &str = "What is a private key?";
/// What the developer locks in the channel.
const DEPOSIT_TON: &str = "2";

/// Runs all of it. With `tamper`, it ends with the error of whoever noticed.
pub async fn run(
    stack: &Stack,
    tamper: Option<Tamper>,
    steps: &mut Steps,
) -> anyhow::Result<Report> {
    let started = Instant::now();
    let channel = open_channel(stack, steps)?;
    let client = open_client(stack)?;
    let (session, attest_s) = attest(stack, &client, steps).await?;

    let body = json!({"model": EMBEDDER, "input": SENTENCES});
    let answer = job(&client, &session, Endpoint::Embeddings, body, tamper, steps).await?;
    let embeddings = compare(&answer.events)?;
    steps.done(
        "embeddings",
        format!(
            "{} numbers each; similar {:.3}, dissimilar {:.3}",
            embeddings.0, embeddings.1, embeddings.2
        ),
    );
    pay(&client, answer, steps).await?;

    let body = json!({"model": CHAT, "messages": [{"role": "user", "content": QUESTION}],
        "temperature": 0, "max_tokens": 64});
    let answer = job(&client, &session, Endpoint::Chat, body, tamper, steps).await?;
    let (text, first_token_s) = (answer.text.clone(), answer.first_token.as_secs_f64());
    let (core, receipt) = (answer.receipt().core(), answer.receipt().digest());
    let (tokens, timings) = (core.usage.completion, core.timings);
    // As the guest signed it: the first token is the prompt's.
    let decoded_ms = timings
        .total_ms
        .saturating_sub(timings.first_token_ms)
        .max(1);
    let speed = f64::from(tokens.saturating_sub(1)) * 1000.0 / f64::from(decoded_ms);
    let words = format!("{QUESTION} — {} ({speed:.1} tokens/s)", text.trim());
    steps.done("chat", words);
    let payment = pay(&client, answer, steps).await?;

    let payout = settle(stack, &channel, &payment, steps)?;
    Ok(Report(json!({
        "attestation": {
            "verified": true,
            "root": session.root().to_string(),
            "registers_match": session.worker().peer().registers == *stack.manifest.registers(),
        },
        "embeddings": {"dimensions": embeddings.0, "similar": embeddings.1, "dissimilar": embeddings.2},
        "chat": {"text": text, "tokens": tokens, "tokens_per_second": speed},
        "receipt": {"verified": true, "digest": receipt.to_string()},
        "payout": payout,
        "seconds": {"attest": attest_s, "first_token": first_token_s, "total": seconds(started)},
    })))
}

/// Opens the developer's channel by command, as a developer would.
pub fn open_channel(stack: &Stack, steps: &mut Steps) -> anyhow::Result<Address> {
    open_channel_with(stack, DEPOSIT_TON, steps)
}

/// The same with another deposit, in TON.
pub fn open_channel_with(
    stack: &Stack,
    deposit: &str,
    steps: &mut Steps,
) -> anyhow::Result<Address> {
    let mut command = Command::new(stack.program("chrysalis"));
    command
        .args([
            "channel",
            "open",
            "--json",
            "--deposit",
            deposit,
            "--config",
        ])
        .arg(stack.client_config());
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("starting chrysalis channel open")?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let opened: Value = serde_json::from_slice(&output.stdout)
        .context("reading what chrysalis channel open printed")?;
    let channel = opened["channel"]
        .as_str()
        .context("it names the channel")?
        .to_owned();
    steps.done(
        "channel",
        format!("{deposit} TON (simulated) locked in {channel}, contract run by the embedded TVM"),
    );
    channel.parse().context("it names the channel")
}

/// The client as `client` opens it, with the test root named.
pub fn open_client(stack: &Stack) -> anyhow::Result<Client> {
    let mut config = Config::read(&stack.client_config())?;
    let confirmed = config.confirm_test_root(Some(&stack.path("sim/root.der")))?;
    Ok(Client::open(config, confirmed)?)
}

async fn attest(
    stack: &Stack,
    client: &Client,
    steps: &mut Steps,
) -> anyhow::Result<(Session, f64)> {
    let begun = Instant::now();
    let session = client.attest().await?;
    let took = seconds(begun);
    let peer = session.worker().peer();
    let registers = stack.manifest.registers();
    ensure!(
        peer.registers == *registers,
        "the verified registers are not the manifest's"
    );
    steps.done(
        "attest",
        format!(
            "quote verified to the {} root, TCB {}; RTMR3 {}… is this agent and its configuration",
            peer.root,
            peer.tcb_status,
            &registers.rtmr[3].to_string()[..16]
        ),
    );
    Ok((session, took))
}

async fn job(
    client: &Client,
    session: &Session,
    endpoint: Endpoint,
    body: Value,
    tamper: Option<Tamper>,
    steps: &mut Steps,
) -> anyhow::Result<VerifiedAnswer> {
    let sealed = Job::prepare(session, endpoint, body)?.seal()?;
    steps.done(
        "seal",
        format!(
            "{} bytes sealed with X-Wing to the attested key, envelope signed",
            sealed.body.len()
        ),
    );
    let mut answering = sealed.send(client.proxy()).await?;
    while answering.next_event().await?.is_some() {}
    let mut answered = answering.finish().await?;
    if tamper == Some(Tamper::Receipt) {
        let middle = answered.receipt.len() / 2;
        answered.receipt[middle] ^= 0x01;
    }
    let answer = answered.verify(session)?;
    let core = answer.receipt().core();
    steps.done(
        "receipt",
        format!(
            "number {} verified: {} tokens recounted, cost {} at the attested prices",
            core.sequence,
            core.usage.prompt + core.usage.completion,
            core.cost.in_ton()
        ),
    );
    Ok(answer)
}

async fn pay(
    client: &Client,
    answer: VerifiedAnswer,
    steps: &mut Steps,
) -> anyhow::Result<Payment> {
    let payment = answer.pay(client.budget())?;
    client.deliver(&payment).await?;
    steps.done(
        "voucher",
        format!(
            "{} in all, on both disks before anything else",
            payment.cumulative.in_ton()
        ),
    );
    Ok(payment)
}

fn settle(
    stack: &Stack,
    channel: &Address,
    payment: &Payment,
    steps: &mut Steps,
) -> anyhow::Result<Value> {
    let settled = stack.settle(channel)?;
    let amount = |name: &str| -> anyhow::Result<Nano> {
        settled[name]
            .as_str()
            .and_then(|s| s.parse().ok())
            .with_context(|| format!("host-proxy payouts settle prints {name}"))
    };
    let (price, fee) = (amount("price_nano")?, amount("fee_nano")?);
    let paid = amount("paid_after_nano")?.0 - amount("paid_before_nano")?.0;
    ensure!(
        paid == price.0 && price == payment.cumulative,
        "the channel paid {paid}, the vouchers say {price:?}"
    );
    let (before, after) = (amount("wallet_before_nano")?, amount("wallet_after_nano")?);
    ensure!(
        i128::from(after.0) - i128::from(before.0) == i128::from(price.0) - i128::from(fee.0),
        "the wallet went from {before} to {after}, which is not {price} less {fee}"
    );
    let mut payout = settled;
    payout
        .as_object_mut()
        .context("host-proxy payouts settle prints an object")?
        .remove("channel");
    steps.done(
        "settle",
        format!(
            "channel paid {}, chain fee {} (simulated TON)",
            price.in_ton(),
            fee.in_ton()
        ),
    );
    Ok(payout)
}

/// The ids that a chat's messages become, in the bytes in which they are sealed and lie in memory. Whoever searches for a prompt
/// has to search for these: a guest holds no text.
pub fn prompt_ids(client: &Client, body: &Value) -> anyhow::Result<Vec<u8>> {
    let ask = client::openai::parse(Endpoint::Chat, body)?.ask;
    let model = client.models().get(ask.model()).context("it is listed")?;
    match model.encode(&ask, None, u32::MAX)? {
        wire::Ask::Chat(chat) => Ok(id_bytes(&chat.prompt)),
        wire::Ask::Embeddings(_) | wire::Ask::Rerank(_) => anyhow::bail!("a chat becomes a chat"),
    }
}

/// Ids in those bytes.
pub fn id_bytes(ids: &[u32]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Dimensions, the similarity of the similar pair, and of the dissimilar one. The vectors have length one.
fn compare(events: &[Value]) -> anyhow::Result<(usize, f64, f64)> {
    let data = events
        .first()
        .and_then(|event| event["data"].as_array())
        .context("an embeddings answer has data")?;
    let vector = |index: usize| -> anyhow::Result<Vec<f64>> {
        let numbers = data
            .get(index)
            .and_then(|d| d["embedding"].as_array())
            .context("an embedding is a list")?;
        numbers
            .iter()
            .map(|n| n.as_f64().context("of numbers"))
            .collect()
    };
    let (a, b, c) = (vector(0)?, vector(1)?, vector(2)?);
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let (similar, dissimilar) = (dot(&a, &b), dot(&a, &c));
    ensure!(
        similar > dissimilar,
        "the similar pair scores {similar}, the dissimilar one {dissimilar}"
    );
    Ok((a.len(), similar, dissimilar))
}
