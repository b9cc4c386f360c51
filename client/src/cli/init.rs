//! `chrysalis init`: a developer's directory, with keys, configuration, manifest and, where money is simulated, a channel.
//!
//! The worker is verified first, since its keyset names payee, chain and model roots. Then files are written, none over
//! another, and last comes the money. A directory without money is complete: `chrysalis channel open` goes on from there.

use super::Misuse;
use super::channel::print;
use crate::attestation::{Attestation, Verifier};
use crate::chain::{self, Opened};
use crate::config::{Config, read_file, read_key};
use crate::files::{new_key, private_directory, write_new};
use crate::limits::{REPLY_BYTES_MAX, SMALL_FILE_BYTES_MAX};
use crate::session::unix_s;
use crate::tokens::Models;
use crate::transport::{Ask, Transport};
use crate::trust::{Minimum, TrustStore};
use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use settlement::{Address, Nano};
use std::path::{Path, PathBuf};
use wire::{ModelOffer, Usage};

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The directory to make or to fill.
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// The provider's proxy, http://host:port or https://host.
    #[arg(long, value_name = "URL")]
    proxy: String,
    /// The manifest of expected registers: built by you, or fetched and checked with image-builder.
    #[arg(long, value_name = "FILE")]
    manifest: PathBuf,
    /// A model to allow, and the directory with its tokenizer.json. May be given again.
    #[arg(long = "model", value_name = "NAME=DIR", required = true, value_parser = named_directory)]
    models: Vec<(String, PathBuf)>,
    /// The TON node's toncenter API, https://host or http://host:port.
    #[arg(long, value_name = "URL")]
    toncenter: String,
    /// Where `serve` is to listen.
    #[arg(long, default_value = "127.0.0.1:10000")]
    listen: String,
    /// Trust this root (a DER file) instead of Intel's. For simulated machines: nothing under it is confidential.
    #[arg(long, value_name = "FILE")]
    insecure_test_root: Option<PathBuf>,
    /// Take simulated money from the embedded ledger's faucet and open the channel.
    #[arg(long, requires = "insecure_test_root")]
    simulate: bool,
    /// With --simulate: the channel's deposit, in TON [default: 1, or a hundred of the dearest jobs]
    #[arg(long, requires = "simulate", value_parser = Nano::from_ton)]
    deposit: Option<Nano>,
}

/// Everything that init writes, and what must not be there before.
const FILES: [&str; 5] = [
    "client.yaml",
    "payer.key",
    "wallet.key",
    "manifest.json",
    "root.der",
];
const CLOSE_DELAY_S: u32 = 3_600;
/// How long the payee may claim: a channel is opened anew after this.
const CLAIMS_S: u64 = 90 * 86_400;
/// What the wallet keeps for fees, besides the deposit.
const FEES: Nano = Nano(1_000_000_000);

/// `chrysalis init`
pub(super) async fn init(arguments: InitArguments) -> anyhow::Result<()> {
    let directory = &arguments.directory;
    refuse_existing(directory)?;
    let attestation = attested(&arguments).await?;
    let keyset = attestation.worker().keyset();
    if arguments.simulate && keyset.chain.is_live() {
        let chain = keyset.chain.0;
        let reason = format!(
            "--simulate: the worker settles on the live chain {chain}, which has no test funds"
        );
        return Err(Misuse(reason).into());
    }
    let offers = offers(&arguments, &attestation)?;
    let cost_max = dearest(&offers, keyset.price_step)?;
    let text = configuration(&arguments, &attestation, &offers, cost_max)?;
    // Before anything is written: what it says is read, and the models are there.
    let config = Config::parse(&text, directory)?;
    Models::load(&config.models)?;
    write(&arguments, &text)?;
    let config = Config::read(&directory.join("client.yaml"))?;
    let wallet = config.wallet()?.address();
    println!("{}", directory.join("client.yaml").display());
    eprintln!(
        "payee      {} on chain {}: the worker's keyset names it; ask your provider whether it is theirs",
        keyset.payee, keyset.chain
    );
    eprintln!("job limit  {} (cost_max_nano)", cost_max.in_ton());
    if !arguments.simulate {
        eprintln!(
            "wallet     {wallet}: fund it, then run\n  {}",
            open_command(directory)
        );
        return Ok(());
    }
    let least = Nano(cost_max.0.saturating_mul(100)).max(Nano::TON);
    let deposit = arguments.deposit.unwrap_or(least);
    let opened = simulated_money(&config, wallet, deposit).await;
    let opened = opened.with_context(|| {
        format!(
            "the directory is complete, but has no channel yet; go on with `{}`",
            open_command(directory)
        )
    })?;
    eprintln!("simulated money, worth nothing:");
    print(&opened.channel, false);
    Ok(())
}

