//! The commands about the wallet that funds the channel, and links by which a phone's wallet funds it instead.

use crate::budget::Budget;
use crate::chain::{self, account};
use crate::client::channel_address;
use crate::config::{Config, read_key};
use crate::files::new_key;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use settlement::toncenter::{self, Transaction};
use settlement::{Nano, Transfer};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum WalletCommand {
    /// Make the configured keys that are not there yet, and print the wallet's address.
    Create(Common),
    /// Print how money gets into the wallet, or with --channel from a phone's wallet straight into the channel. Sends nothing.
    #[command(
        after_help = "The links open a wallet that is installed on the device; the object is a TON Connect transaction. A channel that \
        is opened\nso belongs to `terms.payer`, the phone's wallet, and only that wallet can close it.\n\nExample:\n  \
        chrysalis wallet fund --config client.yaml --amount 0.5 --channel"
    )]
    Fund {
        #[command(flatten)]
        common: Common,
        /// How much, in TON.
        #[arg(long, value_parser = Nano::from_ton)]
        amount: Nano,
        /// Into the channel, which is opened if it is not there.
        #[arg(long)]
        channel: bool,
    },
    /// Print what the wallet holds, and for how long the channel lasts.
    Balance(Common),
    /// Print the wallet's latest transactions.
    History {
        #[command(flatten)]
        common: Common,
        /// Print CSV.
        #[arg(long, conflicts_with = "json")]
        csv: bool,
    },
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// The configuration file.
    #[arg(long)]
    config: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(given: WalletCommand) -> anyhow::Result<()> {
    match given {
        WalletCommand::Create(common) => create(&common),
        WalletCommand::Fund {
            common,
            amount,
            channel,
        } => fund(&common, amount, channel).await,
        WalletCommand::Balance(common) => balance(&common).await,
        WalletCommand::History { common, csv } => history(&common, csv).await,
    }
}

fn both(amount: Nano) -> String {
    format!("{} ({amount} nanoTON)", amount.in_ton())
}

fn create(common: &Common) -> anyhow::Result<()> {
    let config = Config::read(&common.config)?;
    let files = [
        Some(&config.payer_key_file),
        config.wallet_key_file.as_ref(),
    ];
    for file in files.into_iter().flatten() {
        if !file.exists() {
            new_key(file)?;
            eprintln!("made {}", file.display());
        }
    }
    let address = config.wallet()?.address();
    let friendly = address.friendly_unbounceable();
    match common.json {
        true => println!("{}", json!({ "wallet": address, "friendly": friendly })),
        false => println!("{address}\n{friendly}   for wallets: it may be paid before it exists"),
    }
    Ok(())
}

async fn fund(common: &Common, amount: Nano, channel: bool) -> anyhow::Result<()> {
    let config = Config::read(&common.config)?;
    let (transfer, what) = match channel {
        false => {
            let wallet = config.wallet()?.address();
            (Transfer::money(wallet, amount), "into the wallet")
        }
        true => into_channel(&config, amount).await?,
    };
    let (link, connect) = (link(&transfer), connect(&transfer));
    if common.json {
        println!("{}", json!({ "link": link, "ton_connect": connect }));
        return Ok(());
    }
    println!(
        "{} {what}; {} leave the sender",
        both(amount),
        both(transfer.value)
    );
    println!("link         {link}");
    println!("TON Connect  {connect}");
    Ok(())
}

async fn into_channel(config: &Config, amount: Nano) -> anyhow::Result<(Transfer, &'static str)> {
    let key = read_key(&config.payer_key_file)?.verifying_key().to_bytes();
    let node = config.node()?;
    let address = channel_address(config, key)?;
    let known = chain::owned_channel(&node, config.chain_id(), address, &key).await;
    let query_id = crate::session::unix_s()?;
    let too_much = "the amount is more than there is";
    if let Ok(channel) = known {
        let terms = channel.state.terms(key);
        let mut transfer = terms.top_up(amount, query_id).context(too_much)?;
        transfer.to = address;
        return Ok((transfer, "into the channel"));
    }
    let terms = config.channel_terms(key)?;
    let terms = terms.context(
        "the channel is not there, and the configuration has no `terms` to open it from",
    )?;
    let transfer = terms.deploy(amount, query_id).context(too_much)?;
    Ok((transfer, "open the channel"))
}

