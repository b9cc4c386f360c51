//! `host-proxy keygen`, `delegate`, `address` and `backup`: the provider's three keys, its wallet, and the file that is money.

use super::Common;
use crate::clock::now_unix_s;
use crate::config::Config;
use crate::error::{Context, Error, Fault};
use crate::keys::{SecretSource, Seed, new_seed, write_new};
use crate::payee::Payee;
use crate::settle::WALLET_MIN;
use crate::store::Store;
use clap::Args;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};
use settlement::{ChainId, Wallet};
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use wire::Delegation;

#[derive(Args)]
pub(super) struct KeygenArguments {
    /// The new directory: payee.key, wallet.key, endorsing.key and delegation. Existing files are never overwritten.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    delegation: DelegationArguments,
    /// Seal the keys with this passphrase: file:PATH, env:NAME or stdin.
    #[arg(long, value_name = "SOURCE")]
    passphrase: Option<SecretSource>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct DelegationArguments {
    /// The global id of the chain: 20241 the embedded ledger, -3 the test network, -239 the main network.
    #[arg(long, value_name = "ID", default_value_t = ChainId::EMBEDDED.0, allow_negative_numbers = true)]
    chain: i32,
    /// For how many days the endorsing key may endorse, from now on.
    #[arg(long, value_name = "DAYS", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
}

#[derive(Args)]
pub(super) struct DelegateArguments {
    /// The payee's secret key: file:PATH, env:NAME or stdin.
    #[arg(long = "key", alias = "payee-key", value_name = "SOURCE")]
    payee_key: SecretSource,
    /// The public key of the endorsing key, as `keygen` and `address` print it: 64 hex digits.
    #[arg(long = "public-key", alias = "endorsing-key", value_name = "HEX", value_parser = public_key)]
    endorsing_key: [u8; 32],
    /// Where the passphrase of a sealed key is, likewise.
    #[arg(long, value_name = "SOURCE")]
    passphrase: Option<SecretSource>,
    #[command(flatten)]
    delegation: DelegationArguments,
    /// The new file. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

#[derive(Args)]
pub(super) struct BackupArguments {
    #[command(flatten)]
    common: Common,
    /// The new file. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

pub(super) fn keygen(arguments: &KeygenArguments) -> Result<(), Error> {
    let passphrase = arguments.passphrase.as_ref();
    let passphrase = passphrase.map(|source| source.passphrase()).transpose()?;
    let passphrase = passphrase.as_ref().map(|text| text.as_str());
    let out = &arguments.out;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(out);
    made.context(Fault::Configuration, || format!("--out {}", out.display()))?;
    let write = |name: &str| -> Result<Seed, Error> {
        let seed = new_seed()?;
        write_new(&out.join(name), &seed, passphrase)?;
        Ok(seed)
    };
    let payee = SigningKey::from_bytes(&*write("payee.key")?);
    let endorsing = SigningKey::from_bytes(&*write("endorsing.key")?);
    let wallet = Wallet::from_seed(&*write("wallet.key")?, ChainId(arguments.delegation.chain));
    let [payee_key, endorsing_key] = [&payee, &endorsing].map(|key| key.verifying_key().to_bytes());
    let delegation = arguments.delegation.sign(endorsing_key, &payee)?;
    write_delegation(&out.join("delegation"), &delegation)?;
    let shown = Shown {
        wallet: &wallet,
        payee_key,
        endorsing_key,
        until: delegation.until_unix_s,
        chain: arguments.delegation.chain,
    };
    shown.print(arguments.json);
    if !arguments.json {
        let (out, needs) = (out.display(), WALLET_MIN.in_ton());
        println!(
            "\n{out}/payee.key can close your channels for nothing: move it to a machine that is not this one, and keep a copy. The\n\
             proxy does not need it. {out}/wallet.key is what you earn: keep a copy offline.\n\
             A claim needs {needs} in the wallet, most of which comes back. Send them to the first address;\n\
             it is not bounceable, so an account that does not exist yet can be paid."
        );
    }
    Ok(())
}

pub(super) fn delegate(arguments: &DelegateArguments) -> Result<(), Error> {
    let passphrase = arguments.passphrase.as_ref();
    let passphrase = passphrase.map(|source| source.passphrase()).transpose()?;
    let seed = arguments
        .payee_key
        .seed(passphrase.as_ref().map(|text| text.as_str()))?;
    let payee = SigningKey::from_bytes(&seed);
    let delegation = arguments.delegation.sign(arguments.endorsing_key, &payee)?;
    write_delegation(&arguments.out, &delegation)?;
    let (out, until) = (arguments.out.display(), delegation.until_unix_s);
    println!("{out} lets the endorsing key endorse until {until} (Unix seconds)");
    Ok(())
}

fn public_key(text: &str) -> Result<[u8; 32], String> {
    let mut key = [0; 32];
    let read = hex::decode_to_slice(text, &mut key);
    read.map(|()| key)
        .map_err(|_| "64 hexadecimal digits are expected".to_owned())
}

impl DelegationArguments {
    fn sign(&self, endorsing_key: [u8; 32], payee: &SigningKey) -> Result<Delegation, Error> {
        let until = now_unix_s() + u64::from(self.days) * 86_400;
        let until = u32::try_from(until).context(Fault::Host, || "this host's clock")?;
        Ok(Delegation::sign(
            endorsing_key,
            until,
            ChainId(self.chain),
            payee,
        ))
    }
}

fn write_delegation(path: &Path, delegation: &Delegation) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    let new = options.write(true).create_new(true).mode(0o644).open(path);
    let written = new.and_then(|mut file| {
        writeln!(file, "{}", hex::encode(delegation.encode()))?;
        file.sync_all()
    });
    written.context(Fault::Configuration, || path.display())
}

pub(super) fn address(common: &Common) -> Result<(), Error> {
    let config = Config::read(&common.config)?;
    let payee = Payee::open(&config)?;
    let shown = Shown {
        wallet: payee.wallet(),
        payee_key: payee.public_key(),
        endorsing_key: payee.endorsing_key(),
        until: payee.endorses_until(),
        chain: payee.chain().0,
    };
    shown.print(common.json);
    Ok(())
}

/// What may be known of the keys.
struct Shown<'a> {
    wallet: &'a Wallet,
    payee_key: [u8; 32],
    endorsing_key: [u8; 32],
    until: u32,
    chain: i32,
}

impl Shown<'_> {
    fn json(&self) -> Value {
        let address = self.wallet.address();
        json!({
            "address": address.to_string(), "friendly": address.friendly_unbounceable(),
            "public_key": hex::encode(self.payee_key), "endorsing_key": hex::encode(self.endorsing_key),
            "endorses_until": self.until, "chain": self.chain, "claim_needs_nano": WALLET_MIN,
        })
    }

