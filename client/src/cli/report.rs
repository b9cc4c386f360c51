//! `chrysalis report`: what a worker signed and should not have, to its stake.

use super::verify::{books, proof_in};
use crate::budget::Budget;
use crate::chain::{ReportPlan, endorsed_key, owned_channel, plan_report, send_report};
use crate::config::Config;
use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use settlement::{Nano, Offence, SignedCharge};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(super) struct ReportArguments {
    /// Two proofs or receipts with one number, of one key. None: what is in the books of this configuration.
    #[arg(num_args = 0..=2, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The configuration file; its `wallet_key_file` pays and gets the reporter's part.
    #[arg(long)]
    config: PathBuf,
    /// Say what would be reported, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn report(arguments: ReportArguments) -> anyhow::Result<()> {
    let config = Config::read(&arguments.config)?;
    let offences = match &arguments.files[..] {
        [] => from_books(&config).await?,
        [one, other] => vec![from_files(&config, one, other).await?],
        _ => anyhow::bail!("one charge is no contradiction: give the proofs of two, or none"),
    };
    if offences.is_empty() && !arguments.json {
        println!("nothing to report: no worker has signed what its stake is slashed for");
    }
    let (node, wallet) = (config.node()?, config.wallet()?);
    let (mut lines, mut failed) = (Vec::new(), None);
    for offence in &offences {
        let plan = match plan_report(&node, &wallet, offence).await {
            Ok(plan) => plan,
            Err(error) => {
                failed = Some(error.into());
                continue;
            }
        };
        if arguments.dry_run {
            lines.push(planned(offence, &plan, arguments.json));
            continue;
        }
        let (stake, before) = (plan.stake, plan.before.clone());
        match send_report(&node, &wallet, plan).await {
            Ok(after) => {
                let held = |bonded: Nano, unbonding: Nano| bonded.0.saturating_add(unbonding.0);
                let all = held(before.bonded, before.unbonding);
                let cut = Nano(all.saturating_sub(held(after.bonded, after.unbonding)));
                if !arguments.json {
                    println!(
                        "stake {stake} was cut by {}; a tenth is the reporter's",
                        cut.in_ton()
                    );
                }
                lines.push(json!({"stake": stake, "cut_nano": cut, "slashes": after.slashes}));
            }
            Err(error) => failed = Some(error.into()),
        }
    }
    if arguments.json {
        println!(
            "{}",
            json!({"dry_run": arguments.dry_run, "reports": lines})
        );
    }
    failed.map_or(Ok(()), Err)
}

fn planned(offence: &Offence, plan: &ReportPlan, json: bool) -> Value {
    let (stake, wallet, value) = (plan.stake, plan.wallet, plan.value);
    let (key, number) = (
        hex::encode(offence.receipt_key()),
        offence.charge().charge.seq,
    );
    let what = match offence {
        Offence::TwoCharges(..) => "two charges of one number",
        Offence::AboveCap(..) => "a charge that its payer did not allow",
    };
    if !json {
        println!(
            "would report {what} ({number}) of key {key} to stake {stake}\n\
             sends {} from wallet {wallet}; what is not used comes back\nnothing was sent",
            value.in_ton()
        );
    }
    json!({"offence": what, "receipt_key": key, "number": number, "stake": stake, "wallet": wallet, "sends_nano": value})
}

async fn from_books(config: &Config) -> anyhow::Result<Vec<Offence>> {
    let books = books(config)?;
    let mut offences = Vec::new();
    for kept in books.offences()? {
        let evidence = books.evidence(&kept.keyset)?;
        let evidence = evidence.context("the evidence of the offender's keyset is not on file")?;
        let key = endorsed_key(&evidence.bundle)?;
        offences.push(match kept.other {
            Some(other) => Offence::two_charges(key, kept.charge, other)?,
            None => above_cap(config, &books, key, kept.charge).await?,
        });
    }
    Ok(offences)
}

/// The channel's first terms are what the contract holds the cap against.
async fn above_cap(
    config: &Config,
    books: &Budget,
    key: settlement::EndorsedKey,
    charge: SignedCharge,
) -> anyhow::Result<Offence> {
    let payer_key = books.payer().verifying_key().to_bytes();
    let (node, channel) = (config.node()?, charge.charge.channel());
    let channel = owned_channel(&node, config.chain_id(), channel, &payer_key).await?;
    let terms = channel.state.terms(payer_key);
    Ok(Offence::above_cap(key, charge, terms)?)
}

async fn from_files(config: &Config, one: &Path, other: &Path) -> anyhow::Result<Offence> {
    let proof = proof_in(one, Some(config)).await?;
    let charge = |bytes: &[u8]| wire::Receipt::decode(bytes).map(|receipt| *receipt.charge());
    let first = charge(&proof.receipt)?;
    let second = charge(&proof_in(other, Some(config)).await?.receipt)?;
    Ok(Offence::two_charges(
        endorsed_key(&proof.bundle)?,
        first,
        second,
    )?)
}
