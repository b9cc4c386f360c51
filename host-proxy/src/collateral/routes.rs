//! The HTTP face of the depot, on a port of its own or among the proxy's routes.
//!
//! The paths under `/v1/rim` and `/v1/ocsp` are those of NVIDIA's services, so their tools can be pointed here as they are.

use super::CacheError;
use super::depot::{Depot, Held};
use super::fault::Unavailable;
use super::ocsp::OcspQuestion;
use super::want::{Want, WantError};
use crate::config::CollateralConfig;
use crate::limits::{OCSP_REQUEST_BYTES_MAX, UPLOAD};
use crate::reply::Reply;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, Limited};
use measurements::Platform;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Why the service cannot start. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The cache's directory.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The listening socket.
    #[error("cannot listen: {0}")]
    Listen(#[from] std::io::Error),
}

/// Starts the service: opens the cache, binds the address, serves and refreshes until `shutdown` is done.
pub async fn serve(
    config: CollateralConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, JoinHandle<()>), ServeError> {
    let depot = Depot::open(&config, Depot::system_clock())?;
    let listener = TcpListener::bind(config.listen).await?;
    let address = listener.local_addr()?;
    let served = tokio::spawn(async move {
        let refreshing = tokio::spawn(depot.clone().keep_fresh());
        crate::http::answer(
            listener,
            crate::http::with_fallbacks(router(depot)),
            shutdown,
        )
        .await;
        // At any point: the cache holds whole files.
        refreshing.abort();
    });
    Ok((address, served))
}

/// The routes.
pub fn router(depot: Depot) -> Router {
    Router::new()
        .route("/v1/collateral/tdx/{fmspc}/{ca}", get(tdx))
        .route("/v1/rim/{id}", get(rim))
        .route("/v1/ocsp", post(ocsp))
        .with_state(depot)
}

async fn tdx(
    State(depot): State<Depot>,
    Path((fmspc, ca)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Reply> {
    let platform = Platform::fmspc_from_hex(&fmspc).and_then(|fmspc| {
        let ca = ca.parse()?;
        Ok(Platform { fmspc, ca })
    });
    let platform = platform.map_err(|error| question(&error))?;
    answer(&depot, &Want::Tdx(platform), &headers, "application/json").await
}

async fn rim(
    State(depot): State<Depot>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Reply> {
    let id = id.parse().map_err(|error: WantError| question(&error))?;
    answer(&depot, &Want::Rim(id), &headers, "application/json").await
}

async fn ocsp(
    State(depot): State<Depot>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Reply> {
    let collected = Limited::new(body, OCSP_REQUEST_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(UPLOAD, collected).await else {
        return Err(question(&WantError::Ocsp(
            "it is too long, cut or too slow",
        )));
    };
    let asked = OcspQuestion::parse(&body.to_bytes()).map_err(|error| question(&error))?;
    let kind = "application/ocsp-response";
    answer(&depot, &Want::Ocsp(asked), &headers, kind).await
}

async fn answer(
    depot: &Depot,
    want: &Want,
    headers: &HeaderMap,
    kind: &'static str,
) -> Result<Response, Reply> {
    let cache_control = headers.get(CACHE_CONTROL).and_then(|v| v.to_str().ok());
    let anew = cache_control.is_some_and(|value| value.contains("no-cache"));
    let outcome = if anew {
        depot.get_anew(want).await
    } else {
        depot.get(want).await
    };
    let held = outcome.map_err(|unavailable| refusal(&unavailable))?;
    Ok(response(held, kind, crate::settle::now_unix_s()))
}

/// How old it is and how long it holds, as RFC 9111 says it and in plain seconds.
fn response(held: Held, kind: &'static str, now: u64) -> Response {
    let headers = [
        (CONTENT_TYPE, kind.to_owned()),
        (AGE, now.saturating_sub(held.fetched_unix_s).to_string()),
        (
            CACHE_CONTROL,
            format!(
                "max-age={}",
                held.expires_unix_s.saturating_sub(held.fetched_unix_s)
            ),
        ),
    ];
    let plain = [
        ("x-fetched-unix-s", held.fetched_unix_s.to_string()),
        ("x-expires-unix-s", held.expires_unix_s.to_string()),
    ];
    (headers, plain, held.body).into_response()
}

fn question(error: &dyn std::fmt::Display) -> Reply {
    Reply::refuse(StatusCode::BAD_REQUEST, "question", error.to_string())
}

/// The operator reads in the log which sources failed and how; a stranger learns that they did.
pub(crate) fn refusal(unavailable: &Arc<Unavailable>) -> Reply {
    let words = match unavailable.expired_at_unix_s {
        None => "no source of this provider has it now".to_owned(),
        Some(at) => format!(
            "no source of this provider has it now, and what is kept expired at {at} (seconds since 1970)"
        ),
    };
    Reply::refuse(StatusCode::SERVICE_UNAVAILABLE, "collateral", words)
}