/// `ton://transfer/…`, with what the receiver is told (`bin`) and what deploys it (`init`).
fn link(transfer: &Transfer) -> String {
    let to = match transfer.bounce {
        true => transfer.to.friendly(),
        false => transfer.to.friendly_unbounceable(),
    };
    // The padding is no character of a URL's value.
    let encoded = |boc: Vec<u8>| URL_SAFE.encode(boc).replace('=', "%3D");
    let mut link = format!("ton://transfer/{to}?amount={}", transfer.value);
    if let Some(payload) = &transfer.payload {
        link += &format!("&bin={}", encoded(payload.boc()));
    }
    if let Some(state) = &transfer.state_init {
        link += &format!("&init={}", encoded(state.boc()));
    }
    link
}

/// A transaction as TON Connect's `sendTransaction` takes it.
fn connect(transfer: &Transfer) -> Value {
    let mut message = json!({
        "address": match transfer.bounce {
            true => transfer.to.friendly(),
            false => transfer.to.friendly_unbounceable(),
        },
        "amount": transfer.value,
    });
    if let Some(payload) = &transfer.payload {
        message["payload"] = STANDARD.encode(payload.boc()).into();
    }
    if let Some(state) = &transfer.state_init {
        message["stateInit"] = STANDARD.encode(state.boc()).into();
    }
    json!({ "messages": [message] })
}

async fn balance(common: &Common) -> anyhow::Result<()> {
    let config = Config::read(&common.config)?;
    let node = config.node()?;
    let wallet = config.wallet()?.address();
    let holds = account(&node, &wallet).await?.balance;
    let key = read_key(&config.payer_key_file)?;
    let public = key.verifying_key().to_bytes();
    let address = channel_address(&config, public)?;
    let channel = chain::owned_channel(&node, config.chain_id(), address, &public).await;
    let deposit = channel.ok().map(|channel| channel.state.deposit);
    // A running sidecar has the file for itself.
    let spent = match config.state.exists() {
        true => Budget::open(&config.state, config.chain_id(), address, key)
            .and_then(|budget| budget.spent())
            .ok(),
        false => Some((0, Nano::ZERO)),
    };
    let left = deposit
        .zip(spent)
        .map(|(deposit, (_, promised))| deposit.checked_sub(promised).unwrap_or(Nano::ZERO));
    let jobs_left = left
        .zip(spent)
        .and_then(|(left, (jobs, promised))| jobs_left(left, jobs, promised));
    if common.json {
        println!(
            "{}",
            json!({
                "wallet": wallet, "wallet_nano": holds, "channel": address, "deposit_nano": deposit,
                "promised_nano": spent.map(|(_, promised)| promised), "left_nano": left, "jobs_left": jobs_left,
            })
        );
        return Ok(());
    }
    println!("wallet      {wallet}\nholds       {}", both(holds));
    let Some(deposit) = deposit else {
        println!("channel     {address} is not open");
        return Ok(());
    };
    println!("channel     {address}\ndeposit     {}", both(deposit));
    match left {
        Some(left) => println!("left        {}", both(left)),
        None => println!(
            "left        unknown: `chrysalis serve` has {} open",
            config.state.display()
        ),
    }
    if let Some(jobs) = jobs_left {
        println!("runs dry    after about {jobs} more jobs, at the average cost of those so far");
    }
    Ok(())
}

/// How many more jobs of the average cost fit. `None` before the first.
fn jobs_left(left: Nano, jobs: u64, promised: Nano) -> Option<u64> {
    let times = u128::from(left.0) * u128::from(jobs);
    let jobs = times.checked_div(promised.0.into())?;
    u64::try_from(jobs).ok()
}

async fn history(common: &Common, csv: bool) -> anyhow::Result<()> {
    let config = Config::read(&common.config)?;
    let node = config.node()?;
    let wallet = config.wallet()?.address();
    let call = toncenter::transactions(&wallet, 100, None);
    let list = chain::ask(&node, &call)
        .await?
        .context("reading the wallet's transactions")?;
    let moved: Vec<Moved> = list.iter().map(Moved::by).collect();
    if common.json {
        let list: Vec<Value> = moved.iter().map(Moved::json).collect();
        println!("{}", json!({ "wallet": wallet, "transactions": list }));
        return Ok(());
    }
    if csv {
        println!("unix_s,lt,received_nano,received_ton,sent_nano,sent_ton,fee_nano,fee_ton,to");
    }
    for moved in &moved {
        println!("{}", moved.line(csv));
    }
    Ok(())
}

