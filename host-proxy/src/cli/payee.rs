//! `host-proxy keygen`, `address` and `backup`: the payee's key, its wallet, and the file that is money.

use super::Common;
use crate::config::Config;
use crate::error::{Context, Error, Fault};
use crate::payee::Payee;
use crate::settle::WALLET_MIN;
use crate::store::Store;
use clap::Args;
use serde_json::json;
use settlement::ChainId;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use zeroize::Zeroizing;

#[derive(Args)]
pub(super) struct KeygenArguments {
    /// The new file: 64 hex digits that nobody else may read. An existing file is never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The global id of the chain: 20241 the embedded ledger, -3 the test network, -239 the main network.
    #[arg(long, value_name = "ID", default_value_t = ChainId::EMBEDDED.0, allow_negative_numbers = true)]
    chain: i32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
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
    let shown = || format!("--out {}", arguments.out.display());
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut()).context(Fault::Host, || "asking the kernel for randomness")?;
    let text = Zeroizing::new(hex::encode(seed.as_ref()) + "\n");
    let mut options = OpenOptions::new();
    let new = options.write(true).create_new(true).mode(0o600);
    let written = new.open(&arguments.out).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.context(Fault::Configuration, shown)?;
    let payee = Payee::from_seed(&seed, ChainId(arguments.chain));
    print(&payee, arguments.json);
    if !arguments.json {
        let (out, needs) = (arguments.out.display(), WALLET_MIN.in_ton());
        println!(
            "\n{out} is the payee's key: whoever has it can take what you earn. Keep a copy offline.\n\
             A claim needs {needs} in this wallet, most of which comes back. Send them to the first address;\n\
             it is not bounceable, so an account that does not exist yet can be paid."
        );
    }
    Ok(())
}

pub(super) fn address(common: &Common) -> Result<(), Error> {
    let config = Config::read(&common.config)?;
    print(
        &Payee::read(&config.payee_key_file, config.chain)?,
        common.json,
    );
    Ok(())
}

fn print(payee: &Payee, json: bool) {
    let (address, key) = (payee.address(), hex::encode(payee.public_key()));
    let (chain, friendly) = (payee.chain().0, address.friendly_unbounceable());
    match json {
        true => println!(
            "{}",
            json!({
                "address": address.to_string(), "friendly": friendly, "public_key": key, "chain": chain,
                "claim_needs_nano": WALLET_MIN,
            })
        ),
        false => println!(
            "wallet      {friendly}\naddress     {address}   `payee` and `stake` of guest.json\n\
             public key  {key}   `payee_key` of guest.json\nchain       {chain}"
        ),
    }
}

pub(super) fn backup(arguments: &BackupArguments) -> Result<(), Error> {
    let config = Config::read(&arguments.common.config)?;
    let payee = Payee::read(&config.payee_key_file, config.chain)?;
    let state = config.state.display();
    if !config.state.exists() {
        let words = format!("{state} is not there: nothing was earned yet");
        return Err(Error::new(Fault::Configuration, words));
    }
    let store = Store::open(&config.state, &payee.address(), config.chain)?;
    store.back_up(&arguments.out)?;
    let out = arguments.out.display();
    match arguments.common.json {
        true => println!("{}", json!({ "backup": arguments.out })),
        false => println!(
            "{out} has every voucher, charge and payout of this moment. To restore it, stop host-proxy, remove {state},\n\
             {state}-wal and {state}-shm, and copy it to {state}."
        ),
    }
    Ok(())
}
