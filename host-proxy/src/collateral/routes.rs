//! The HTTP routes of a [`CollateralCache`], on a port of its own or among the proxy's.
//!
//! The paths under `/v1/rim` and `/v1/ocsp` are those of NVIDIA's services, so NVIDIA's tools can be pointed here unchanged.

use super::cache::{CollateralCache, Document};
use super::key::{CollateralKey, KeyError};
use super::source_error::Unavailable;
use crate::api_error::ApiError;
use crate::clock::now_unix_s;
use crate::config::CollateralConfig;
use crate::error::Error;
use crate::limits::{OCSP_REQUEST_BYTES_MAX, UPLOAD};
use crate::server;
use attest::Platform;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http_body_util::{BodyExt, Limited};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Opens the cache, binds the address, serves and refreshes until `shutdown` is done.
pub(crate) async fn serve(
    config: CollateralConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(SocketAddr, JoinHandle<()>), Error> {
    let cache = CollateralCache::open(&config, CollateralCache::system_clock())?;
    let (listener, address) = server::bind(config.listen).await?;
    let served = tokio::spawn(async move {
        let refreshing = tokio::spawn(cache.clone().keep_fresh());
        server::serve(listener, router(cache), Default::default(), shutdown).await;
        // At any point: the cache holds whole files.
        refreshing.abort();
    });
    Ok((address, served))
}

pub(crate) fn router(cache: CollateralCache) -> Router {
    Router::new()
        .route("/v1/collateral/tdx/{fmspc}/{ca}", get(tdx))
        .route("/v1/rim/{id}", get(rim))
        .route("/v1/ocsp", post(ocsp))
        .with_state(cache)
}

async fn tdx(
    State(cache): State<CollateralCache>,
    Path((fmspc, ca)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let platform = Platform::fmspc_from_hex(&fmspc).and_then(|fmspc| {
        let ca = ca.parse()?;
        Ok(Platform { fmspc, ca })
    });
    let platform = platform.map_err(|error| bad_key(&error))?;
    answer(
        &cache,
        &CollateralKey::Tdx(platform),
        &headers,
        "application/json",
    )
    .await
}

async fn rim(
    State(cache): State<CollateralCache>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let id = id.parse().map_err(|error: KeyError| bad_key(&error))?;
    answer(
        &cache,
        &CollateralKey::Rim(id),
        &headers,
        "application/json",
    )
    .await
}

async fn ocsp(
    State(cache): State<CollateralCache>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let collected = Limited::new(body, OCSP_REQUEST_BYTES_MAX).collect();
    let Ok(Ok(body)) = tokio::time::timeout(UPLOAD, collected).await else {
        return Err(bad_key(&KeyError::Ocsp("it is too long, cut or too slow")));
    };
    let key = CollateralKey::ocsp(&body.to_bytes()).map_err(|error| bad_key(&error))?;
    answer(&cache, &key, &headers, "application/ocsp-response").await
}

async fn answer(
    cache: &CollateralCache,
    key: &CollateralKey,
    headers: &HeaderMap,
    kind: &'static str,
) -> Result<Response, ApiError> {
    let cache_control = headers.get(CACHE_CONTROL).and_then(|v| v.to_str().ok());
    let document = match cache_control {
        Some(value) if value.contains("no-cache") => cache.get_fresh(key).await,
        _ => cache.get(key).await,
    };
    let document = document.map_err(|error| unavailable(&error))?;
    Ok(response(document, kind, now_unix_s()))
}

/// With its age and expiry, as in RFC 9111 and as Unix time.
fn response(document: Document, kind: &'static str, now: u64) -> Response {
    let headers = [
        (CONTENT_TYPE, kind.to_owned()),
        (AGE, now.saturating_sub(document.fetched_unix_s).to_string()),
        (
            CACHE_CONTROL,
            format!(
                "max-age={}",
                document
                    .expires_unix_s
                    .saturating_sub(document.fetched_unix_s)
            ),
        ),
    ];
    let plain = [
        ("x-fetched-unix-s", document.fetched_unix_s.to_string()),
        ("x-expires-unix-s", document.expires_unix_s.to_string()),
    ];
    (headers, plain, document.body).into_response()
}

fn bad_key(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::bad_request("question", error.to_string())
}

/// Which sources failed, and how, is in the log only.
pub(super) fn unavailable(unavailable: &Arc<Unavailable>) -> ApiError {
    let mut words = "no source of this provider has it now".to_owned();
    if let Some(at) = unavailable.expired_at_unix_s {
        words += &format!(", and the cached copy expired at {at} (Unix time)");
    }
    ApiError::refuse(StatusCode::SERVICE_UNAVAILABLE, "collateral", words)
}