fn open_command(directory: &Path) -> String {
    let config = directory.join("client.yaml");
    format!(
        "chrysalis channel open --config {} --deposit TON",
        config.display()
    )
}

fn refuse_existing(directory: &Path) -> anyhow::Result<()> {
    for name in FILES {
        let path = directory.join(name);
        // A dangling link is there, too.
        ensure!(
            path.symlink_metadata().is_err(),
            "{} exists, and init writes over nothing; name another directory",
            path.display()
        );
    }
    Ok(())
}

async fn attested(arguments: &InitArguments) -> anyhow::Result<Attestation> {
    let root = arguments.insecure_test_root.as_deref();
    let trust = TrustStore::default_path()?;
    let verifier = Verifier::open(&arguments.manifest, root, &trust, Minimum::default())?;
    let proxy = Transport::new(&arguments.proxy)?;
    let attested = crate::attestation::verify(&proxy, &verifier).await;
    attested.context("nothing was written: the worker is not what the manifest says")
}

/// The offers of the models that were named, in that order.
fn offers<'a>(
    arguments: &'a InitArguments,
    attestation: &'a Attestation,
) -> anyhow::Result<Vec<(&'a ModelOffer, PathBuf)>> {
    let keyset = attestation.worker().keyset();
    let offer = |(name, directory): &(String, PathBuf)| {
        let offer = keyset.model(name).with_context(|| {
            let names: Vec<&str> = keyset
                .models
                .iter()
                .map(|model| model.id.as_str())
                .collect();
            format!(
                "the worker has no model `{name}`; it has {}",
                names.join(", ")
            )
        })?;
        let absolute = std::path::absolute(directory).context("finding the model's directory")?;
        anyhow::Ok((offer, absolute))
    };
    arguments.models.iter().map(offer).collect()
}

/// More than any job with these models costs: the whole context as prompt and as completion, of the dearest one.
fn dearest(offers: &[(&ModelOffer, PathBuf)], step: Nano) -> anyhow::Result<Nano> {
    let costs = offers.iter().map(|(offer, _)| {
        let usage = Usage {
            prompt: offer.context_tokens,
            cached: 0,
            completion: offer.context_tokens,
        };
        offer.prices.cost(&usage, step)
    });
    let costs: Option<Vec<Nano>> = costs.collect();
    let dearest = costs.and_then(|costs| costs.into_iter().max());
    dearest.context("the worker's prices are beyond what can be counted")
}

