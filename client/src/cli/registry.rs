//! The commands about the network's registry.

mod change;

use crate::chain::{RegistryContents, RegistryRule, read_registry};
use crate::config::Config;
use crate::trust::TrustStore;
use anyhow::Context;
use clap::Subcommand;
use serde_json::{Value, json};
use settlement::{Ceilings, Change, Entry, Listed, Revocable};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum RegistryCommand {
    /// Show what the registry of the configuration allows, has revoked and is about to change.
    #[command(
        after_help = "`chain.registry` in the configuration names it. A version below the highest that this machine has seen is \
        refused.\n\nExample:\n  chrysalis registry show --config client.yaml"
    )]
    Show {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Forget the highest version that this machine has seen, after a node lied that there is a higher one than there is.
    #[command(
        after_help = "Ask a second node what the version is first, and write that one as `chain.registry_version_min` into the\n\
        configuration: until this machine has read the registry again, nothing else keeps a node from showing an old state,\n\
        in which what was revoked since is allowed.\n\nExample:\n  chrysalis registry forget --config client.yaml --dry-run"
    )]
    Forget {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Say what would be forgotten, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Propose a change, from the admin's wallet. It can be executed after the registry's delay.
    #[command(
        after_help = "Example:\n  chrysalis registry propose image:DIGEST:1893456000 --config admin.yaml --dry-run"
    )]
    Propose(change::ProposeArguments),
    /// Let a proposal take effect, from any wallet, after the delay and no later than 30 days after that.
    Execute(change::ExecuteArguments),
    /// Cancel a proposal, from the admin's or the guardian's wallet.
    Cancel(change::KeyArguments),
    /// Revoke an image, a platform or a GPU at once, from the admin's or the guardian's wallet.
    #[command(
        after_help = "Example:\n  chrysalis registry revoke platform:PPID --reason 1 --config guardian.yaml --dry-run"
    )]
    Revoke(change::RevokeArguments),
    /// Remove an entry, shorten an image's time, or lower ceilings or the fee at once, from the admin's or the guardian's wallet.
    Tighten(change::TightenArguments),
}

pub(super) async fn run(given: RegistryCommand) -> anyhow::Result<()> {
    match given {
        RegistryCommand::Show { config, json } => show(&Config::read(&config)?, json).await,
        RegistryCommand::Forget {
            config,
            dry_run,
            json,
        } => forget(&Config::read(&config)?, dry_run, json),
        RegistryCommand::Propose(arguments) => change::propose(arguments).await,
        RegistryCommand::Execute(arguments) => change::execute(arguments).await,
        RegistryCommand::Cancel(arguments) => change::cancel(arguments).await,
        RegistryCommand::Revoke(arguments) => change::revoke(arguments).await,
        RegistryCommand::Tighten(arguments) => change::tighten(arguments).await,
    }
}

async fn show(config: &Config, json: bool) -> anyhow::Result<()> {
    let rule = rule(config)?;
    let contents = read_registry(&config.node()?, &rule, &trust(config)?).await?;
    match json {
        true => println!("{}", object(&rule, &contents)),
        false => print(&rule, &contents),
    }
    Ok(())
}

fn forget(config: &Config, dry_run: bool, json: bool) -> anyhow::Result<()> {
    let (rule, trust) = (rule(config)?, trust(config)?);
    let (registry, floor) = (rule.address, rule.version_min);
    let version = trust.registry_version(&registry)?;
    if !dry_run {
        trust.forget_registry(&registry)?;
    }
    eprintln!(
        "From {floor} on, as configured, any version is accepted until this machine has read the registry again."
    );
    if json {
        let forgotten = json!({"dry_run": dry_run, "registry": registry, "version": version, "version_min": floor});
        println!("{forgotten}");
        return Ok(());
    }
    match (version, dry_run) {
        (0, _) => println!("no version of registry {registry} was seen; nothing to forget"),
        (_, true) => println!("would forget version {version} of registry {registry}"),
        (_, false) => println!("version {version} of registry {registry} is forgotten"),
    }
    Ok(())
}

fn trust(config: &Config) -> anyhow::Result<TrustStore> {
    let path = config.trust.clone();
    let path = path.map_or_else(TrustStore::default_path, Ok)?;
    Ok(TrustStore::open(&path)?)
}

fn rule(config: &Config) -> anyhow::Result<RegistryRule> {
    let rule = config.registry();
    rule.context("the configuration names no registry: give `chain.registry`")
}

