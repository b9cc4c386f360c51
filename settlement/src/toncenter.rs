//! Questions to a TON node in the shape of toncenter's HTTP API, version 2, without the HTTP.
//!
//! A [`Call`] holds the request to send and knows how to read the answer. The program brings the connection, an API key and retries.
//! An answer is one node's claim: its form is checked here, its truth is not. Whoever decides money on it asks for its age, or asks
//! two nodes.

mod answer;
mod payout;
mod stack;

pub use answer::{AccountStatus, AccountView, MasterchainView, Message, Transaction};
pub use payout::{Payout, PayoutError, external_payout, payout_fee, taken_message};
pub use stack::StackItem;

use crate::{
    Address, ChannelState, RegistryItem, RegistryKey, RegistryState, RegistryView, StakeState,
    StateError, limits,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// An HTTP request: always JSON, relative to the node's base address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// Begins with `/api/v2/`.
    pub path: &'static str,
    /// The JSON body (`content-type: application/json`).
    pub body: Vec<u8>,
}

/// A question and how to read its answer.
pub struct Call<T> {
    request: Request,
    read: fn(&Value) -> Result<T, ChainError>,
}

/// Why a call has no answer. Only `Refused` is about what we sent; the rest is the node's fault or its load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message says it")]
pub enum ChainError {
    #[error("the node's answer has {got} bytes, above {max}")]
    TooLong { got: usize, max: usize },
    #[error("the node's answer is not what toncenter answers: {0}")]
    Shape(&'static str),
    #[error("the node asks us to slow down")]
    RateLimited,
    #[error("refused by the chain{}: {message}", exit_code.map(|code| format!(" with exit code {code}")).unwrap_or_default())]
    Refused {
        exit_code: Option<i32>,
        message: String,
    },
    #[error("the node failed with status {status}: {message}")]
    Node { status: u16, message: String },
    #[error("{0}")]
    State(#[from] StateError),
}

impl<T> Call<T> {
    /// What to send.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Reads the node's answer to it.
    pub fn answer(&self, status: u16, body: &[u8]) -> Result<T, ChainError> {
        if body.len() > limits::ANSWER_BYTES_MAX {
            return Err(ChainError::TooLong {
                got: body.len(),
                max: limits::ANSWER_BYTES_MAX,
            });
        }
        if status == 429 {
            return Err(ChainError::RateLimited);
        }
        let Ok(answer) = serde_json::from_slice::<Value>(body) else {
            return Err(match status {
                200 => ChainError::Shape("not JSON"),
                _ => ChainError::Node {
                    status,
                    message: cut(&String::from_utf8_lossy(body)),
                },
            });
        };
        match answer.get("ok").and_then(Value::as_bool) {
            Some(true) => (self.read)(answer.get("result").ok_or(ChainError::Shape("no result"))?),
            Some(false) => Err(failure(status, &answer)),
            None => Err(ChainError::Shape("neither ok nor an error")),
        }
    }
}

/// Sends an external message. `Ok` says the node took it, not that it changed anything: look at the account's transactions.
pub fn send_boc(boc: &[u8]) -> Call<()> {
    call(
        "/api/v2/sendBoc",
        json!({ "boc": STANDARD.encode(boc) }),
        |_| Ok(()),
    )
}

/// An account's balance and status.
pub fn account(address: &Address) -> Call<AccountView> {
    call(
        "/api/v2/getAddressInformation",
        json!({ "address": address.to_string() }),
        answer::account,
    )
}

/// Runs a get method; answers its stack.
pub fn run_get_method(
    address: &Address,
    method: &str,
    stack: &[StackItem],
) -> Call<Vec<StackItem>> {
    call(
        "/api/v2/runGetMethod",
        get_method(address, method, stack),
        stack::read_result,
    )
}

/// A channel's state. Compare it with the terms: [`ChannelState::matches`].
pub fn channel_state(channel: &Address) -> Call<ChannelState> {
    call(
        "/api/v2/runGetMethod",
        get_method(channel, ChannelState::GET_METHOD, &[]),
        |result| Ok(ChannelState::parse(&stack::read_result(result)?)?),
    )
}

/// The same, and the number of the masterchain block that it is from, where the node tells it.
pub fn channel_state_in_block(channel: &Address) -> Call<(ChannelState, Option<u32>)> {
    call(
        "/api/v2/runGetMethod",
        get_method(channel, ChannelState::GET_METHOD, &[]),
        |result| {
            let state = ChannelState::parse(&stack::read_result(result)?)?;
            Ok((state, answer::block_seqno(result)))
        },
    )
}

/// A stake's state, and the number of the masterchain block that it is from, where the node tells it.
pub fn stake_state(stake: &Address) -> Call<(StakeState, Option<u32>)> {
    call(
        "/api/v2/runGetMethod",
        get_method(stake, StakeState::GET_METHOD, &[]),
        |result| {
            let state = StakeState::parse(&stack::read_result(result)?)?;
            Ok((state, answer::block_seqno(result)))
        },
    )
}

/// A registry's state, and the number of the masterchain block that it is from, where the node tells it.
pub fn registry_state(registry: &Address) -> Call<(RegistryState, Option<u32>)> {
    call(
        "/api/v2/runGetMethod",
        get_method(registry, RegistryState::GET_METHOD, &[]),
        |result| {
            let state = RegistryState::parse(&stack::read_result(result)?)?;
            Ok((state, answer::block_seqno(result)))
        },
    )
}

/// What a registry says of one image, platform, GPU and model ([`RegistryView::question`]), likewise.
pub fn registry_view(
    registry: &Address,
    question: &[StackItem; 4],
) -> Call<(RegistryView, Option<u32>)> {
    call(
        "/api/v2/runGetMethod",
        get_method(registry, RegistryView::GET_METHOD, question),
        |result| {
            let view = RegistryView::parse(&stack::read_result(result)?)?;
            Ok((view, answer::block_seqno(result)))
        },
    )
}

/// What a registry lists after `key`, or first: an entry or a revocation, or a proposal. Likewise.
pub fn registry_next(
    registry: &Address,
    proposals: bool,
    key: Option<&RegistryKey>,
) -> Call<(RegistryItem, Option<u32>)> {
    let question = RegistryItem::question(proposals, key);
    call(
        "/api/v2/runGetMethod",
        get_method(registry, RegistryItem::GET_METHOD, &question),
        |result| {
            let item = RegistryItem::parse(&stack::read_result(result)?)?;
            Ok((item, answer::block_seqno(result)))
        },
    )
}

/// A running wallet's seqno. A wallet that does not run yet has none; its first message takes 0.
pub fn wallet_seqno(wallet: &Address) -> Call<u32> {
    call(
        "/api/v2/runGetMethod",
        get_method(wallet, "seqno", &[]),
        |result| {
            let stack = stack::read_result(result)?;
            let number = stack
                .first()
                .and_then(StackItem::to_u64)
                .and_then(|n| u32::try_from(n).ok());
            number.ok_or(ChainError::Shape("seqno is not a 32-bit number"))
        },
    )
}

/// An account's transactions, newest first, at most `limit` of them: the latest, or `from` and those before it.
pub fn transactions(
    address: &Address,
    limit: u16,
    from: Option<&Transaction>,
) -> Call<Vec<Transaction>> {
    let limit = usize::from(limit).clamp(1, limits::TRANSACTIONS_MAX);
    let mut body = json!({ "address": address.to_string(), "limit": limit, "archival": true });
    if let Some(from) = from {
        body["lt"] = json!(from.lt);
        body["hash"] = json!(STANDARD.encode(from.hash));
    }
    call("/api/v2/getTransactions", body, answer::transactions)
}

/// The node's latest masterchain block.
pub fn masterchain_info() -> Call<MasterchainView> {
    call("/api/v2/getMasterchainInfo", json!({}), answer::masterchain)
}

fn get_method(address: &Address, method: &str, stack: &[StackItem]) -> Value {
    json!({ "address": address.to_string(), "method": method, "stack": stack::write(stack) })
}

fn call<T>(path: &'static str, body: Value, read: fn(&Value) -> Result<T, ChainError>) -> Call<T> {
    let method = "POST";
    Call {
        request: Request {
            method,
            path,
            body: body.to_string().into_bytes(),
        },
        read,
    }
}

fn failure(status: u16, answer: &Value) -> ChainError {
    let text = answer
        .get("error")
        .or_else(|| answer.get("result"))
        .and_then(Value::as_str)
        .unwrap_or_default();
    let message = cut(text);
    // A lite server reports a refusal in words: "... exitcode=133, steps=...".
    let exit_code = text.split("exitcode=").nth(1).and_then(|rest| {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '-')
            .unwrap_or(rest.len());
        rest[..end].parse().ok()
    });
    if exit_code.is_some() || text.contains("not accepted") {
        return ChainError::Refused { exit_code, message };
    }
    if answer.get("code").and_then(Value::as_u64) == Some(429) {
        return ChainError::RateLimited;
    }
    ChainError::Node { status, message }
}

fn cut(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(limits::NODE_MESSAGE_BYTES_MAX / 4)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_its_exit_code() {
        let body = br#"{"ok":false,"error":"LITE_SERVER_UNKNOWN: cannot apply external message: exitcode=133, steps=7","code":500}"#;
        let Err(ChainError::Refused { exit_code, .. }) = send_boc(b"x").answer(500, body) else {
            panic!("a refusal");
        };
        assert_eq!(exit_code, Some(133));
    }

    #[test]
    fn answers_of_another_shape_are_the_nodes_fault() {
        let check = |status, body: &[u8], expected: ChainError| {
            assert_eq!(
                masterchain_info()
                    .answer(status, body)
                    .expect_err("no answer"),
                expected
            );
        };
        check(200, b"<html>", ChainError::Shape("not JSON"));
        check(
            502,
            b"<html>",
            ChainError::Node {
                status: 502,
                message: "<html>".into(),
            },
        );
        check(429, b"", ChainError::RateLimited);
        check(200, b"{}", ChainError::Shape("neither ok nor an error"));
        check(200, br#"{"ok":true}"#, ChainError::Shape("no result"));
        check(
            200,
            br#"{"ok":true,"result":{}}"#,
            ChainError::Shape("masterchain block"),
        );
        let long = vec![b' '; limits::ANSWER_BYTES_MAX + 1];
        check(
            200,
            &long,
            ChainError::TooLong {
                got: long.len(),
                max: limits::ANSWER_BYTES_MAX,
            },
        );
    }
}
