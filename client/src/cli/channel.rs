//! The commands about the payment channel.

use crate::chain;
use crate::client::channel_address;
use crate::config::{Config, read_key};
use crate::session::unix_s;
use crate::transport::Transport;
use anyhow::Context;
use serde_json::json;
use settlement::Nano;

pub(super) async fn open(config: &Config, deposit: Nano, json: bool) -> anyhow::Result<()> {
    let payer_key = read_key(&config.payer_key_file)?.verifying_key().to_bytes();
    let terms = config.channel_terms(payer_key)?;
    let terms =
        terms.context("the configuration has no `terms`, from which a channel is opened")?;
    let node = Transport::new(&config.chain.toncenter)?;
    let opened = chain::open_channel(&node, &config.wallet()?, &terms, deposit, unix_s()?).await?;
    eprintln!("opened from wallet {}", opened.wallet);
    print(&opened.channel, json);
    Ok(())
}

pub(super) async fn show(config: &Config, json: bool) -> anyhow::Result<()> {
    let payer_key = read_key(&config.payer_key_file)?.verifying_key().to_bytes();
    let address = channel_address(config, payer_key)?;
    let node = Transport::new(&config.chain.toncenter)?;
    print(
        &chain::read_channel(&node, config.chain_id(), address, &payer_key).await?,
        json,
    );
    Ok(())
}

fn print(channel: &chain::Channel, json: bool) {
    let state = &channel.state;
    if json {
        println!(
            "{}",
            json!({
                "channel": channel.address, "chain": state.chain, "deposit_nano": state.deposit, "paid_nano": state.paid,
                "payer": state.payer, "payee": state.payee, "payer_key": hex::encode(state.payer_key),
                "payee_key": hex::encode(state.payee_key), "close_delay_s": state.close_delay_s,
                "claims_until": state.claims_until, "salt": state.salt.to_string(),
            })
        );
        return;
    }
    println!("channel       {}", channel.address);
    println!("chain         {}", state.chain);
    println!("deposit       {}", state.deposit.in_ton());
    println!("paid          {}", state.paid.in_ton());
    println!("payer         {}", state.payer);
    println!("payee         {}", state.payee);
    println!("close delay   {} s", state.close_delay_s);
    println!("claims until  {} (Unix seconds)", state.claims_until);
}

/// An amount in TON with at most nine decimals, such as `0.5`.
pub(super) fn ton(text: &str) -> Result<Nano, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
        return Err("expected an amount in TON such as 0.5, with at most nine decimals".into());
    }
    let whole = whole.trim_start_matches('0');
    let padded = format!("{whole}{fraction:0<9}");
    let plain = match padded.trim_start_matches('0') {
        "" => "0",
        plain => plain,
    };
    plain.parse::<Nano>().map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_ton() {
        for (text, nano) in [
            ("0.5", 500_000_000),
            ("2", 2_000_000_000),
            ("0", 0),
            ("0.000000001", 1),
            ("010.5", 10_500_000_000),
        ] {
            assert_eq!(ton(text), Ok(Nano(nano)), "{text}");
        }
        for bad in ["", ".5", "-1", "1e3", "0.0000000001", "1.5 TON"] {
            assert!(ton(bad).is_err(), "{bad}");
        }
    }
}
