//! `host-proxy stake …`: the collateral that answers for what guests charge.

use super::payouts::both;
use super::{Common, settle_error};
use crate::clock::now_unix_s;
use crate::config::Config;
use crate::error::{Error, Fault};
use crate::proxy::Proxy;
use crate::settle::{StakeOrder, StakePlan};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use settlement::{Nano, StakeState, StakeTerms};
use std::process::ExitCode;

#[derive(Subcommand)]
pub(super) enum StakeCommand {
    /// Print what is staked, what is leaving and when, and how often it was slashed.
    Status(Common),
    /// Add collateral. The first deposit deploys the contract, by the terms that are given with it.
    #[command(
        after_help = "The terms are the stake's address: with --dry-run it is printed before it is in any configuration. Write it into\n\
        host-proxy.yaml and into every guest.json, as `stake`.\n\n\
        Example:\n  host-proxy stake deposit --config host-proxy.yaml --amount 20 --unbond-days 14 --slashable-until 1893456000 --dry-run"
    )]
    Deposit(DepositArguments),
    /// Let collateral begin to leave. Until it has left it is slashable, and one delay counts anew for all that is leaving.
    Unbond(UnbondArguments),
    /// Take what has waited out the unbonding delay into the wallet, or after the end of the stake all of it.
    Withdraw(WithdrawArguments),
}

#[derive(Args)]
struct Sending {
    #[command(flatten)]
    common: Common,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub(super) struct DepositArguments {
    #[command(flatten)]
    sending: Sending,
    /// How much, in TON. The rent of the stake's whole life comes on top of the first deposit.
    #[arg(long, value_name = "TON", value_parser = Nano::from_ton)]
    amount: Nano,
    /// How long collateral takes to leave, in days.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(7..=90), requires = "slashable_until")]
    unbond_days: Option<u32>,
    /// Until when offences are slashed, in Unix seconds, at most four years ahead. After it the owner takes everything.
    #[arg(long, value_name = "UNIX", requires = "unbond_days")]
    slashable_until: Option<u32>,
    /// Tells stakes of the same terms apart.
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 0,
        requires = "unbond_days"
    )]
    salt: u64,
}

#[derive(Args)]
pub(super) struct UnbondArguments {
    #[command(flatten)]
    sending: Sending,
    /// How much, in TON.
    #[arg(long, value_name = "TON", value_parser = Nano::from_ton)]
    amount: Nano,
}

#[derive(Args)]
pub(super) struct WithdrawArguments {
    #[command(flatten)]
    sending: Sending,
}

pub(super) async fn run(command: StakeCommand) -> Result<ExitCode, Error> {
    match command {
        StakeCommand::Status(common) => status(&common).await,
        StakeCommand::Deposit(arguments) => deposit(&arguments).await,
        StakeCommand::Unbond(UnbondArguments { sending, amount }) => {
            carry_out(
                &open(&sending.common)?,
                &sending,
                StakeOrder::Unbond(amount),
                None,
            )
            .await
        }
        StakeCommand::Withdraw(WithdrawArguments { sending }) => {
            carry_out(
                &open(&sending.common)?,
                &sending,
                StakeOrder::Withdraw,
                None,
            )
            .await
        }
    }
}

/// The proxy, if its configuration names a stake.
fn open(common: &Common) -> Result<Proxy, Error> {
    let proxy = Proxy::open(&Config::read(&common.config)?)?;
    if proxy.payee.stake() == proxy.payee.address() {
        let words = "the configuration names no `stake`: `host-proxy stake deposit --dry-run` with its terms prints its address";
        return Err(Error::new(Fault::Configuration, words));
    }
    Ok(proxy)
}

