//! The HTTP face: routes, and a server that outlasts slow and silent clients.
//!
//! Promises: a bounded number of connections, each with a deadline for its headers and its body; a stop request lets
//! running jobs end, for a while.

use crate::channels::Age;
use crate::config::{Config, SettleRule};
use crate::limits::{CONNECTION_BUFFER_BYTES, CONNECTION_MAX, CONNECTIONS_MAX, DRAIN, HEADER_READ};
use crate::proxy::{Proxy, StartError};
use crate::relay;
use crate::reply::Reply;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use serde::Deserialize;
use serde_json::{Value, json};
use settlement::{Address, ChannelStatus};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

/// Starts the proxy: opens its state, binds its address, serves until `shutdown` is done.
///
/// The handle ends after the last connection, or after [`DRAIN`](crate::limits::DRAIN).
pub async fn serve(
    config: Config,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, JoinHandle<()>), StartError> {
    let proxy = Arc::new(Proxy::open(&config)?);
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    Ok((
        address,
        tokio::spawn(run(proxy, listener, config.settle, shutdown)),
    ))
}

async fn run(
    proxy: Arc<Proxy>,
    listener: TcpListener,
    settle: Option<SettleRule>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let settling = settle.map(|rule| tokio::spawn(settle_by_rule(proxy.clone(), rule)));
    let refreshing = proxy.collateral.depot().cloned();
    let refreshing = refreshing.map(|depot| tokio::spawn(depot.keep_fresh()));
    answer(listener, router(proxy), shutdown).await;
    for task in settling.into_iter().chain(refreshing) {
        // At any point: a payout is on the disk before it is sent, a cache holds whole files.
        task.abort();
    }
}

/// Answers on a socket until `shutdown` is done, and lets what runs end, for a while.
pub(crate) async fn answer(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send,
) {
    let graceful = GracefulShutdown::new();
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    tokio::pin!(shutdown);
    loop {
        let accepted = async {
            let slot = connections.clone().acquire_owned().await;
            (
                listener.accept().await,
                slot.expect("the semaphore is never closed"),
            )
        };
        tokio::select! {
            (accepted, slot) = accepted => match accepted {
                Ok((stream, _peer)) => serve_connection(stream, slot, &router, &graceful),
                Err(error) => {
                    // Out of file descriptors, most likely: let some connections end.
                    tracing::warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = &mut shutdown => break,
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some connections did not end in time");
    }
}

fn serve_connection(
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    router: &Router,
    graceful: &GracefulShutdown,
) {
    let service = TowerToHyperService::new(router.clone());
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_READ)
        .max_buf_size(CONNECTION_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        match tokio::time::timeout(CONNECTION_MAX, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
            Err(_elapsed) => tracing::debug!("a connection lasted too long"),
        }
        drop(slot);
    });
}

fn router(proxy: Arc<Proxy>) -> Router {
    let collateral = proxy.collateral.depot().cloned();
    let collateral = collateral.map(crate::collateral::router);
    let router = Router::new()
        .route("/v1/attestation", get(attestation))
        .route("/v1/sealed", post(sealed))
        .route("/v1/vouchers", post(vouchers))
        .route("/v1/channels/{address}", get(channel))
        .with_state(proxy);
    with_fallbacks(router.merge(collateral.unwrap_or_default()))
}

/// What every server of ours says besides its own routes.
pub(crate) fn with_fallbacks(router: Router) -> Router {
    router
        .route("/healthz", get(async || Json(json!({ "ok": true }))))
        .fallback(async || Reply::refuse(StatusCode::NOT_FOUND, "not_found", "no such path"))
        .method_not_allowed_fallback(async || {
            Reply::refuse(
                StatusCode::METHOD_NOT_ALLOWED,
                "method",
                "this path takes another method",
            )
        })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NonceQuery {
    nonce: String,
}

async fn attestation(
    State(proxy): State<Arc<Proxy>>,
    query: Result<Query<NonceQuery>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Reply> {
    let refuse = || {
        Reply::refuse(
            StatusCode::BAD_REQUEST,
            "nonce",
            "ask with ?nonce= and 64 hex digits",
        )
    };
    let Query(query) = query.map_err(|_| refuse())?;
    let mut nonce = [0; 32];
    hex::decode_to_slice(query.nonce, &mut nonce).map_err(|_| refuse())?;
    relay::attestation(&proxy, &nonce).await
}

async fn sealed(State(proxy): State<Arc<Proxy>>, body: Body) -> Result<Response, Reply> {
    relay::job(proxy, body).await
}

async fn vouchers(State(proxy): State<Arc<Proxy>>, body: Body) -> Result<Json<Value>, Reply> {
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
) -> Result<Json<Value>, Reply> {
    let refuse = |_| {
        Reply::refuse(
            StatusCode::BAD_REQUEST,
            "address",
            "a channel is named by its raw address",
        )
    };
    let address: Address = address.parse().map_err(refuse)?;
    let state = proxy.channel(&address, Age::Recent).await?;
    let read = move |store: &crate::vouchers::Store| {
        Ok((store.figures(&address)?, store.highest(&address)?))
    };
    let read = proxy.store.clone().on_disk(read).await;
    let (figures, voucher) = read.map_err(|e: crate::vouchers::StoreError| Reply::internal(&e))?;
    Ok(Json(json!({
        "channel": address.to_string(),
        "deposit_nano": state.deposit,
        "paid_nano": state.paid,
        "owed_nano": figures.owed,
        "voucher": voucher.map(|signed| hex::encode(signed.encode())),
    })))
}

/// Settles what is worth it, and at once whatever will soon be worth nothing.
async fn settle_by_rule(proxy: Arc<Proxy>, rule: SettleRule) {
    loop {
        tokio::time::sleep(Duration::from_secs(rule.interval_s)).await;
        let channels = proxy.store.clone().on_disk(|s| s.channels()).await;
        for channel in channels
            .inspect_err(|error| tracing::error!(%error, "settling"))
            .unwrap_or_default()
        {
            if let Err(error) = settle_if_due(&proxy, &channel, rule).await {
                tracing::warn!(%channel, %error, "not settled");
            }
        }
    }
}

async fn settle_if_due(
    proxy: &Proxy,
    channel: &Address,
    rule: SettleRule,
) -> Result<(), crate::settle::SettleError> {
    const DAY_S: u64 = 24 * 3600;
    let (state, of) = (proxy.channels.state(channel, Age::Recent).await?, *channel);
    let vouchered = proxy
        .store
        .clone()
        .on_disk(move |s| s.figures(&of))
        .await?
        .vouchered;
    let gain = vouchered
        .min(state.deposit)
        .checked_sub(state.paid)
        .unwrap_or_default();
    let ends_soon = state.status == ChannelStatus::Closing
        || state.pending_key != [0; 32] && state.pending_key != state.payer_key
        || crate::settle::now_unix_s() + DAY_S >= u64::from(state.claims_until);
    if state.status == ChannelStatus::Closed || gain.0 == 0 || gain < rule.threshold && !ends_soon {
        return Ok(());
    }
    let settled = proxy.settler().settle(channel).await?;
    tracing::info!(%channel, price = %settled.price_nano, fee = %settled.fee_nano, "settled");
    Ok(())
}

#[cfg(test)]
mod tests;
