//! A first call from Rust: attests the worker of a configuration, asks a question, shows the answer while it comes, and says what was
//! verified and paid.
//!
//! `cargo run -p client --example first_call -- client.yaml "Why is the sky blue?"`; a simulated worker needs its test root named as a
//! third argument, `root.der`. `chrysalis init` writes the configuration (docs/app-developers.md).

use anyhow::Context;
use client::{Client, Config};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("which configuration?")?;
    let question = arguments.next().context("which question?")?;
    ask(&path, &question, arguments.next(), &mut std::io::stdout()).await
}

/// What it says goes to `out`.
pub async fn ask(
    path: &str,
    question: &str,
    test_root: Option<String>,
    out: &mut (impl Write + Send),
) -> anyhow::Result<()> {
    let mut config = Config::read(Path::new(path))?;
    let confirmed = config.confirm_test_root(test_root.as_deref().map(Path::new))?;
    let model = { config.models.first() }
        .context("no model is allowed")?
        .id
        .clone();
    let client = Client::open(config, confirmed)?;

    let body = json!({"model": model, "messages": [{"role": "user", "content": question}]});
    // What is shown here is not verified yet.
    let mut show = |event: &Value| {
        let text = event["choices"][0]["delta"]["content"].as_str();
        let _ = write!(out, "{}", text.unwrap_or_default());
        let _ = out.flush();
    };
    let answer = client.chat(&body, &mut show).await?;
    // From here on it is: the receipt agrees with the answer, its tokens were counted, and the voucher is on disk.
    writeln!(
        out,
        "\n\nverified and paid: {} completion tokens, {} nanoTON, receipt {}",
        answer.usage.completion, answer.payment.cost, answer.payment.receipt
    )?;
    Ok(())
}
