//! The commands about the payment channel.

use crate::chain::{self, Channel, Order, Plan};
use crate::client::channel_address;
use crate::config::{Config, read_key};
use crate::session::unix_s;
use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;
use settlement::{ChannelState, ChannelStatus, Nano};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum ChannelCommand {
    /// Deploy the channel of the configured terms and fund it from the wallet.
    #[command(after_help = "Example:\n  chrysalis channel open --config client.yaml --deposit 0.5")]
    Open {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// The deposit, in TON.
        #[arg(long, value_parser = Nano::from_ton)]
        deposit: Nano,
        /// Say what would be sent, and send nothing.
        #[arg(long)]
        dry_run: bool,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Add to the channel's deposit from the wallet.
    #[command(
        after_help = "Example:\n  chrysalis channel top-up --config client.yaml --amount 0.5 --dry-run"
    )]
    TopUp {
        #[command(flatten)]
        order: OrderArguments,
        /// How much, in TON.
        #[arg(long, value_parser = Nano::from_ton)]
        amount: Nano,
    },
    /// Ask the channel to close. After its close delay, what the payee has not claimed can be withdrawn.
    Close {
        #[command(flatten)]
        order: OrderArguments,
    },
    /// Take a request to close back, or else a rotation of the key that has not taken effect.
    Cancel {
        #[command(flatten)]
        order: OrderArguments,
    },
    /// Take what is left out of a channel whose close delay, or whose time for claims, has passed, or whose deposit is all paid. What a
    /// closed one keeps for rent returns after its time for claims.
    Withdraw {
        #[command(flatten)]
        order: OrderArguments,
    },
    /// Replace the channel's key after the close delay, because it was stolen. Jobs need another channel then.
    #[command(
        after_help = "Keep `payer_key_file` as it is: the channel's address is made of that key. When the new key is in force, \
        `channel close` and\n`channel withdraw` take out what is left.\n\nExample:\n  chrysalis keygen new.key\n  \
        chrysalis channel rotate --config client.yaml --new-key new.key"
    )]
    Rotate {
        #[command(flatten)]
        order: OrderArguments,
        /// The file of the new key (see `chrysalis keygen`).
        #[arg(long, value_name = "FILE")]
        new_key: PathBuf,
    },
    /// Show the channel's state on chain.
    Show {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// How an order is carried out.
#[derive(Debug, Args)]
pub(super) struct OrderArguments {
    /// The configuration file.
    #[arg(long)]
    pub(super) config: PathBuf,
    /// Say what would be sent, and send nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn run(given: ChannelCommand) -> anyhow::Result<()> {
    match given {
        ChannelCommand::Open {
            config,
            deposit,
            dry_run,
            json,
        } => open(&Config::read(&config)?, deposit, dry_run, json).await,
        ChannelCommand::TopUp { order, amount } => carry_out(&order, Order::TopUp(amount)).await,
        ChannelCommand::Close { order } => carry_out(&order, Order::Close).await,
        ChannelCommand::Cancel { order } => carry_out(&order, Order::Cancel).await,
        ChannelCommand::Withdraw { order } => carry_out(&order, Order::Withdraw).await,
        ChannelCommand::Rotate { order, new_key } => {
            carry_out(&order, Order::Rotate(public_key(&new_key)?)).await
        }
        ChannelCommand::Show { config, json } => show(&Config::read(&config)?, json).await,
    }
}

async fn open(config: &Config, deposit: Nano, dry_run: bool, json: bool) -> anyhow::Result<()> {
    let payer_key = read_key(&config.payer_key_file)?.verifying_key().to_bytes();
    let terms = config.channel_terms(payer_key)?;
    let terms =
        terms.context("the configuration has no `terms`, from which a channel is opened")?;
    let node = config.node()?;
    let (wallet, now) = (config.wallet()?, unix_s()?);
    if dry_run {
        let value = chain::deployment(&terms, deposit, now)?.value;
        let holds = chain::account(&node, &wallet.address()).await?.balance;
        let (channel, wallet) = (terms.address(), wallet.address());
        match json {
            true => println!(
                "{}",
                json!({
                    "dry_run": true, "channel": channel, "wallet": wallet, "wallet_holds_nano": holds, "sends_nano": value,
                })
            ),
            false => println!(
                "would open channel {channel}\nwallet        {wallet}, holds {}\nsends         {}; what is neither deposit nor \
                 rent nor fee comes back\nnothing was sent",
                holds.in_ton(),
                value.in_ton()
            ),
        }
        return Ok(());
    }
    let opened = chain::open_channel(&node, &wallet, &terms, deposit, now).await?;
    eprintln!("opened from wallet {}", opened.wallet);
    print(&opened.channel, json);
    Ok(())
}

async fn show(config: &Config, json: bool) -> anyhow::Result<()> {
    let (channel, _) = read(config).await?;
    print(&channel, json);
    Ok(())
}

/// Carries out an order, or says what it would be.
async fn carry_out(arguments: &OrderArguments, order: Order) -> anyhow::Result<()> {
    let config = Config::read(&arguments.config)?;
    let (channel, first_key) = read(&config).await?;
    let (node, wallet) = (config.node()?, config.wallet()?);
    let plan = chain::plan(&node, &wallet, channel, first_key, order, unix_s()?).await?;
    let words = said(&plan);
    if arguments.dry_run {
        return print_plan(&plan, &words, arguments.json);
    }
    eprintln!("{words}");
    let channel = chain::send(&node, &wallet, plan).await?;
    print(&channel, arguments.json);
    Ok(())
}

/// The public key in a key file.
fn public_key(file: &Path) -> anyhow::Result<[u8; 32]> {
    Ok(read_key(file)?.verifying_key().to_bytes())
}

/// The configured channel in whatever state, and the key it was opened with.
async fn read(config: &Config) -> anyhow::Result<(Channel, [u8; 32])> {
    let first_key = public_key(&config.payer_key_file)?;
    let address = channel_address(config, first_key)?;
    let node = config.node()?;
    let channel = chain::owned_channel(&node, config.chain_id(), address, &first_key).await?;
    Ok((channel, first_key))
}

fn said(plan: &Plan) -> String {
    let (state, channel) = (&plan.before.state, plan.before.address);
    let delay_s = state.close_delay_s;
    match plan.order {
        Order::TopUp(amount) => format!(
            "adding {} to the deposit of {channel}, now {}",
            amount.in_ton(),
            state.deposit.in_ton()
        ),
        Order::Close => format!(
            "asking channel {channel} to close; after {delay_s} s what is not claimed by then can be withdrawn"
        ),
        Order::Cancel if state.status == ChannelStatus::Closing => {
            format!("keeping channel {channel} open")
        }
        Order::Cancel => format!("keeping the key of channel {channel}"),
        Order::Withdraw => format!(
            "withdrawing {} and the reserve from channel {channel}",
            state.remaining().in_ton()
        ),
        Order::Rotate(_) => format!(
            "replacing the key of channel {channel} in {delay_s} s. Guests take no job from it then: it is for a key that was stolen"
        ),
    }
}

fn print_plan(plan: &Plan, words: &str, json: bool) -> anyhow::Result<()> {
    if json {
        println!(
            "{}",
            json!({
                "dry_run": true, "what": words, "channel": plan.before.address, "wallet": plan.wallet,
                "wallet_holds_nano": plan.balance, "sends_nano": plan.value, "valid_until": plan.valid_until,
            })
        );
        return Ok(());
    }
    println!("would be {words}");
    println!(
        "wallet        {}, holds {} ({} nanoTON)",
        plan.wallet,
        plan.balance.in_ton(),
        plan.balance
    );
    println!(
        "sends         {} ({} nanoTON); what is not used comes back",
        plan.value.in_ton(),
        plan.value
    );
    println!("nothing was sent");
    Ok(())
}

fn status(state: &ChannelState) -> &'static str {
    match state.status {
        ChannelStatus::Open => "open",
        ChannelStatus::Closing => "closing",
        ChannelStatus::Closed => "closed",
    }
}

