//! Receipts: those on file, and whether one that somebody shows is what a verified worker signed.

use super::jobs::{Given, given};
use super::{Sidecar, failed, named};
use crate::budget::{KnownKeyset, NoProof};
use crate::client::Client;
use crate::error::ClientError;
use crate::objects::CURRENCY;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wire::limits::RECEIPT_BYTES_MAX;
use wire::{Receipt, ReceiptCore, ReceiptDigest, SignedReceipt};

/// A receipt on file, by its id.
pub(super) async fn receipt(
    State(Sidecar { client, .. }): State<Sidecar>,
    Path(id): Path<String>,
) -> Response {
    let Some(digest) = digest(&id) else {
        return named(400, "invalid_request", BAD_ID);
    };
    let stored = match client.receipt(&digest) {
        Ok(Some(stored)) => stored,
        Ok(None) => return named(404, "receipt_not_found", "no receipt of that id is on file"),
        Err(error) => return failed(&error),
    };
    let Ok(receipt) = Receipt::decode(&stored.receipt) else {
        return named(500, "internal", "the receipt on file does not decode");
    };
    let core = receipt.unverified();
    Json(json!({
        "id": id,
        "job": hex::encode(core.job),
        "receipt": hex::encode(&stored.receipt),
        "keyset": stored.keyset.to_string(),
        "model": core.model,
        "model_root": core.model_root.to_string(),
        "usage": {"prompt": core.usage.prompt, "cached": core.usage.cached, "completion": core.usage.completion},
        "cost": {"amount": stored.cost, "currency": CURRENCY},
        "cumulative": stored.cumulative,
        "channel": core.channel.to_string(),
        "engine": core.engine,
        "timings_ms": {
            "queue": core.timings.queue_ms, "ttft": core.timings.first_token_ms, "total": core.timings.total_ms,
        },
        // Only verified receipts are on file.
        "verified": true,
    }))
    .into_response()
}

/// The proof of a job on file, for `chrysalis verify`: evidence, receipt and voucher in one file.
pub(super) async fn proof(
    State(Sidecar { client, .. }): State<Sidecar>,
    Path(id): Path<String>,
) -> Response {
    let Some(digest) = digest(&id) else {
        return named(400, "invalid_request", BAD_ID);
    };
    match client.budget().proof(&digest) {
        Ok(proof) => ([(CONTENT_TYPE, "application/cbor")], proof.encode()).into_response(),
        Err(missing @ NoProof::Receipt) => named(404, "receipt_not_found", &missing.to_string()),
        Err(missing @ NoProof::Evidence(_)) => {
            named(404, "evidence_not_found", &missing.to_string())
        }
        Err(NoProof::Books(error)) => failed(&error.into()),
    }
}

const BAD_ID: &str = "a receipt's id is 64 hexadecimal characters";

fn digest(id: &str) -> Option<ReceiptDigest> {
    let mut digest = [0; 32];
    { hex::decode_to_slice(id, &mut digest).ok() }.map(|()| ReceiptDigest(digest))
}

/// Where receipts are verified.
pub(super) const VERIFY: &str = "/v1/receipts/verify";

/// Holds a receipt against the keysets that this sidecar verified, without asking anybody.
pub(super) async fn verify(
    State(Sidecar { client, .. }): State<Sidecar>,
    headers: HeaderMap,
    body: Given,
) -> Response {
    let posted = match given(VERIFY, &headers, body) {
        Ok(posted) => posted,
        Err(refused) => return *refused,
    };
    let fields = posted.body.as_object().cloned().unwrap_or_default();
    let bytes = |name: &str| {
        let text = fields.get(name).and_then(Value::as_str)?;
        { text.len() <= 2 * RECEIPT_BYTES_MAX }.then(|| hex::decode(text).ok())?
    };
    if let Some(other) = fields
        .keys()
        .find(|name| !matches!(name.as_str(), "receipt" | "payer_key"))
    {
        let param = crate::error::shown(other);
        return failed(&ClientError::UnknownField { param });
    }
    let Some(receipt) = bytes("receipt") else {
        let message = format!("`receipt` is up to {RECEIPT_BYTES_MAX} bytes in hexadecimal");
        return named(400, "invalid_request", &message);
    };
    let payer = match fields.get("payer_key") {
        None => Some(client.payer_key()),
        Some(_) => bytes("payer_key").and_then(|key| key.try_into().ok()),
    };
    let Some(payer) = payer else {
        let message = "`payer_key` is 32 bytes in hexadecimal";
        return named(400, "invalid_request", message);
    };
    match checked(&client, &receipt, payer) {
        Ok(Ok((core, known))) => {
            Json(verified_object(&client, &receipt, &core, &known)).into_response()
        }
        Ok(Err(reason)) => Json(json!({"verified": false, "reason": reason})).into_response(),
        Err(error) => failed(&error),
    }
}

/// What a receipt says once it is believed, or why it is not.
fn checked(
    client: &Client,
    bytes: &[u8],
    payer_key: [u8; 32],
) -> Result<Result<(SignedReceipt, KnownKeyset), String>, ClientError> {
    let receipt = match Receipt::decode(bytes) {
        Ok(receipt) => receipt,
        Err(refused) => return Ok(Err(refused.to_string())),
    };
    let core = receipt.unverified();
    let Some(known) = client.budget().keyset(&core.keyset)? else {
        let keyset = core.keyset;
        return Ok(Err(format!(
            "this sidecar never verified a worker with the keyset {keyset}"
        )));
    };
    Ok(match receipt.verify_alone(&known.keyset, payer_key) {
        Ok(signed) => Ok((signed, known)),
        Err(refused) => Err(refused.to_string()),
    })
}

fn verified_object(
    client: &Client,
    bytes: &[u8],
    core: &ReceiptCore,
    known: &KnownKeyset,
) -> Value {
    let id = Receipt::decode(bytes).map(|receipt| receipt.digest());
    let on_file = { id.as_ref().ok() }.is_some_and(|id| matches!(client.receipt(id), Ok(Some(_))));
    json!({
        "verified": true,
        "id": id.map(|id| id.to_string()).ok(),
        "root": known.root,
        "keyset": core.keyset.to_string(),
        "keyset_verified_at_unix_s": known.verified_at_unix_s,
        "model": core.model,
        "model_root": core.model_root.to_string(),
        "engine": core.engine,
        "usage": {"prompt": core.usage.prompt, "cached": core.usage.cached, "completion": core.usage.completion},
        "cost_nano": core.cost,
        "channel": core.channel.to_string(),
        "paid_by_this_sidecar": on_file,
        // These need prompt and answer, which a receipt only commits to.
        "not_checked": ["request", "response"],
    })
}
