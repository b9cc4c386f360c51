//! Accounts, transactions and blocks in toncenter's JSON.

use super::ChainError;
use crate::{Address, Nano, limits};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

/// Whether an account runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// It has code.
    Active,
    /// Never deployed, or gone.
    Uninitialized,
    /// Owes too much rent.
    Frozen,
}

/// What a node says of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountView {
    /// What it holds.
    pub balance: Nano,
    /// Whether it runs.
    pub status: AccountStatus,
    /// Logical time of its last transaction; 0 if none.
    pub last_lt: u64,
    /// When the block was made that this is from, where the node tells it.
    pub block_unix_s: Option<u64>,
    /// The number of that masterchain block, where the node tells it.
    pub block_seqno: Option<u32>,
}

/// The node's latest masterchain block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterchainView {
    /// Its number.
    pub seqno: u32,
}

/// A message in or out of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Representation hash; some nodes leave it out.
    pub hash: Option<[u8; 32]>,
    /// The sending account; `None` for an external message.
    pub source: Option<Address>,
    /// The receiving account.
    pub destination: Option<Address>,
    /// What it carries.
    pub value: Nano,
    /// What is still to be collected for forwarding, paid by the sender on top of or out of the value it meant.
    pub forward_fee: Nano,
    /// Logical time of its making; with the source it is unique.
    pub created_lt: u64,
}

/// A transaction of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Logical time; grows along the account's history.
    pub lt: u64,
    /// Hash of the transaction's cell.
    pub hash: [u8; 32],
    /// When, by the block.
    pub unix_s: u32,
    /// Everything the account paid here: rent, gas, actions, and forwarding of its outgoing messages.
    pub fee: Nano,
    /// What caused it.
    pub in_message: Option<Message>,
    /// What it caused, in the order it was sent.
    pub out_messages: Vec<Message>,
}

pub(super) fn account(result: &Value) -> Result<AccountView, ChainError> {
    let status = match result.get("state").and_then(Value::as_str) {
        Some("active") => AccountStatus::Active,
        Some("uninitialized") => AccountStatus::Uninitialized,
        Some("frozen") => AccountStatus::Frozen,
        _ => return Err(ChainError::Shape("account state")),
    };
    let last_lt = result
        .get("last_transaction_id")
        .and_then(|id| number(id.get("lt")?));
    Ok(AccountView {
        // An account that never was has balance -1 in some versions of the API.
        balance: match result.get("balance") {
            Some(balance) if balance.as_str() == Some("-1") || balance.as_i64() == Some(-1) => {
                Nano::ZERO
            }
            balance => Nano(
                balance
                    .and_then(number)
                    .ok_or(ChainError::Shape("balance"))?,
            ),
        },
        status,
        last_lt: last_lt.ok_or(ChainError::Shape("last transaction"))?,
        block_unix_s: result.get("sync_utime").and_then(number),
        block_seqno: block_seqno(result),
    })
}

/// The masterchain block that an answer is from.
pub(super) fn block_seqno(result: &Value) -> Option<u32> {
    number(result.get("block_id")?.get("seqno")?)?
        .try_into()
        .ok()
}

pub(super) fn masterchain(result: &Value) -> Result<MasterchainView, ChainError> {
    let seqno = result
        .get("last")
        .and_then(|last| number(last.get("seqno")?))
        .and_then(|n| u32::try_from(n).ok());
    Ok(MasterchainView {
        seqno: seqno.ok_or(ChainError::Shape("masterchain block"))?,
    })
}

pub(super) fn transactions(result: &Value) -> Result<Vec<Transaction>, ChainError> {
    let list = result
        .as_array()
        .ok_or(ChainError::Shape("list of transactions"))?;
    if list.len() > limits::TRANSACTIONS_MAX {
        return Err(ChainError::Shape("more transactions than asked"));
    }
    list.iter()
        .map(|entry| transaction(entry).ok_or(ChainError::Shape("transaction")))
        .collect()
}

fn transaction(entry: &Value) -> Option<Transaction> {
    let id = entry.get("transaction_id")?;
    let out = entry.get("out_msgs")?.as_array()?;
    if out.len() > limits::OUT_MESSAGES_MAX {
        return None;
    }
    let mut out_messages: Vec<Message> = out.iter().map(message).collect::<Option<_>>()?;
    out_messages.sort_by_key(|message| message.created_lt);
    Some(Transaction {
        lt: number(id.get("lt")?)?,
        hash: hash(id.get("hash")?)?,
        unix_s: u32::try_from(number(entry.get("utime")?)?).ok()?,
        fee: Nano(number(entry.get("fee")?)?),
        in_message: match entry.get("in_msg") {
            None | Some(Value::Null) => None,
            Some(value) => Some(message(value)?),
        },
        out_messages,
    })
}

fn message(value: &Value) -> Option<Message> {
    let party = |name| match value.get(name).and_then(Value::as_str) {
        None | Some("") => Some(None),
        Some(text) => Address::from_any(text).ok().map(Some),
    };
    Some(Message {
        hash: value.get("hash").and_then(hash),
        source: party("source")?,
        destination: party("destination")?,
        value: Nano(number(value.get("value")?)?),
        forward_fee: Nano(number(value.get("fwd_fee")?)?),
        created_lt: number(value.get("created_lt")?)?,
    })
}

// Numbers come as JSON numbers or as decimal strings, by field and version.
fn number(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse::<Nano>().ok().map(|n| n.0))
}

fn hash(value: &Value) -> Option<[u8; 32]> {
    STANDARD.decode(value.as_str()?).ok()?.try_into().ok()
}