fn print(rule: &RegistryRule, contents: &RegistryContents) {
    let (state, age_s) = (&contents.state, contents.age_s);
    println!("registry      {}", rule.address);
    println!("chain         {}", state.terms.chain);
    println!("version       {}, as of {age_s} s ago", state.version);
    println!("admin         {}", state.terms.admin);
    println!("guardian      {}", state.terms.guardian);
    println!("delay         {} s", state.terms.delay_s);
    println!("network fee   {} basis points", state.fee_bps);
    for (_, listed) in &contents.listed {
        println!("{}", sentence(listed));
    }
}

fn sentence(listed: &Listed) -> String {
    match listed {
        Listed::Entry(entry) => allowed(entry),
        Listed::Revocation { what, at, reason } => {
            let what = revocable(what);
            format!("revoked       {what} at {at} (Unix seconds), reason {reason}")
        }
        Listed::Proposal {
            change,
            executable_at,
        } => {
            let change = proposed(change);
            format!("proposed      {change}, from {executable_at} (Unix seconds) on")
        }
        Listed::Unreadable(why) => format!("unreadable    {why}"),
    }
}

fn allowed(entry: &Entry) -> String {
    match entry {
        Entry::Image { digest, not_after } => {
            let digest = hex::encode(digest);
            format!("image         {digest} until {not_after} (Unix seconds)")
        }
        Entry::Model { root, ceilings } => {
            let [prompt, cached, completion, reasoning] = amounts(ceilings);
            let root = hex::encode(root);
            format!(
                "model         {root}: at most {prompt} nanoTON for a million prompt tokens, {cached} cached, {completion} \
                 completion, {reasoning} reasoning"
            )
        }
        Entry::Proxy {
            key,
            region,
            endpoint,
        } => {
            let (key, region) = (hex::encode(key), String::from_utf8_lossy(region));
            format!("proxy         {endpoint} in {region}, payee's key {key}")
        }
    }
}

fn amounts(ceilings: &Ceilings) -> [u64; 4] {
    let Ceilings {
        prompt,
        cached,
        completion,
        reasoning,
    } = ceilings;
    [prompt, cached, completion, reasoning].map(|amount| amount.0)
}

fn revocable(what: &Revocable) -> String {
    match what {
        Revocable::Image(digest) => format!("image {}", hex::encode(digest)),
        Revocable::Platform(ppid) => format!("platform {}", hex::encode(&ppid[16..])),
        Revocable::Gpu(digest) => format!("GPU {}", hex::encode(digest)),
    }
}

fn proposed(change: &Change) -> String {
    match change {
        Change::Allow(entry) => {
            let words = allowed(entry);
            words.split_whitespace().collect::<Vec<_>>().join(" ")
        }
        Change::Restore(what) => format!("end of the revocation of {}", revocable(what)),
        Change::Fee(fee) => format!("network fee {fee} basis points"),
        Change::Admin(account) => format!("admin {account}"),
        Change::Guardian(account) => format!("guardian {account}"),
        Change::Code(hash) => format!("code {}", hex::encode(hash)),
    }
}

fn object(rule: &RegistryRule, contents: &RegistryContents) -> Value {
    let (state, terms) = (&contents.state, &contents.state.terms);
    let listed = contents
        .listed
        .iter()
        .map(|(_, listed)| listed_object(listed));
    json!({
        "registry": rule.address, "chain": terms.chain, "version": state.version, "age_s": contents.age_s,
        "admin": terms.admin, "guardian": terms.guardian, "delay_s": terms.delay_s, "fee_bps": state.fee_bps,
        "listed": listed.collect::<Vec<_>>(),
    })
}

fn listed_object(listed: &Listed) -> Value {
    match listed {
        Listed::Entry(entry) => entry_object(entry),
        Listed::Revocation { what, at, reason } => {
            json!({"revoked": revocable(what), "at": at, "reason": reason})
        }
        Listed::Proposal {
            change,
            executable_at,
        } => json!({"proposed": proposed(change), "executable_at": executable_at}),
        Listed::Unreadable(why) => json!({"unreadable": why.to_string()}),
    }
}

fn entry_object(entry: &Entry) -> Value {
    match entry {
        Entry::Image { digest, not_after } => {
            json!({"image": hex::encode(digest), "not_after": not_after})
        }
        Entry::Model { root, ceilings } => {
            let [prompt, cached, completion, reasoning] = amounts(ceilings);
            json!({
                "model": hex::encode(root),
                "ceilings_nano": {"prompt": prompt, "cached": cached, "completion": completion, "reasoning": reasoning},
            })
        }
        Entry::Proxy {
            key,
            region,
            endpoint,
        } => json!({
            "proxy": endpoint, "region": String::from_utf8_lossy(region), "payee_key": hex::encode(key),
        }),
    }
}
