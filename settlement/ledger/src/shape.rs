//! The ledger's answers in toncenter's JSON, version 2.

use crate::{AccountState, AccountView, Answer, MessageView, Party, TransactionView};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use settlement::{Address, toncenter::StackItem};

pub(crate) fn account(view: &AccountView, now: u32, seqno: u64) -> Value {
    let (state, code, data) = match &view.state {
        AccountState::Nonexistent | AccountState::Uninitialized => {
            ("uninitialized", String::new(), String::new())
        }
        AccountState::Frozen => ("frozen", String::new(), String::new()),
        AccountState::Active {
            code_boc, data_boc, ..
        } => (
            "active",
            STANDARD.encode(code_boc),
            STANDARD.encode(data_boc),
        ),
    };
    json!({
        "@type": "raw.fullAccountState",
        "balance": view.balance,
        "code": code,
        "data": data,
        "last_transaction_id": transaction_id(view.last_lt, &view.last_hash),
        "block_id": block(seqno),
        "frozen_hash": "",
        "sync_utime": now,
        "state": state,
    })
}

pub(crate) fn masterchain(seqno: u64) -> Value {
    json!({ "@type": "blocks.masterchainInfo", "last": block(seqno), "state_root_hash": hash(&[0; 32]), "init": block(0) })
}

pub(crate) fn transactions(views: &[TransactionView]) -> Value {
    views.iter().map(transaction).collect()
}

pub(crate) fn answer(answer: &Answer, seqno: u64) -> Value {
    let stack: Vec<Value> = answer.stack.iter().map(stack_item).collect();
    json!({
        "@type": "smc.runResult",
        "gas_used": answer.gas_used,
        "stack": stack,
        "exit_code": answer.exit_code,
        "block_id": block(seqno),
    })
}

pub(crate) fn hash(hash: &[u8; 32]) -> String {
    STANDARD.encode(hash)
}

fn transaction(view: &TransactionView) -> Value {
    let out: Vec<Value> = view.out_messages.iter().map(message).collect();
    json!({
        "@type": "raw.transaction",
        "address": { "@type": "accountAddress", "account_address": view.account.friendly() },
        "account": view.account,
        "utime": view.unix_s,
        "data": STANDARD.encode(&view.boc),
        "transaction_id": transaction_id(view.lt, &view.hash),
        "fee": view.fee(),
        "storage_fee": view.storage_fees,
        "other_fee": (view.fee().0 - view.storage_fees.0.min(view.fee().0)).to_string(),
        "in_msg": view.in_message.as_ref().map(message),
        "out_msgs": out,
        // Not toncenter's: what the transaction's cell says of its phases, so that a person need not parse it.
        "x_phases": {
            "total_fees": view.total_fees,
            "exit_code": view.exit_code,
            "gas_used": view.gas_used,
            "action_code": view.action_code,
            "aborted": view.aborted,
        },
    })
}

fn message(view: &MessageView) -> Value {
    json!({
        "@type": "raw.message",
        "hash": hash(&view.hash),
        "source": party(&view.source),
        "destination": party(&view.destination),
        "value": view.value,
        "extra_currencies": [],
        "fwd_fee": view.forward_fee,
        "ihr_fee": "0",
        "created_lt": view.created_lt.to_string(),
        "x_bounced": view.bounced,
    })
}

fn party(party: &Party) -> String {
    match party {
        Party::Account(address) => address.friendly(),
        Party::Outside => String::new(),
    }
}

fn transaction_id(lt: u64, tx_hash: &[u8; 32]) -> Value {
    json!({ "@type": "internal.transactionId", "lt": lt.to_string(), "hash": hash(tx_hash) })
}

fn block(seqno: u64) -> Value {
    json!({
        "@type": "ton.blockIdExt",
        "workchain": -1,
        "shard": "-9223372036854775808",
        "seqno": seqno,
        "root_hash": hash(&[0; 32]),
        "file_hash": hash(&[0; 32]),
    })
}

fn stack_item(item: &StackItem) -> Value {
    match item {
        StackItem::Number {
            negative,
            magnitude,
        } => {
            let digits: String = magnitude.iter().map(|byte| format!("{byte:02x}")).collect();
            let digits = digits.trim_start_matches('0');
            let sign = if *negative { "-" } else { "" };
            json!([
                "num",
                format!("{sign}0x{}", if digits.is_empty() { "0" } else { digits })
            ])
        }
        StackItem::Cell(boc) => json!(["cell", { "bytes": STANDARD.encode(boc) }]),
        StackItem::Slice(boc) => json!(["slice", { "bytes": STANDARD.encode(boc) }]),
        StackItem::Null => json!(["null", Value::Null]),
    }
}

/// A stack as a client sends it.
pub(crate) fn read_stack(value: Option<&Value>) -> Option<Vec<StackItem>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(value) => value.as_array()?.iter().map(read_stack_item).collect(),
    }
}

fn read_stack_item(item: &Value) -> Option<StackItem> {
    let [kind, value] = item.as_array()?.as_slice() else {
        return None;
    };
    match kind.as_str()? {
        "num" => read_number(value),
        "tvm.Cell" | "cell" => STANDARD.decode(value.as_str()?).ok().map(StackItem::Cell),
        "tvm.Slice" | "slice" => STANDARD.decode(value.as_str()?).ok().map(StackItem::Slice),
        "null" => Some(StackItem::Null),
        _ => None,
    }
}

fn read_number(value: &Value) -> Option<StackItem> {
    if let Some(number) = value.as_i64() {
        return Some(StackItem::from_i64(number));
    }
    let text = value.as_str()?;
    let (negative, rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let Some(digits) = rest.strip_prefix("0x") else {
        return text.parse().ok().map(StackItem::from_i64);
    };
    if digits.is_empty() || digits.len() > 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let padded = format!("{digits:0>64}");
    let mut magnitude = [0; 32];
    for (byte, pair) in magnitude.iter_mut().zip(padded.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(StackItem::Number {
        negative: negative && magnitude != [0; 32],
        magnitude,
    })
}

/// An address as a client sends it, in either form.
pub(crate) fn read_address(value: Option<&Value>) -> Option<Address> {
    Address::from_any(value?.as_str()?).ok()
}