    fn print(&self, json: bool) {
        if json {
            return println!("{}", self.json());
        }
        let (address, key) = (self.wallet.address(), hex::encode(self.payee_key));
        println!(
            "wallet      {}\naddress     {address}   `payee` and `stake` of guest.json\n\
             public key  {key}   `payee_key` of guest.json and of host-proxy.yaml\n\
             endorsing   {}   until {} (Unix seconds)\nchain       {}",
            address.friendly_unbounceable(),
            hex::encode(self.endorsing_key),
            self.until,
            self.chain
        );
    }
}

pub(super) fn backup(arguments: &BackupArguments) -> Result<(), Error> {
    let config = Config::read(&arguments.common.config)?;
    let payee = Payee::open(&config)?;
    let state = &config.state;
    if state.file().is_some_and(|path| !path.exists()) {
        let words = format!("{state} is not there: nothing was earned yet");
        return Err(Error::new(Fault::Configuration, words));
    }
    let store = Store::open_at(state, &payee.address(), config.chain)?;
    store.back_up(&arguments.out)?;
    let out = arguments.out.display();
    match arguments.common.json {
        true => println!("{}", json!({ "backup": arguments.out })),
        false => println!(
            "{out} has every voucher, charge and payout of this moment. To restore it, stop host-proxy, remove {state},\n\
             {state}-wal and {state}-shm, and copy it to {state}. If anything was settled since then, nothing is signed\n\
             until `host-proxy payouts adopt`."
        ),
    }
    Ok(())
}
