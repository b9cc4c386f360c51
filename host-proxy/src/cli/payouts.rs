//! `host-proxy payouts` and `earnings`: what waits to be paid, paying it now, taking the money out, and what came in.

use super::{Common, settle_error};
use crate::config::Config;
use crate::error::{Error, Fault};
use crate::limits::CLAIM_COST;
use crate::proxy::Proxy;
use crate::settle::{Adoption, SettleError, Settled, Standing};
use crate::store::Entry;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use settlement::{Address, Nano};
use std::fmt::Write;
use std::process::ExitCode;

#[derive(Subcommand)]
pub(super) enum PayoutsCommand {
    /// Print what is owed and until when, what is on its way, and what the wallet holds.
    Status(Common),
    /// Claim vouchers and wait until the chain shows the payouts. Safe to repeat after a crash.
    #[command(
        after_help = "Without --channel everything that is worth more than its claim is claimed. With it, that channel is, and --json \
        prints its object alone.\n\nExample:\n  host-proxy payouts settle --config host-proxy.yaml --dry-run"
    )]
    Settle(SettleArguments),
    /// Send money from the payee's wallet to another address.
    #[command(
        after_help = "Example:\n  host-proxy payouts withdraw --config host-proxy.yaml --to UQ... --amount 1.5 --dry-run"
    )]
    Withdraw(WithdrawArguments),
    /// Answer for messages that the wallet has sent and the state file does not know, so that it may sign again.
    #[command(
        after_help = "Only after a backup was restored, or the wallet was used by hand. Stop every other host-proxy that has the key \
        first: two\nthat sign at a time waste fees and get in each other's way."
    )]
    Adopt(AdoptArguments),
}