/// What one transaction of the wallet moved.
struct Moved<'a> {
    transaction: &'a Transaction,
    received: Nano,
    sent: Nano,
    to: String,
}

impl Moved<'_> {
    fn by(transaction: &Transaction) -> Moved<'_> {
        let received = transaction.in_message.as_ref();
        let sent = transaction.out_messages.iter().map(|m| m.value.0);
        let to = transaction
            .out_messages
            .iter()
            .filter_map(|m| m.destination);
        Moved {
            transaction,
            received: received.map_or(Nano::ZERO, |message| message.value),
            sent: Nano(sent.fold(0, u64::saturating_add)),
            to: to.map(|to| to.to_string()).collect::<Vec<_>>().join(" "),
        }
    }

    fn json(&self) -> Value {
        json!({
            "unix_s": self.transaction.unix_s, "lt": self.transaction.lt, "received_nano": self.received,
            "sent_nano": self.sent, "fee_nano": self.transaction.fee, "to": self.to,
        })
    }

    fn line(&self, csv: bool) -> String {
        let ton = |amount: Nano| amount.in_ton().trim_end_matches(" TON").to_owned();
        let (at, fee, to) = (self.transaction.unix_s, self.transaction.fee, &self.to);
        let (received, sent) = (self.received, self.sent);
        match csv {
            true => format!(
                "{at},{},{received},{},{sent},{},{fee},{},{to}",
                self.transaction.lt,
                ton(received),
                ton(sent),
                ton(fee)
            ),
            false => format!(
                "{at}  +{}  -{}  fee {}  {to}",
                both(received),
                both(sent),
                both(fee)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement::{Address, ChainId, ChannelTerms};
    use tycho_types::boc::Boc;

    #[test]
    fn a_phones_wallet_gets_amount_message_and_code() {
        let account = |n| Address {
            workchain: 0,
            hash: [n; 32],
        };
        let terms = ChannelTerms {
            chain: ChainId::EMBEDDED,
            payer: account(1),
            payee: account(2),
            payer_key: [3; 32],
            payee_key: [4; 32],
            close_delay_s: 3_600,
            claims_until: 2_000_000_000,
            salt: 0,
        };
        let deploy = terms.deploy(Nano(500_000_000), 7).expect("an amount");
        let link = link(&deploy);
        let begin = format!(
            "ton://transfer/{}?amount=580000000&bin=",
            terms.address().friendly()
        );
        assert!(link.starts_with(&begin), "{link}");
        // What it carries is what our own wallet would send, cell for cell. Cells may be written in more than one order.
        let cells = |boc: Vec<u8>| *Boc::decode(boc).expect("a bag of cells").repr_hash();
        let value = |name: &str| {
            let (_, rest) = link.split_once(&format!("&{name}=")).expect(name);
            let value = rest.split('&').next().expect("a value").replace("%3D", "=");
            cells(URL_SAFE.decode(value).expect("base64url"))
        };
        let payload = cells(deploy.payload.as_ref().expect("a message").boc());
        assert_eq!(value("bin"), payload);
        assert_eq!(value("init"), cells(terms.state_init().boc()));
        let connect = connect(&deploy);
        let message = &connect["messages"][0];
        assert_eq!(message["amount"], "580000000");
        let sent = message["payload"].as_str().expect("base64");
        assert_eq!(cells(STANDARD.decode(sent).expect("base64")), payload);
        let plain = Transfer::money(account(1), Nano(5));
        let plain = super::link(&plain);
        assert_eq!(
            plain,
            format!(
                "ton://transfer/{}?amount=5",
                account(1).friendly_unbounceable()
            )
        );
    }

    #[test]
    fn a_channel_lasts_as_long_as_jobs_cost_what_they_did() {
        assert_eq!(jobs_left(Nano(900), 10, Nano(100)), Some(90));
        assert_eq!(jobs_left(Nano(9), 1, Nano(10)), Some(0));
        assert_eq!(jobs_left(Nano(9), 0, Nano::ZERO), None);
        assert_eq!(jobs_left(Nano(u64::MAX), u64::MAX, Nano(1)), None);
    }
}
