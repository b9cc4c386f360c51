//! The OpenAI API on the loopback, or on a socket.
//!
//! Trusted: whoever shows the key of [`Access::Key`], or may enter the directory of the socket, since every request
//! spends the budget. [`Access::Open`] leaves that out where its owner says so. A server that took the port first would
//! get the key with the first request, and the prompts; a socket in a directory of this user's cannot be taken.
//! Requests that a web page could forge are refused besides: a body must say that it is JSON, the `Host` must be an
//! address or `localhost` (a page that rebinds its own name to the loopback cannot say that), and an `Origin` must be
//! the sidecar's own. No answer has a CORS header. Promised: `[DONE]` or a whole JSON answer is written only after the
//! receipt was verified; an answer that fails ends with an error object.

mod idempotency;
mod jobs;

use crate::client::Client;
use crate::error::{ClientError, Executed, shown};
use crate::job::pinned;
use crate::limits::REQUEST_BYTES_MAX;
use crate::objects::{CURRENCY, attestation_object};
use crate::openai::{self, error_object};
use crate::session::Session;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use axum::{Json, Router};
use idempotency::Keys;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use wire::{Digest, ModelOffer, Receipt, ReceiptDigest};
use zeroize::Zeroizing;

/// Who may ask.
pub enum Access {
    /// Whoever shows this key as `Authorization: Bearer`, as the OpenAI SDKs show theirs.
    Key(Zeroizing<String>),
    /// Whoever reaches the listener: a socket in a directory of this user's.
    Socket,
    /// Every program of every user of this machine, because the owner said so.
    Open,
}

/// What to do with a field that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unknown {
    /// The request is refused and the field named.
    #[default]
    Refuse,
    /// It is left out, and the answer names it in the header `x-ignored-fields`.
    Ignore,
}

/// What the routes work with.
#[derive(Clone)]
struct Sidecar {
    client: Arc<Client>,
    keys: Arc<Keys>,
    unknown: Unknown,
}

/// Serves until the listener fails.
pub async fn serve<L>(
    client: Arc<Client>,
    listener: L,
    access: Access,
    unknown: Unknown,
) -> std::io::Result<()>
where
    L: Listener,
    L::Addr: std::fmt::Debug,
{
    axum::serve(listener, router(client, access, unknown)).await
}

/// The routes.
pub fn router(client: Arc<Client>, access: Access, unknown: Unknown) -> Router {
    let sidecar = Sidecar {
        client,
        keys: Arc::default(),
        unknown,
    };
    Router::new()
        .route("/healthz", get(health))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/attestation", get(attestation))
        .route("/v1/attestation/bundle", get(bundle))
        .route("/v1/receipts/{id}", get(receipt))
        .route("/v1/embeddings", post(jobs::embeddings))
        .route("/v1/chat/completions", post(jobs::chat))
        .fallback(async |request: Request| {
            let message = format!("this sidecar has no path {}", shown(request.uri().path()));
            named(404, "unknown_url", &message)
        })
        .method_not_allowed_fallback(async |request: Request| {
            let (path, method) = (shown(request.uri().path()), request.method());
            let message = format!("{path} does not answer {method}");
            named(405, "method_not_supported", &message)
        })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::new(access), admit))
        .with_state(sidecar)
}

async fn admit(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match refused(&access, request.headers(), request.uri().path()) {
        Some(refused) => refused,
        None => next.run(request).await,
    }
}

fn refused(access: &Access, headers: &HeaderMap, path: &str) -> Option<Response> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(header::HOST).is_some_and(is_address_or_localhost) {
        let message = "the Host header must be an IP address or localhost";
        return Some(named(403, "host_refused", message));
    }
    if headers.contains_key(header::ORIGIN) && !is_own_origin(headers) {
        let message = "a web page of another origin may not use this sidecar";
        return Some(named(403, "origin_refused", message));
    }
    let Access::Key(key) = access else {
        return None;
    };
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    // Where Anthropic's SDKs show theirs.
    let shown = bearer.or_else(|| text(header::HeaderName::from_static("x-api-key")));
    // Digests are compared, so that the time tells nothing of the key. Health tells nothing of anybody's.
    let digest = |key: &str| Digest::of(key.as_bytes());
    let good = shown.is_some_and(|shown| digest(shown.trim()) == digest(key));
    let message = "the API key is missing or wrong; it is in the file that the sidecar names at its start \
         (`api_key_file`)";
    (!good && path != "/healthz").then(|| named(401, "invalid_api_key", message))
}

fn is_own_origin(headers: &HeaderMap) -> bool {
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        let value = values.next().and_then(|value| value.to_str().ok());
        value.filter(|_| values.next().is_none())
    };
    let origin = one(header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    origin.is_some() && origin == one(header::HOST)
}

fn is_address_or_localhost(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = bare.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || address.parse::<IpAddr>().is_ok()
}

/// Whether a job could be answered now, and if not, why.
async fn health(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    match client.health().await {
        Ok(session) => {
            Json(json!({"ok": true, "checked_ms_ago": session.age().as_millis() as u64}))
                .into_response()
        }
        Err(error) => {
            let mut object = error_object(&error);
            object["ok"] = json!(false);
            (StatusCode::SERVICE_UNAVAILABLE, Json(object)).into_response()
        }
    }
}