/// The text of `client.yaml`. Texts in it are JSON's, which YAML reads alike.
fn configuration(
    arguments: &InitArguments,
    attestation: &Attestation,
    offers: &[(&ModelOffer, PathBuf)],
    cost_max: Nano,
) -> anyhow::Result<String> {
    let keyset = attestation.worker().keyset();
    let claims_until = u32::try_from(unix_s()? + CLAIMS_S).context("the clock is past 2106")?;
    let mut models = String::new();
    for (offer, directory) in offers {
        let directory = directory
            .to_str()
            .context("a model's directory is not UTF-8")?;
        let (id, root, dir) = (
            json!(offer.id),
            json!(offer.root.to_string()),
            json!(directory),
        );
        models += &format!("  - {{id: {id}, root: {root}, dir: {dir}}}\n");
    }
    let test_root = match arguments.insecure_test_root {
        None => "",
        Some(_) => {
            "\n# A test root instead of Intel's: nothing behind it is confidential. Each command must name it, too.\n\
             insecure_test_root: root.der\n"
        }
    };
    Ok(format!(
        "# The sidecar's configuration, by `chrysalis init`. Paths are relative to this file. Unknown keys are errors.\n\
         # client/example.yaml in the sources explains every key, also those that are not here.\n\n\
         # Where `chrysalis serve` offers its APIs, and the key that applications show; serve makes it.\n\
         listen: {listen}\napi_key_file: api.key\n\n\
         # The provider's proxy. It is not trusted: all that is private is sealed before it leaves.\n\
         proxy: {proxy}\n\n\
         # The TON node, and the chain that the worker settles on.\n\
         chain: {{toncenter: {toncenter}, id: {chain}}}\n\n\
         # payer.key signs jobs and vouchers; wallet.key only opens and closes the channel.\n\
         payer_key_file: payer.key\nwallet_key_file: wallet.key\n\n\
         # The channel follows from these terms. The worker's keyset named the payee: ask your provider whether it is theirs.\n\
         terms:\n  payee: {payee}\n  payee_key: {payee_key}\n  close_delay_s: {CLOSE_DELAY_S}\n  \
         # Unix seconds. After this no voucher can be claimed: open another channel before (another `salt`).\n  \
         claims_until: {claims_until}\n  salt: 0\n\n\
         # What the guest must measure to, whatever its provider says.\n\
         manifest: manifest.json\nprofile: {profile}\n\n\
         # Models that may be used, by root. The attested worker named these roots: compare them with your source.\n\
         models:\n{models}\n\
         # Vouchers and receipts. One sidecar at a time.\n\
         state: client.sqlite\n\n\
         # The most that one job may cost, in billionths of a TON: the dearest model's whole context.\n\
         cost_max_nano: {cost_max}\n\
         # The most that all jobs of a day (UTC) may cost together [default: what the deposit covers].\n\
         # day_max_nano: {day_max}\n{test_root}",
        listen = json!(arguments.listen),
        proxy = json!(arguments.proxy),
        toncenter = json!(arguments.toncenter),
        chain = keyset.chain.0,
        payee = json!(keyset.payee.to_string()),
        payee_key = json!(hex::encode(keyset.payee_key)),
        profile = json!(keyset.profile),
        day_max = cost_max.0.saturating_mul(20),
    ))
}

fn write(arguments: &InitArguments, text: &str) -> anyhow::Result<()> {
    let directory = &arguments.directory;
    if !directory.exists() {
        private_directory(directory)?;
    }
    let at = |name: &str| directory.join(name);
    let copy =
        |from: &Path, name: &str| write_new(&at(name), &read_file(from, SMALL_FILE_BYTES_MAX)?);
    copy(&arguments.manifest, "manifest.json")?;
    if let Some(root) = &arguments.insecure_test_root {
        copy(root, "root.der")?;
    }
    new_key(&at("payer.key"))?;
    new_key(&at("wallet.key"))?;
    // Last: with it the directory is complete.
    Ok(write_new(&at("client.yaml"), text.as_bytes())?)
}

/// Money out of nothing, and a channel for it.
async fn simulated_money(
    config: &Config,
    wallet: Address,
    deposit: Nano,
) -> anyhow::Result<Opened> {
    let node = config.node()?;
    let amount = deposit
        .checked_add(FEES)
        .context("the deposit is too large")?;
    let body = json!({"address": wallet.to_string(), "amount": amount.to_string()});
    let ask = Ask {
        method: "POST",
        path: "/faucet",
        content_type: "application/json",
        authorization: "",
        body: body.to_string().into_bytes(),
    };
    let reply = node
        .call(ask, REPLY_BYTES_MAX)
        .await
        .context("asking the embedded ledger for test funds")?;
    ensure!(
        reply.status == 200,
        "{} gave no test funds (status {}); only chrysalis-ledger has a faucet",
        config.chain.toncenter,
        reply.status
    );
    let payer_key = read_key(&config.payer_key_file)?.verifying_key().to_bytes();
    let terms = config
        .channel_terms(payer_key)?
        .context("init writes terms")?;
    Ok(chain::open_channel(&node, &config.wallet()?, &terms, deposit, unix_s()?).await?)
}

fn named_directory(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, directory)) if !name.is_empty() && !directory.is_empty() => {
            Ok((name.into(), directory.into()))
        }
        _ => Err("expected NAME=DIR, such as tiny-chat=model".into()),
    }
}