async fn status(common: &Common) -> Result<ExitCode, Error> {
    let proxy = open(common)?;
    let stake = proxy.payee.stake();
    let state = proxy.settler().stake().await.map_err(settle_error)?;
    if common.json {
        println!(
            "{}",
            json!({ "stake": stake, "state": state.as_ref().map(object) })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("stake        {stake}");
    match state {
        Some(state) => print_state(&state),
        None => println!("nothing runs there: no collateral answers for your guests"),
    }
    Ok(ExitCode::SUCCESS)
}

fn object(state: &StakeState) -> Value {
    json!({
        "bonded_nano": state.bonded, "unbonding_nano": state.unbonding, "unlock_at": state.unlock_at, "slashes": state.slashes,
        "owner": state.terms.owner, "owner_key": hex::encode(state.terms.owner_key),
        "unbond_delay_s": state.terms.unbond_delay_s, "slashable_until": state.terms.slashable_until, "salt": state.terms.salt,
    })
}

fn print_state(state: &StakeState) {
    println!("staked       {}", both(state.bonded));
    println!("leaving      {}", both(state.unbonding));
    if state.unbonding > Nano::ZERO {
        let (at, now) = (state.unlock_at, now_unix_s());
        let left_s = u64::from(at).saturating_sub(now);
        println!(
            "  it can leave at {at} (Unix seconds), in {left_s} s; until then it is slashable"
        );
    }
    println!("slashed      {} times", state.slashes);
    println!(
        "terms        {} s to leave, slashable until {} (Unix seconds)",
        state.terms.unbond_delay_s, state.terms.slashable_until
    );
}

async fn deposit(arguments: &DepositArguments) -> Result<ExitCode, Error> {
    let sending = &arguments.sending;
    let proxy = Proxy::open(&Config::read(&sending.common.config)?)?;
    let new = arguments.unbond_days.zip(arguments.slashable_until);
    let terms = new.map(|(days, slashable_until)| StakeTerms {
        chain: proxy.payee.chain(),
        owner: proxy.payee.address(),
        owner_key: proxy.payee.public_key(),
        unbond_delay_s: days * 86_400,
        slashable_until,
        salt: arguments.salt,
    });
    let named = proxy.payee.stake() != proxy.payee.address();
    match (&terms, named) {
        (Some(terms), false) if sending.dry_run => {
            print_address(terms, sending.common.json);
            Ok(ExitCode::SUCCESS)
        }
        (_, false) => open(&sending.common).map(|_| ExitCode::SUCCESS),
        (terms, true) => {
            let order = StakeOrder::Deposit(arguments.amount);
            carry_out(&proxy, sending, order, terms.as_ref()).await
        }
    }
}

/// Of a stake that no configuration names yet.
fn print_address(terms: &StakeTerms, json: bool) {
    let stake = terms.address();
    match json {
        true => println!("{}", json!({ "dry_run": true, "stake": stake })),
        false => println!(
            "these terms are the stake {stake}\nwrite it as `stake` into host-proxy.yaml and into every guest.json, then deposit; \
             nothing was sent"
        ),
    }
}

async fn carry_out(
    proxy: &Proxy,
    sending: &Sending,
    order: StakeOrder,
    terms: Option<&StakeTerms>,
) -> Result<ExitCode, Error> {
    let (settler, json) = (proxy.settler(), sending.common.json);
    if sending.dry_run {
        let plan = settler.plan_stake(order, terms).await;
        print_plan(&plan.map_err(settle_error)?, json);
        return Ok(ExitCode::SUCCESS);
    }
    let after = settler
        .order_stake(order, terms)
        .await
        .map_err(settle_error)?;
    let stake = proxy.payee.stake();
    match (json, after) {
        (true, after) => println!(
            "{}",
            json!({ "stake": stake, "state": after.as_ref().map(object) })
        ),
        (false, Some(state)) => {
            println!("stake        {stake}");
            print_state(&state);
        }
        (false, None) => println!("the stake {stake} has ended; everything was paid to the wallet"),
    }
    Ok(ExitCode::SUCCESS)
}

fn print_plan(plan: &StakePlan, json: bool) {
    let (stake, amount, value, keeps) = (plan.stake, plan.amount, plan.value, plan.keeps);
    if json {
        println!(
            "{}",
            json!({
                "dry_run": true, "stake": stake, "deploys": plan.before.is_none(), "amount_nano": amount, "sends_nano": value,
                "wallet_keeps_nano": keeps,
            })
        );
        return;
    }
    println!(
        "stake        {stake}{}",
        if plan.before.is_none() {
            ", which is deployed"
        } else {
            ""
        }
    );
    println!("amount       {}", both(amount));
    println!("sends        {}; what is not used comes back", both(value));
    println!(
        "wallet       would keep about {}\nnothing was sent",
        both(keeps)
    );
}
