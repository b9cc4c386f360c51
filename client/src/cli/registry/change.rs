//! How a change to the registry is written on the command line, and how it is carried out.

use crate::chain::{ChangePlan, Role, plan_change, send_change};
use crate::cli::channel::OrderArguments;
use crate::config::{Config, read_file};
use anyhow::Context;
use clap::Args;
use serde_json::json;
use settlement::{
    Address, Ceilings, Change, Entry, EntryName, Nano, Registry, RegistryKey, Revocable,
    Tightening, Transfer,
};
use std::path::PathBuf;
use std::str::FromStr;

/// Bytes of a contract's code that are read from a file.
const CODE_BYTES_MAX: u64 = 65_536;

#[derive(Debug, Args)]
pub(in crate::cli) struct ProposeArguments {
    #[command(flatten)]
    order: OrderArguments,
    /// image:DIGEST:NOT_AFTER, model:ROOT:PROMPT:CACHED:COMPLETION:REASONING, proxy:KEY:REGION:URL, restore:WHAT, fee:BASIS_POINTS,
    /// admin:ADDRESS, guardian:ADDRESS or code:HASH. Ceilings are nanoTON for a million tokens, moments Unix seconds.
    #[arg(value_parser = change)]
    change: Change,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct KeyArguments {
    #[command(flatten)]
    order: OrderArguments,
    /// image:DIGEST, model:ROOT, proxy:KEY, restore:WHAT, fee, admin, guardian or code.
    #[arg(value_parser = key)]
    proposal: RegistryKey,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ExecuteArguments {
    #[command(flatten)]
    proposal: KeyArguments,
    /// The file with the proposed code, a bag of cells.
    #[arg(long, value_name = "FILE")]
    code: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RevokeArguments {
    #[command(flatten)]
    order: OrderArguments,
    /// image:DIGEST, platform:PPID or gpu:DIGEST.
    #[arg(value_parser = revocable)]
    what: Revocable,
    /// A number that says why; your users know what it stands for.
    #[arg(long, default_value_t = 0)]
    reason: u8,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct TightenArguments {
    #[command(flatten)]
    order: OrderArguments,
    /// image:DIGEST, model:ROOT or proxy:KEY to remove it; image:DIGEST:NOT_AFTER, model:ROOT and four ceilings, or fee:BASIS_POINTS
    /// to lower it.
    #[arg(value_parser = tightening)]
    what: Tightening,
}

pub(super) async fn propose(arguments: ProposeArguments) -> anyhow::Result<()> {
    let ProposeArguments { order, change } = arguments;
    let make = |registry: Registry, query_id| Ok(registry.propose(&change, query_id));
    carry_out(&order, Role::Admin, make).await
}

pub(super) async fn execute(arguments: ExecuteArguments) -> anyhow::Result<()> {
    let KeyArguments { order, proposal } = arguments.proposal;
    let code = arguments.code.as_deref();
    let code = code.map(|path| read_file(path, CODE_BYTES_MAX)).transpose();
    let code = code?;
    let make = |registry: Registry, query_id| match &code {
        None => Ok(registry.execute(&proposal, query_id)),
        Some(code) => {
            let transfer = registry.execute_code(code, query_id);
            transfer.context("the file of --code is not a bag of cells with one root")
        }
    };
    carry_out(&order, Role::Anyone, make).await
}

pub(super) async fn cancel(arguments: KeyArguments) -> anyhow::Result<()> {
    let KeyArguments { order, proposal } = arguments;
    let make = |registry: Registry, query_id| Ok(registry.cancel(&proposal, query_id));
    carry_out(&order, Role::Either, make).await
}

pub(super) async fn revoke(arguments: RevokeArguments) -> anyhow::Result<()> {
    let RevokeArguments {
        order,
        what,
        reason,
    } = arguments;
    let revoke = Tightening::Revoke(what, reason);
    let make = |registry: Registry, query_id| Ok(registry.tighten(&revoke, query_id));
    carry_out(&order, Role::Either, make).await
}

pub(super) async fn tighten(arguments: TightenArguments) -> anyhow::Result<()> {
    let TightenArguments { order, what } = arguments;
    let make = |registry: Registry, query_id| Ok(registry.tighten(&what, query_id));
    carry_out(&order, Role::Either, make).await
}

/// Sends a change, or says what it would be.
async fn carry_out(
    order: &OrderArguments,
    role: Role,
    make: impl FnOnce(Registry, u64) -> anyhow::Result<Transfer>,
) -> anyhow::Result<()> {
    let config = Config::read(&order.config)?;
    let rule = super::rule(&config)?;
    let (node, wallet) = (config.node()?, config.wallet()?);
    let transfer = make(Registry(rule.address), crate::session::unix_s()?)?;
    let plan = plan_change(&node, &wallet, &rule, role, transfer).await?;
    if order.dry_run {
        print_plan(&rule.address, &plan, order.json);
        return Ok(());
    }
    let version = send_change(&node, &wallet, plan).await?;
    match order.json {
        true => println!("{}", json!({"registry": rule.address, "version": version})),
        false => println!("registry {} has version {version}", rule.address),
    }
    Ok(())
}

fn print_plan(registry: &Address, plan: &ChangePlan, json: bool) {
    let (wallet, holds, sends) = (plan.wallet, plan.balance, plan.value);
    let version = plan.before.version;
    if json {
        println!(
            "{}",
            json!({
                "dry_run": true, "registry": registry, "version": version, "wallet": wallet, "wallet_holds_nano": holds,
                "sends_nano": sends, "valid_until": plan.valid_until,
            })
        );
        return;
    }
    println!("would change registry {registry}, now of version {version}");
    println!(
        "wallet        {wallet}, holds {} ({holds} nanoTON)",
        holds.in_ton()
    );
    println!(
        "sends         {} ({sends} nanoTON); what is not used comes back",
        sends.in_ton()
    );
    println!("nothing was sent");
}

fn change(text: &str) -> Result<Change, String> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    let change = match kind {
        "restore" => Change::Restore(revocable(rest)?),
        "fee" => Change::Fee(number(rest)?),
        "admin" => Change::Admin(Address::from_any(rest).map_err(|e| e.to_string())?),
        "guardian" => Change::Guardian(Address::from_any(rest).map_err(|e| e.to_string())?),
        "code" => Change::Code(id(rest)?),
        _ => Change::Allow(entry(text)?),
    };
    change.check().map_err(|e| e.to_string())?;
    Ok(change)
}

fn entry(text: &str) -> Result<Entry, String> {
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let entry = match parts[..] {
        ["image", digest, not_after] => Entry::Image {
            digest: id(digest)?,
            not_after: number(not_after)?,
        },
        ["model", root, prompt, rest] => {
            let [cached, completion, reasoning] = rest.split(':').collect::<Vec<_>>()[..] else {
                return Err("a model has four ceilings".into());
            };
            let root = id(root)?;
            let ceilings = Ceilings {
                prompt: Nano(number(prompt)?),
                cached: Nano(number(cached)?),
                completion: Nano(number(completion)?),
                reasoning: Nano(number(reasoning)?),
            };
            Entry::Model { root, ceilings }
        }
        ["proxy", key, region, endpoint] => Entry::Proxy {
            key: id(key)?,
            region: { region.as_bytes().try_into() }
                .map_err(|_| "a region is two capital letters")?,
            endpoint: endpoint.into(),
        },
        _ => return Err(format!("`{text}` is no entry")),
    };
    entry.check().map_err(|e| e.to_string())?;
    Ok(entry)
}

fn name(text: &str) -> Result<EntryName, String> {
    match text.split_once(':') {
        Some(("image", digest)) => Ok(EntryName::Image(id(digest)?)),
        Some(("model", root)) => Ok(EntryName::Model(id(root)?)),
        Some(("proxy", key)) => Ok(EntryName::Proxy(id(key)?)),
        _ => Err(format!("`{text}` names no entry")),
    }
}

fn revocable(text: &str) -> Result<Revocable, String> {
    match text.split_once(':') {
        Some(("image", digest)) => Ok(Revocable::Image(id(digest)?)),
        Some(("gpu", digest)) => Ok(Revocable::Gpu(id(digest)?)),
        Some(("platform", ppid)) => {
            let ppid = hex::decode(ppid).ok();
            ppid.and_then(|ppid| Revocable::platform(&ppid))
                .ok_or_else(|| "a PPID has 32 hexadecimal digits".into())
        }
        _ => Err(format!("`{text}` is nothing that can be revoked")),
    }
}

fn key(text: &str) -> Result<RegistryKey, String> {
    let nobody = Address {
        workchain: 0,
        hash: [0; 32],
    };
    match text {
        "fee" => Ok(Change::Fee(0).key()),
        "admin" => Ok(Change::Admin(nobody).key()),
        "guardian" => Ok(Change::Guardian(nobody).key()),
        "code" => Ok(Change::Code([0; 32]).key()),
        _ => match text.split_once(':') {
            Some(("restore", what)) => Ok(revocable(what)?.into()),
            _ => Ok(name(text)?.into()),
        },
    }
}

fn tightening(text: &str) -> Result<Tightening, String> {
    if let Some(fee) = text.strip_prefix("fee:") {
        return Ok(Tightening::Fee(number(fee)?));
    }
    match text.matches(':').count() {
        1 => Ok(Tightening::Remove(name(text)?)),
        _ => Ok(Tightening::Limit(entry(text)?)),
    }
}

fn id(text: &str) -> Result<[u8; 32], String> {
    let mut id = [0; 32];
    hex::decode_to_slice(text, &mut id)
        .map_err(|_| format!("`{text}` is not 64 hexadecimal digits"))?;
    Ok(id)
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    let number = text.parse();
    number.map_err(|_| format!("`{text}` is not a whole number in its range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_written_and_nearby_texts_are_refused() {
        let digest = "07".repeat(32);
        let image = |end: &str| change(&format!("image:{digest}{end}"));
        let allowed = Change::Allow(Entry::Image {
            digest: [7; 32],
            not_after: 9,
        });
        assert_eq!(image(":9"), Ok(allowed.clone()));
        assert_eq!(key(&format!("image:{digest}")), Ok(allowed.key()));
        for end in ["", ":", ":9:9", ":4294967296", ":-1"] {
            assert!(image(end).is_err(), "{end}");
        }
        let model = |end: &str| change(&format!("model:{digest}{end}"));
        assert!(model(":1:2:3:4").is_ok());
        assert!(model(":1:2:3").is_err() && model(":1:2:3:4:5").is_err());
        let proxy = |end: &str| change(&format!("proxy:{digest}{end}"));
        assert!(proxy(":DE:https://proxy.example:9000").is_ok());
        for end in [":de:http://a", ":DEU:http://a", ":DE:", ":DE:a b"] {
            assert!(proxy(end).is_err(), "{end}");
        }
        assert_eq!(change("fee:500"), Ok(Change::Fee(500)));
        assert!(change("fee:501").is_err() && change("fee").is_err());
        let platform = format!("platform:{}", "07".repeat(16));
        let restored = change(&format!("restore:{platform}")).map(|change| change.key());
        assert_eq!(key(&format!("restore:{platform}")), restored);
        assert!(revocable(&format!("platform:{digest}")).is_err());
        let remove = Tightening::Remove(EntryName::Image([7; 32]));
        assert_eq!(tightening(&format!("image:{digest}")), Ok(remove));
        assert_eq!(tightening("fee:3"), Ok(Tightening::Fee(3)));
        assert!(tightening("code").is_err());
    }
}
