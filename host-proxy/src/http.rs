//! The proxy's HTTP routes, and its tasks beside them.

use crate::api_error::{ApiError, ErrorCode};
use crate::auto_settle::settle_automatically;
use crate::config::Config;
use crate::error::Error;
use crate::limits::{CLOSE, DRAIN_POLL, DRAIN_VOUCHERS};
use crate::proxy::Proxy;
use crate::server::Peer;
use crate::tls::Tls;
use crate::{evidence, log, monitor, receipts, relay, server, startup};
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use settlement::Address;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use wire::{CMW_CBOR, EnvelopeDigest, KeysetDigest, LogLeaf};

/// A proxy that serves.
pub(crate) struct Serving {
    pub(crate) listen: SocketAddr,
    /// Where metrics and the status page are, if the configuration asks for them.
    pub(crate) monitor: Option<SocketAddr>,
    /// The certificate, to be read again.
    pub(crate) tls: Option<Tls>,
    /// Ends when everything has ended.
    pub(crate) served: JoinHandle<()>,
}

/// Opens the state, binds the addresses, and serves until `shutdown` is done and what ran then has ended, or had its time.
pub(crate) async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Serving, Error> {
    let proxy = Arc::new(Proxy::open(&config)?);
    if proxy.guest_policy.is_none() {
        tracing::warn!(
            "no guest_manifest in the configuration: whatever answers as the guest is endorsed"
        );
    }
    let tls = config.service.tls.as_ref().map(Tls::open).transpose()?;
    let times = { config.service.time_authority.as_ref() }.map(log::Times::open);
    let times = times.transpose()?;
    let (listener, listen) = server::bind(config.listen).await?;
    let monitor = match config.service.monitor {
        Some(address) => Some(server::bind(address).await?),
        None => None,
    };
    let (monitor, monitor_address) = monitor.unzip();
    let served = tokio::spawn(run(
        proxy,
        config,
        (listener, tls.clone()),
        (monitor, times),
        shutdown,
    ));
    Ok(Serving {
        listen,
        monitor: monitor_address,
        tls,
        served,
    })
}

async fn run(
    proxy: Arc<Proxy>,
    config: Config,
    (listener, tls): (TcpListener, Option<Tls>),
    (monitor, times): (Option<TcpListener>, Option<log::Times>),
    shutdown: impl Future<Output = ()> + Send,
) {
    let looking = tokio::spawn({
        let proxy = proxy.clone();
        async move { startup::look(&proxy).await }
    });
    let logging = tokio::spawn(log::keep(proxy.clone(), proxy.log_period_s, times));
    let settling = tokio::spawn(settle_automatically(proxy.clone(), config.settle));
    let refreshing = proxy.collateral.cache().cloned();
    let refreshing = refreshing.map(|cache| tokio::spawn(cache.keep_fresh()));
    let watching = monitor.map(|listener| {
        let (routes, service) = (monitor::router(proxy.clone()), Default::default());
        let forever = std::future::pending();
        tokio::spawn(server::serve(listener, routes, service, forever))
    });
    let exporting = proxy
        .exporter()
        .map(|exporter| tokio::spawn(exporter.run()));
    let service = server::Service {
        connections: config.service.connections,
        tls,
        close: CLOSE,
    };
    let drained = async {
        shutdown.await;
        drain(&proxy, config.service.drain).await;
    };
    server::serve(listener, router(proxy.clone()), service, drained).await;
    let tasks = [settling, looking, logging].into_iter();
    for task in tasks.chain(refreshing).chain(watching).chain(exporting) {
        // At any point: a payout is on the disk before it is sent, a cache holds whole files.
        task.abort();
    }
}

/// Takes no more jobs, and lets those that run end and their vouchers come, for `most` at the longest.
///
/// What is cut then loses nothing that is owed: the guest keeps the receipt, and the next charge on the channel contains this one.
async fn drain(proxy: &Proxy, most: Duration) {
    proxy.drain();
    let jobs = async {
        let running = || proxy.guests.running() + proxy.guests.waiting();
        if running() == 0 {
            return;
        }
        while running() > 0 {
            tokio::time::sleep(DRAIN_POLL).await;
        }
        tokio::time::sleep(DRAIN_VOUCHERS).await;
    };
    if tokio::time::timeout(most, jobs).await.is_err() {
        tracing::warn!(jobs = proxy.guests.running(), "jobs did not end in time");
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
        .route("/v1/log/{leaf}", get(logged))
        .route("/v1/evidence/{keyset}", get(kept_evidence))
        .with_state(proxy.clone());
    let router = router.merge(collateral.unwrap_or_default());
    router.layer(axum::middleware::from_fn_with_state(proxy, count))
}

/// Counts a request by its route, its status, and the code of its error.
async fn count(State(proxy): State<Arc<Proxy>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    let code = response.extensions().get::<ErrorCode>();
    let code = code.map_or("", |ErrorCode(code)| code);
    proxy
        .metrics
        .request(&path, response.status().as_u16(), code);
    response
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
    let figures = proxy.store.on_disk(move |s| s.figures(&address)).await;
    let figures = figures.map_err(|e| ApiError::internal(&e))?;
    Ok(Json(json!({
        "channel": address.to_string(),
        "deposit_nano": state.deposit,
        "paid_nano": state.paid,
        "owed_nano": figures.owed,
        "voucher": figures.highest.map(|signed| hex::encode(signed.encode())),
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

async fn logged(
    State(proxy): State<Arc<Proxy>>,
    Path(leaf): Path<String>,
) -> Result<Response, ApiError> {
    let mut hash = [0; 32];
    hex::decode_to_slice(&leaf, &mut hash)
        .map_err(|_| ApiError::bad_request("leaf", "an entry's hash is 64 hex digits"))?;
    let receipt = log::receipt(&proxy, LogLeaf(hash), proxy.log_period_s).await?;
    Ok(([(CONTENT_TYPE, "application/cose")], receipt.encode()).into_response())
}

async fn kept_evidence(
    State(proxy): State<Arc<Proxy>>,
    Path(keyset): Path<String>,
) -> Result<Response, ApiError> {
    let mut digest = [0; 32];
    hex::decode_to_slice(&keyset, &mut digest)
        .map_err(|_| ApiError::bad_request("keyset", "a keyset's digest is 64 hex digits"))?;
    let kept = evidence::kept(&proxy, KeysetDigest(digest)).await?;
    Ok(([(CONTENT_TYPE, CMW_CBOR)], kept.encode()).into_response())
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