async fn models(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    let session = match client.session().await {
        Ok(session) => session,
        Err(error) => return failed(&error),
    };
    let data: Vec<Value> = allowed(&client, &session)
        .map(|offer| model_object(&session, offer))
        .collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

async fn model(State(Sidecar { client, .. }): State<Sidecar>, Path(id): Path<String>) -> Response {
    let session = match client.session().await {
        Ok(session) => session,
        Err(error) => return failed(&error),
    };
    match allowed(&client, &session).find(|offer| names(&id, offer)) {
        Some(offer) => Json(model_object(&session, offer)).into_response(),
        None => failed(&ClientError::Model {
            model: shown(&id),
            message: "no model of that name is both on the allow-list and offered; GET /v1/models lists them".into(),
        }),
    }
}

/// The offers that the allow-list has, too.
fn allowed<'a>(client: &'a Client, session: &'a Session) -> impl Iterator<Item = &'a ModelOffer> {
    session.keyset().models.iter().filter(|offer| {
        let model = client.models().get(&offer.id);
        model.is_some_and(|model| model.differs(offer).is_none())
    })
}

/// Whether a name, with or without a digest, is of this offer.
fn names(id: &str, offer: &ModelOffer) -> bool {
    pinned(id)
        .is_some_and(|(bare, root)| bare == offer.id && root.is_none_or(|root| root == offer.root))
}

fn model_object(session: &Session, offer: &ModelOffer) -> Value {
    json!({
        "id": offer.id,
        "object": "model",
        "created": 0,
        "owned_by": session.keyset().payee.to_string(),
        "x_model_digest": format!("sha256:{}", offer.root),
        "x_quant": offer.quantisation,
        "x_endpoint": offer.endpoint.path(),
        "context": offer.context_tokens,
        "price": {
            "in": offer.prices.prompt, "cached": offer.prices.cached, "out": offer.prices.completion,
            "currency": CURRENCY, "unit": 1_000_000,
        },
        "attestation": "verified",
    })
}

async fn attestation(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    match client.session().await {
        Ok(session) => Json(attestation_object(&session)).into_response(),
        Err(error) => failed(&error),
    }
}

/// The evidence as a file for `measurements bundle verify`.
async fn bundle(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    match client.session().await {
        Ok(session) => {
            let kind = [(header::CONTENT_TYPE, "application/cbor")];
            (kind, session.bundle().to_vec()).into_response()
        }
        Err(error) => failed(&error),
    }
}

async fn receipt(
    State(Sidecar { client, .. }): State<Sidecar>,
    Path(id): Path<String>,
) -> Response {
    let mut digest = [0; 32];
    if hex::decode_to_slice(&id, &mut digest).is_err() {
        return named(
            400,
            "invalid_request",
            "a receipt's id is 64 hexadecimal characters",
        );
    }
    let stored = match client.receipt(&ReceiptDigest(digest)) {
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

/// An error as the OpenAI API shows it. The SDKs obey `retry-after` and `x-should-retry`.
fn failed(error: &ClientError) -> Response {
    let mut response = (status(error), Json(error_object(error))).into_response();
    let retry = HeaderValue::from_static(if error.retryable() { "true" } else { "false" });
    response.headers_mut().insert("x-should-retry", retry);
    if error.retryable() && matches!(error.status(), 429 | 503) {
        let seconds = HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    response
}

fn status(error: &ClientError) -> StatusCode {
    StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY)
}

fn named(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let kind = openai::error_type(status.as_u16());
    let error = json!({"error": {
        "message": message, "type": kind, "code": code, "param": null,
        "x_job": {"executed": Executed::No.as_str(), "retryable": false},
    }});
    (status, Json(error)).into_response()
}

/// A refusal that another attempt, unchanged, need not meet.
fn later(status: u16, code: &str, message: &str) -> Response {
    let kind = openai::error_type(status);
    let error = json!({"error": {
        "message": message, "type": kind, "code": code, "param": null,
        "x_job": {"executed": Executed::No.as_str(), "retryable": true},
    }});
    let retry = [("x-should-retry", "true"), ("retry-after", "1")];
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    (status, retry, Json(error)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_of_another_origin_is_refused() {
        let headers = |origins: &[&str]| {
            let host = HeaderValue::from_static("127.0.0.1:10000");
            let mut headers = HeaderMap::from_iter([(header::HOST, host)]);
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            headers
        };
        let own = "http://127.0.0.1:10000";
        let answer = |origins: &[&str]| refused(&Access::Open, &headers(origins), "/v1/models");
        assert!(answer(&[]).is_none(), "no browser");
        assert!(answer(&[own]).is_none());
        for bad in [
            &["null"][..],
            &["http://evil.example"],
            &["http://127.0.0.1:3000"],
            &["https://127.0.0.1:10000"],
            &[own, "http://evil.example"],
        ] {
            let refused = answer(bad).unwrap_or_else(|| panic!("{bad:?} is let in"));
            assert_eq!(refused.status(), StatusCode::FORBIDDEN);
        }
    }

    #[test]
    fn a_web_page_cannot_name_itself_as_the_host() {
        for good in [
            "127.0.0.1:10000",
            "localhost:10000",
            "localhost",
            "[::1]:10000",
        ] {
            assert!(is_address_or_localhost(good), "{good}");
        }
        for bad in [
            "evil.example:10000",
            "localhost.evil.example",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert!(!is_address_or_localhost(bad), "{bad}");
        }
    }
}
