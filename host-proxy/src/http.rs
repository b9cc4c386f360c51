//! The proxy's HTTP routes, and its tasks beside them.

use crate::api_error::ApiError;
use crate::auto_settle::settle_automatically;
use crate::config::{Config, SettleRule};
use crate::error::Error;
use crate::proxy::Proxy;
use crate::server::Peer;
use crate::store::Store;
use crate::{receipts, relay, server, startup};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use settlement::Address;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wire::EnvelopeDigest;

/// Opens the state, binds the address, and serves until `shutdown` is done.
///
/// The handle ends after the last connection, or after [`DRAIN`](crate::limits::DRAIN).
pub(crate) async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, JoinHandle<()>), Error> {
    let proxy = Arc::new(Proxy::open(&config)?);
    if proxy.guest_policy.is_none() {
        tracing::warn!(
            "no guest_manifest in the configuration: whatever answers as the guest is endorsed"
        );
    }
    let (listener, address) = server::bind(config.listen).await?;
    let served = tokio::spawn(run(proxy, listener, config.settle, shutdown));
    Ok((address, served))
}

async fn run(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    settle: Option<SettleRule>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let looking = tokio::spawn({
        let proxy = proxy.clone();
        async move { startup::look(&proxy).await }
    });
    let settling = tokio::spawn(settle_automatically(proxy.clone(), settle));
    let refreshing = proxy.collateral.cache().cloned();
    let refreshing = refreshing.map(|cache| tokio::spawn(cache.keep_fresh()));
    server::serve(listener, router(proxy), shutdown).await;
    for task in [settling, looking].into_iter().chain(refreshing) {
        // At any point: a payout is on the disk before it is sent, a cache holds whole files.
        task.abort();
    }
}

pub(crate) fn router(proxy: Arc<Proxy>) -> Router {
    let collateral = proxy.collateral.cache().cloned();
    let collateral = collateral.map(crate::collateral::router);
    let router = Router::new()
        .route("/v1/attestation", get(attestation))
        .route("/v1/sealed", post(sealed))
        .route("/v1/vouchers", post(vouchers))
        .route("/v1/channels/{address}", get(channel))
        .route("/v1/cancel", post(cancel))
        .route("/v1/receipts/{envelope}", get(receipt))
        .with_state(proxy);
    router.merge(collateral.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NonceQuery {
    nonce: String,
}

async fn attestation(
    State(proxy): State<Arc<Proxy>>,
    Extension(Peer(peer)): Extension<Peer>,
    query: Result<Query<NonceQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, ApiError> {
    let refuse = || ApiError::bad_request("nonce", "the query must be ?nonce= and 64 hex digits");
    let Query(query) = query.map_err(|_| refuse())?;
    let mut nonce = [0; 32];
    hex::decode_to_slice(query.nonce, &mut nonce).map_err(|_| refuse())?;
    let kind = [(CONTENT_TYPE, "application/vnd.chrysalis.bundle")];
    Ok((kind, proxy.bundle(&nonce, peer).await?.encode()).into_response())
}

async fn sealed(State(proxy): State<Arc<Proxy>>, body: Body) -> Result<Response, ApiError> {
    relay::job(proxy, body).await
}

async fn vouchers(State(proxy): State<Arc<Proxy>>, body: Body) -> Result<Json<Value>, ApiError> {
    let signed = relay::read_voucher(body).await?;
    proxy.take(&signed).await?;
    Ok(Json(json!({
        "channel": signed.voucher.channel.to_string(),
        "cumulative_nano": signed.voucher.cumulative,
        "stored": true,
    })))
}

async fn channel(
    State(proxy): State<Arc<Proxy>>,
    Path(address): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, ApiError> {
    let refuse =
        |_| ApiError::bad_request("address", "a channel's address is 0: and 64 hex digits");
    let address: Address = address.parse().map_err(refuse)?;
    let state = proxy
        .channel_for_payer(&address, authorization(&headers)?)
        .await?;
    let read = move |store: &Store| Ok((store.figures(&address)?, store.highest(&address)?));
    let read = proxy.store.on_disk(read).await;
    let (figures, voucher) = read.map_err(|e: Error| ApiError::internal(&e))?;
    Ok(Json(json!({
        "channel": address.to_string(),
        "deposit_nano": state.deposit,
        "paid_nano": state.paid,
        "owed_nano": figures.owed,
        "voucher": voucher.map(|signed| hex::encode(signed.encode())),
    })))
}

async fn receipt(
    State(proxy): State<Arc<Proxy>>,
    Path(envelope): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(&envelope, &mut digest)
        .map_err(|_| ApiError::bad_request("envelope", "an envelope's digest is 64 hex digits"))?;
    let frames = receipts::fetch(&proxy, EnvelopeDigest(digest), authorization(&headers)?).await?;
    let kind = [(CONTENT_TYPE, "application/vnd.chrysalis.frames")];
    Ok((kind, frames).into_response())
}

async fn cancel(State(proxy): State<Arc<Proxy>>, body: Body) -> Result<Json<Value>, ApiError> {
    receipts::cancel(&proxy, body).await?;
    Ok(Json(json!({ "told": true })))
}

fn authorization(headers: &HeaderMap) -> Result<&str, ApiError> {
    let header = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    header.ok_or_else(|| {
        let words =
            "only the channel's payer may read this: sign the request (header `authorization`)";
        ApiError::refuse(StatusCode::UNAUTHORIZED, "unsigned", words)
    })
}

#[cfg(test)]
mod tests;