pub(super) fn print(channel: &Channel, json: bool) {
    let state = &channel.state;
    let rotating = state.pending_at != 0 && state.pending_key != state.payer_key;
    if json {
        println!(
            "{}",
            json!({
                "channel": channel.address, "chain": state.chain, "status": status(state), "deposit_nano": state.deposit,
                "paid_nano": state.paid, "payer": state.payer, "payee": state.payee,
                "payer_key": hex::encode(state.payer_key), "payee_key": hex::encode(state.payee_key),
                "close_delay_s": state.close_delay_s, "claims_until": state.claims_until, "salt": state.salt.to_string(),
                "unlock_at": (state.status == ChannelStatus::Closing).then_some(state.unlock_at),
                "pending_key": rotating.then(|| hex::encode(state.pending_key)),
                "pending_at": rotating.then_some(state.pending_at),
            })
        );
        return;
    }
    println!("channel       {}", channel.address);
    println!("chain         {}", state.chain);
    println!("status        {}", status(state));
    for (what, amount) in [
        ("deposit", state.deposit),
        ("paid", state.paid),
        ("left", state.remaining()),
    ] {
        println!("{what:<13} {} ({amount} nanoTON)", amount.in_ton());
    }
    println!("payer         {}", state.payer);
    println!("payee         {}", state.payee);
    println!("close delay   {} s", state.close_delay_s);
    println!("claims until  {} (Unix seconds)", state.claims_until);
    if state.status == ChannelStatus::Closing {
        println!("withdraw at   {} (Unix seconds)", state.unlock_at);
    }
    if rotating {
        println!(
            "key changes   at {} (Unix seconds) to {}",
            state.pending_at,
            hex::encode(state.pending_key)
        );
    }
}
