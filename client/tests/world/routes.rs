//! What the guest and its proxy answer over HTTP.

use super::{Fault, Guest};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use settlement::SignedVoucher;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::timeout;

pub(super) async fn serve(listener: TcpListener, guest: Arc<Guest>) {
    let router = Router::new()
        .route("/v1/attestation", get(attestation))
        .route("/v1/sealed", post(sealed))
        .route("/v1/vouchers", post(voucher))
        .route("/v1/cancel", post(cancel))
        .route("/v1/receipts/{envelope}", get(receipt))
        .route("/v1/evidence/{keyset}", get(evidence))
        .route("/v1/channels/{address}", get(channel))
        .route("/api/v2/runGetMethod", post(get_method))
        .route("/api/v2/getAddressInformation", post(account))
        .with_state(guest);
    axum::serve(listener, router).await.unwrap();
}

async fn attestation(
    State(guest): State<Arc<Guest>>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match guest.fault() {
        Fault::SilentOnChallenges => return std::future::pending().await,
        Fault::SlowOnChallenges => tokio::time::sleep(Duration::from_millis(700)).await,
        Fault::NoEvidence => {
            let error = json!({"error": {"code": "guest", "message": "the guest does not answer", "executed": "no"}});
            return (StatusCode::SERVICE_UNAVAILABLE, Json(error)).into_response();
        }
        _ => {}
    }
    let mut nonce = [0; 32];
    hex::decode_to_slice(&query["nonce"], &mut nonce).unwrap();
    guest.bundle(&nonce).into_response()
}

async fn sealed(State(guest): State<Arc<Guest>>, body: Bytes) -> Response {
    if guest.fault() == Fault::UnsignedRefusal {
        let error =
            json!({"error": {"code": "exposure", "message": "pay first", "executed": "no"}});
        return (StatusCode::PAYMENT_REQUIRED, Json(error)).into_response();
    }
    match guest.fault() {
        Fault::Together => {
            guest.two.wait().await;
        }
        Fault::Slow => tokio::time::sleep(Duration::from_millis(300)).await,
        Fault::UntilCancelled => {
            guest.answer(&body);
            return std::future::pending().await;
        }
        Fault::GivenUp => {
            guest.answer(&body);
            return StatusCode::GATEWAY_TIMEOUT.into_response();
        }
        _ => {}
    }
    Response::new(Body::from(guest.answer(&body)))
}

async fn voucher(State(guest): State<Arc<Guest>>, body: Bytes) -> Response {
    if guest.fault() == Fault::SilentOnVouchers {
        guest.voucher_came.notify_one();
        return std::future::pending().await;
    }
    let voucher = SignedVoucher::decode(&body).unwrap();
    if voucher.verify(&guest.terms().payer_key).is_err() {
        let error = json!({"error": {"code": "voucher", "message": "its signature is wrong", "executed": "no"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let (channel, cumulative) = (voucher.voucher.channel, voucher.voucher.cumulative);
    guest.vouchers.lock().unwrap().push(voucher);
    Json(json!({"channel": channel, "cumulative_nano": cumulative, "stored": true})).into_response()
}

async fn cancel(State(guest): State<Arc<Guest>>, body: Bytes) {
    guest.cancels.lock().unwrap().push(body.to_vec());
}

async fn receipt(
    State(guest): State<Arc<Guest>>,
    Path(envelope): Path<String>,
    headers: HeaderMap,
) -> Response {
    assert!(headers.contains_key("authorization"), "the payer signs");
    let waits = guest.fault() == Fault::UntilCancelled && guest.cancels.lock().unwrap().is_empty();
    match guest.kept.lock().unwrap().get(&envelope).cloned() {
        Some(_) if waits => StatusCode::NOT_FOUND.into_response(),
        Some(kept) => Response::new(Body::from(kept)),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// What the proxy kept of this guest's keyset.
async fn evidence(State(guest): State<Arc<Guest>>, Path(keyset): Path<String>) -> Response {
    if keyset != guest.epoch(guest.number()).digest().to_string() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let nonce = [7; 32];
    let kept = wire::Cmw {
        bundle: guest.bundle(&nonce),
        nonce,
        result: None,
    };
    kept.encode().into_response()
}

async fn channel(State(guest): State<Arc<Guest>>) -> Json<Value> {
    let highest = guest
        .vouchers
        .lock()
        .unwrap()
        .last()
        .map(|v| hex::encode(v.encode()));
    Json(
        json!({"channel": guest.terms().address(), "deposit_nano": "1", "paid_nano": "0", "owed_nano": "0", "voucher": highest}),
    )
}

async fn account() -> Json<Value> {
    let wallet = json!({"state": "uninitialized", "balance": "1000000000", "last_transaction_id": {"lt": "1"}});
    Json(json!({"ok": true, "result": wallet}))
}

async fn get_method(State(guest): State<Arc<Guest>>) -> Json<Value> {
    if guest.fault() == Fault::NoChannel {
        return Json(json!({"ok": false, "error": "unknown account", "code": 404}));
    }
    Json(
        json!({"ok": true, "result": {"gas_used": 1, "exit_code": 0, "stack": guest.channel_stack()}}),
    )
}

impl Guest {
    /// Returns when so much is promised: a sidecar's answers do not wait for that.
    pub async fn promised(&self, sum: u64) {
        let highest = || self.vouchers.lock().unwrap().last().copied();
        let reached = async {
            while highest().is_none_or(|one| one.voucher.cumulative.0 != sum) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let reached = timeout(Duration::from_secs(20), reached).await;
        assert!(reached.is_ok(), "{:?} is promised, not {sum}", highest());
    }
}