#[derive(Args)]
pub(super) struct SettleArguments {
    #[command(flatten)]
    common: Common,
    /// The channel's raw address, `0:` and 64 hex digits.
    #[arg(long)]
    channel: Option<Address>,
    /// Say what would be claimed, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct WithdrawArguments {
    #[command(flatten)]
    common: Common,
    /// Where to: an address in either form.
    #[arg(long, value_name = "ADDRESS", value_parser = Address::from_any)]
    to: Address,
    /// How much, in TON.
    #[arg(long, value_name = "TON", value_parser = Nano::from_ton)]
    amount: Nano,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct AdoptArguments {
    #[command(flatten)]
    common: Common,
    /// Say what would be taken over, and change nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct EarningsArguments {
    #[command(flatten)]
    common: Common,
    /// Print CSV, one line for each payout and withdrawal.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

pub(super) async fn run(command: PayoutsCommand) -> Result<ExitCode, Error> {
    match command {
        PayoutsCommand::Status(common) => status(&common).await,
        PayoutsCommand::Settle(arguments) => settle(&arguments).await,
        PayoutsCommand::Withdraw(arguments) => withdraw(&arguments).await,
        PayoutsCommand::Adopt(arguments) => adopt(&arguments).await,
    }
}

/// An amount as people and as programs read it.
pub(super) fn both(amount: Nano) -> String {
    format!("{} ({amount} nanoTON)", amount.in_ton())
}

async fn status(common: &Common) -> Result<ExitCode, Error> {
    let proxy = Proxy::open(&Config::read(&common.config)?)?;
    let standing = proxy.settler().standing().await.map_err(settle_error)?;
    match common.json {
        true => println!("{}", json!(standing)),
        false => print_standing(&standing),
    }
    // What keeps the proxy from signing is a failure of this command, too: a script may watch it.
    Ok(match standing.signs {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn print_standing(standing: &Standing) {
    println!("wallet      {}", standing.wallet);
    println!("holds       {}", both(standing.balance_nano));
    println!(
        "enough for  {} claims in one message; each gives most of its 0.055 TON back",
        standing.claims_at_once
    );
    println!(
        "number      {} on the chain, {} in the books{}",
        standing.chain_seqno,
        standing.books_seqno,
        if standing.signs {
            ""
        } else {
            ": the books are older than the chain, nothing is signed; see `host-proxy payouts adopt --help`"
        }
    );
    println!(
        "on its way  {} in {} claims",
        both(standing.open_nano),
        standing.open_claims
    );
    println!("unpaid      {}", both(standing.unpaid_nano));
    for unpaid in &standing.unpaid {
        println!("  {}  {}", unpaid.channel, both(unpaid.unpaid_nano));
        match (unpaid.left_s, unpaid.claimable_until) {
            (Some(left_s), Some(until)) => {
                println!("    claimable for {left_s} s, until {until} (Unix seconds)");
            }
            _ => println!("    the node does not show the channel"),
        }
        if unpaid.lost_nano > Nano::ZERO {
            println!(
                "    the channel has paid {} more than the newest voucher here: newer ones are lost",
                both(unpaid.lost_nano)
            );
        }
    }
}

async fn settle(arguments: &SettleArguments) -> Result<ExitCode, Error> {
    let proxy = Proxy::open(&Config::read(&arguments.common.config)?)?;
    let json = arguments.common.json;
    let channels = match arguments.channel {
        Some(channel) => vec![channel],
        None => {
            let unpaid = proxy.store.unpaid()?.into_iter();
            let worth = unpaid.filter(|(_, gain)| *gain > CLAIM_COST);
            worth.map(|(channel, _)| channel).collect()
        }
    };
    if arguments.dry_run {
        return dry_run(&proxy, &channels, json).await;
    }
    let settler = proxy.settler();
    if let Some(channel) = arguments.channel {
        let settled = settler.settle(&channel).await.map_err(settle_error)?;
        print_settled(&settled, json);
        return Ok(ExitCode::SUCCESS);
    }
    let results = match channels.is_empty() {
        true => Vec::new(),
        false => settler.settle_all(&channels).await.map_err(settle_error)?,
    };
    Ok(print_results(results, json))
}

fn print_results(results: Vec<(Address, Result<Settled, SettleError>)>, json: bool) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    let mut lines = Vec::new();
    for (channel, result) in &results {
        match result {
            Ok(settled) if json => lines.push(json!(settled)),
            Ok(settled) => {
                println!("{channel}");
                print_settled(settled, false);
            }
            Err(error) => {
                code = ExitCode::FAILURE;
                let line = json!({ "channel": channel, "error": error.to_string() });
                lines.push(line);
                eprintln!("{channel}: {error}");
            }
        }
    }
    match json {
        true => println!("{}", json!({ "channels": lines })),
        false if results.is_empty() => println!("Nothing is worth a claim."),
        false => {}
    }
    code
}

fn print_settled(settled: &Settled, json: bool) {
    if json {
        println!("{}", json!(settled));
    } else if settled.price_nano == Nano::ZERO {
        let paid = both(settled.paid_after_nano);
        println!("Nothing to settle: {paid} are already paid.");
    } else {
        let fee = settled.fee_nano.map(both);
        println!(
            "The channel paid {}; the claim cost {}; the wallet holds {}.",
            both(settled.price_nano),
            fee.as_deref().unwrap_or("an unknown amount"),
            both(settled.wallet_after_nano)
        );
    }
}

async fn dry_run(proxy: &Proxy, channels: &[Address], json: bool) -> Result<ExitCode, Error> {
    let planned = proxy.settler().plan(channels).await.map_err(settle_error)?;
    let claims = planned.claims.iter().map(|claim| {
        let price = claim.cumulative.checked_sub(claim.paid_before);
        (claim.channel, price.unwrap_or(Nano::ZERO))
    });
    if json {
        let claims: Vec<Value> = claims
            .map(|(channel, price)| json!({ "channel": channel, "price_nano": price }))
            .collect();
        println!("{}", json!({ "dry_run": true, "claims": claims }));
    } else {
        for (channel, price) in claims {
            println!("would claim {} from {channel}", both(price));
        }
        println!("nothing was sent");
    }
    for (channel, result) in planned.results {
        let _ = result.inspect_err(|error| eprintln!("{channel}: {error}"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn withdraw(arguments: &WithdrawArguments) -> Result<ExitCode, Error> {
    let proxy = Proxy::open(&Config::read(&arguments.common.config)?)?;
    let (to, amount, settler) = (arguments.to, arguments.amount, proxy.settler());
    let json = arguments.common.json;
    if arguments.dry_run {
        let left = settler.can_send(amount).await.map_err(settle_error)?;
        match json {
            true => println!(
                "{}",
                json!({ "dry_run": true, "to": to, "amount_nano": amount, "wallet_keeps_nano": left })
            ),
            false => println!(
                "would send {} to {to}; the wallet would keep about {}\nnothing was sent",
                both(amount),
                both(left)
            ),
        }
        return Ok(ExitCode::SUCCESS);
    }
    settler.withdraw(to, amount).await.map_err(settle_error)?;
    let holds = proxy.wallet().await;
    match json {
        true => println!(
            "{}",
            json!({ "to": to, "amount_nano": amount, "wallet_after_nano": holds.ok() })
        ),
        false => {
            println!("sent {} to {to}", both(amount));
            let _ = holds.map(|holds| println!("the wallet holds {}", both(holds)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn adopt(arguments: &AdoptArguments) -> Result<ExitCode, Error> {
    let proxy = Proxy::open(&Config::read(&arguments.common.config)?)?;
    let adoption = proxy.settler().adopt(arguments.dry_run).await;
    let Adoption { chain, books } = adoption.map_err(settle_error)?;
    let what = match (chain > books, arguments.dry_run) {
        (false, _) => "the state file knows every message of the wallet; nothing to take over",
        (true, true) => "would be taken over; nothing was changed",
        (true, false) => "taken over",
    };
    match arguments.common.json {
        true => println!(
            "{}",
            json!({ "dry_run": arguments.dry_run, "chain_seqno": chain, "books_seqno": books, "taken_over": chain > books && !arguments.dry_run })
        ),
        false => println!(
            "{} messages on the chain, {} in the books: {what}",
            chain, books
        ),
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn earnings(arguments: &EarningsArguments) -> Result<ExitCode, Error> {
    let config = Config::read(&arguments.common.config)?;
    let state = &config.state;
    if state.file().is_some_and(|path| !path.exists()) {
        let words = format!("{state} is not there: nothing was earned yet");
        return Err(Error::new(Fault::Configuration, words));
    }
    let proxy = Proxy::open(&config)?;
    let entries = proxy.store.entries()?;
    let sum = |kind: &str, of: fn(&Entry) -> Nano| {
        let of_kind = entries.iter().filter(|entry| entry.kind == kind);
        Nano(of_kind.map(|entry| of(entry).0).sum())
    };
    let paid = sum("payout", |entry| entry.amount);
    let fees = sum("payout", |entry| entry.fee.unwrap_or(Nano::ZERO));
    let withdrawn = sum("withdrawal", |entry| entry.amount);
    if arguments.csv {
        print!("{}", csv(&entries));
    } else if arguments.common.json {
        println!(
            "{}",
            json!({ "paid_nano": paid, "fees_nano": fees, "withdrawn_nano": withdrawn, "entries": entries })
        );
    } else {
        println!(
            "paid        {} in {} claims",
            both(paid),
            entries.iter().filter(|e| e.kind == "payout").count()
        );
        println!("fees        {}", both(fees));
        println!("withdrawn   {}", both(withdrawn));
    }
    Ok(ExitCode::SUCCESS)
}

/// Amounts in nanoTON and in TON. A time that is not known is empty, as in rows of earlier versions.
fn csv(entries: &[Entry]) -> String {
    let mut text =
        "kind,unix_s,time,address,amount_nano,amount_ton,fee_nano,fee_ton,wallet_message\n"
            .to_owned();
    let ton = |amount: Nano| amount.in_ton().trim_end_matches(" TON").to_owned();
    for entry in entries {
        let at = entry.ended_unix_s;
        let _ = writeln!(
            text,
            "{},{},{},{},{},{},{},{},{}",
            entry.kind,
            at.map(|at| at.to_string()).unwrap_or_default(),
            at.map(utc).unwrap_or_default(),
            entry.address,
            entry.amount,
            ton(entry.amount),
            entry.fee.map(|fee| fee.to_string()).unwrap_or_default(),
            entry.fee.map(ton).unwrap_or_default(),
            entry.seqno.map(|n| n.to_string()).unwrap_or_default(),
        );
    }
    text
}

/// `2026-11-29T12:00:00Z`.
fn utc(unix_s: u64) -> String {
    // Days since 0000-03-01, so that a leap day is a year's last: eras of 400 years have 146,097 days.
    let days = unix_s / 86_400 + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u64::from(month <= 2);
    let second = unix_s % 86_400;
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{:02}Z",
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_709_251_200, "2024-03-01T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(unix_s), text);
        }
    }

    #[test]
    fn a_line_of_csv_has_what_an_accountant_needs() {
        let entry = Entry {
            kind: "payout",
            ended_unix_s: Some(951_782_400),
            address: "0:ab".into(),
            amount: Nano(1_500_000_000),
            fee: Some(Nano(8_900_000)),
            seqno: Some(7),
        };
        let old = Entry {
            ended_unix_s: None,
            fee: None,
            ..entry.clone()
        };
        let text = csv(&[entry, old]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[1],
            "payout,951782400,2000-02-29T00:00:00Z,0:ab,1500000000,1.500000000,8900000,0.008900000,7"
        );
        assert_eq!(lines[2], "payout,,,0:ab,1500000000,1.500000000,,,7");
        let columns = |line: &str| line.split(',').count();
        assert!(lines.iter().all(|line| columns(line) == columns(lines[0])));
    }
}
