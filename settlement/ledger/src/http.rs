//! toncenter's HTTP API, version 2, as far as a wallet and a channel need it, and a faucet that toncenter does not have.
//!
//! Refusals have status 500 and a lite server's words, as toncenter's have, because clients read the exit code out of them.

use crate::{Ledger, LedgerError, Refusal, limits, shape};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, State},
    http::StatusCode,
    routing::{get, post},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};
use settlement::Nano;
use std::{collections::HashMap, io};
use tokio::net::TcpListener;

/// Serves the ledger until the listener fails or the future is dropped.
pub async fn serve(ledger: Ledger, listener: TcpListener) -> io::Result<()> {
    let router = Router::new()
        .route("/api/v2/{method}", get(get_api).post(post_api))
        .route("/faucet", post(post_faucet))
        .layer(DefaultBodyLimit::max(limits::REQUEST_BYTES_MAX))
        .with_state(ledger);
    axum::serve(listener, router).await
}

type Response = (StatusCode, Json<Value>);

/// Why a request has no result.
enum Fault {
    /// The request is wrong.
    Request(String),
    /// The chain refuses.
    Refused(String),
    /// The ledger failed.
    Ledger(String),
    /// Too many questions, as the faults have it.
    TooMany,
}

async fn get_api(
    State(ledger): State<Ledger>,
    Path(method): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let fields = query
        .into_iter()
        .map(|(name, value)| (name, Value::String(value)))
        .collect();
    respond(ledger, method, fields).await
}

async fn post_api(
    State(ledger): State<Ledger>,
    Path(method): Path<String>,
    body: Bytes,
) -> Response {
    match serde_json::from_slice(&body) {
        Ok(Value::Object(fields)) => respond(ledger, method, fields).await,
        _ => failure(Fault::Request("the body is not a JSON object".into())),
    }
}

async fn post_faucet(State(ledger): State<Ledger>, body: Bytes) -> Response {
    match serde_json::from_slice(&body) {
        Ok(Value::Object(fields)) => respond(ledger, FAUCET.into(), fields).await,
        _ => failure(Fault::Request("the body is not a JSON object".into())),
    }
}

// Not a method toncenter could have.
const FAUCET: &str = "/faucet";

impl Ledger {
    /// Answers a question as [`serve`] does, in this process.
    pub fn answer(&self, request: &settlement::toncenter::Request) -> (u16, Vec<u8>) {
        let method = request.path.strip_prefix("/api/v2/").unwrap_or_default();
        let (status, Json(body)) = match serde_json::from_slice(&request.body) {
            Ok(Value::Object(fields)) => response(run(self, method, &fields)),
            _ => failure(Fault::Request("the body is not a JSON object".into())),
        };
        (status.as_u16(), body.to_string().into_bytes())
    }
}

async fn respond(ledger: Ledger, method: String, fields: Map<String, Value>) -> Response {
    // A write waits for the disk.
    let result = tokio::task::spawn_blocking(move || run(&ledger, &method, &fields)).await;
    match result {
        Ok(result) => response(result),
        Err(_) => failure(Fault::Ledger("the ledger stopped while answering".into())),
    }
}

fn response(result: Result<Value, Fault>) -> Response {
    match result {
        Ok(result) => (
            StatusCode::OK,
            Json(json!({ "ok": true, "result": result })),
        ),
        Err(fault) => failure(fault),
    }
}

fn run(ledger: &Ledger, method: &str, fields: &Map<String, Value>) -> Result<Value, Fault> {
    let address = || shape::read_address(fields.get("address")).ok_or_else(|| wrong("address"));
    if method != FAUCET && ledger.refuses() {
        return Err(Fault::TooMany);
    }
    let view = ledger.view()?;
    match method {
        "sendBoc" | "sendBocReturnHash" => {
            let boc = fields
                .get("boc")
                .and_then(Value::as_str)
                .and_then(|text| STANDARD.decode(text).ok());
            let accepted = ledger.send_external(&boc.ok_or_else(|| wrong("boc"))?)?;
            Ok(match method {
                "sendBoc" => json!({ "@type": "ok" }),
                _ => json!({ "@type": "raw.extMessageInfo", "hash": shape::hash(&accepted.hash) }),
            })
        }
        "getAddressInformation" => {
            let account = ledger.account_in(&view, &address()?)?;
            Ok(shape::account(&account, view.unix_s, view.seqno))
        }
        "getAddressBalance" => Ok(json!(ledger.account_in(&view, &address()?)?.balance)),
        "runGetMethod" => {
            let name = fields
                .get("method")
                .and_then(Value::as_str)
                .ok_or_else(|| wrong("method"))?;
            let stack = shape::read_stack(fields.get("stack")).ok_or_else(|| wrong("stack"))?;
            let answer = ledger.run_get_method_in(&view, &address()?, name, &stack)?;
            Ok(shape::answer(&answer, view.seqno))
        }
        "getTransactions" => {
            let limit = number(fields, "limit")?.unwrap_or(10);
            // toncenter's `lt` names the first transaction of the page.
            let before = number(fields, "lt")?
                .filter(|lt| *lt > 0)
                .map(|lt| lt.saturating_add(1));
            let limit = usize::try_from(limit).unwrap_or(limits::TRANSACTIONS_MAX);
            let transactions = ledger.transactions_in(&view, &address()?, before, limit)?;
            Ok(shape::transactions(&transactions))
        }
        "getMasterchainInfo" => Ok(shape::masterchain(view.seqno)),
        FAUCET => {
            let amount = fields
                .get("amount")
                .and_then(Value::as_str)
                .and_then(|text| text.parse::<Nano>().ok());
            let transaction = ledger.faucet(&address()?, amount.ok_or_else(|| wrong("amount"))?)?;
            let hash = shape::hash(&transaction.hash);
            Ok(
                json!({ "simulated": true, "note": "simulated value, worth nothing", "transaction": hash }),
            )
        }
        _ => Err(Fault::Request(format!(
            "no such method here: {}",
            method.chars().take(64).collect::<String>()
        ))),
    }
}

fn number(fields: &Map<String, Value>, name: &str) -> Result<Option<u64>, Fault> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().or_else(|| value.as_str()?.parse().ok());
            number.map(Some).ok_or_else(|| wrong(name))
        }
    }
}

fn wrong(name: &str) -> Fault {
    Fault::Request(format!("{name} is missing or malformed"))
}

fn failure(fault: Fault) -> Response {
    let (status, error) = match fault {
        Fault::Request(text) => (StatusCode::UNPROCESSABLE_ENTITY, text),
        Fault::Refused(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
        Fault::Ledger(text) => (StatusCode::INTERNAL_SERVER_ERROR, text),
        Fault::TooMany => (StatusCode::TOO_MANY_REQUESTS, "Ratelimit exceed".into()),
    };
    (
        status,
        Json(json!({ "ok": false, "error": error, "code": status.as_u16() })),
    )
}

impl From<LedgerError> for Fault {
    fn from(error: LedgerError) -> Fault {
        match error {
            LedgerError::Refused(
                refusal @ (Refusal::NotAccepted { .. } | Refusal::CannotRun { .. }),
            ) => Fault::Refused(format!(
                "LITE_SERVER_UNKNOWN: cannot apply external message to current state : External message was not accepted: {refusal}"
            )),
            LedgerError::Refused(Refusal::NoCode { account }) => {
                Fault::Refused(format!("{account} has no code to run"))
            }
            LedgerError::Refused(refusal) => Fault::Request(refusal.to_string()),
            other => Fault::Ledger(other.to_string()),
        }
    }
}
