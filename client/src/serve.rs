//! The OpenAI API on the loopback.
//!
//! Trusted: whoever can reach the address it listens on, since every request spends the budget. Requests that a web
//! page could forge are refused: a body must say that it is JSON, and the `Host` must be an address or `localhost` (a
//! page that rebinds its own name to the loopback cannot say that). Promised: `[DONE]` or a whole JSON answer is
//! written only after the receipt was verified; an answer that fails ends with an error object.

use crate::client::Client;
use crate::error::{ClientError, Executed};
use crate::limits::{EVENTS_QUEUED_MAX, REQUEST_BYTES_MAX};
use crate::objects::{CURRENCY, attestation_object, chat_object, embeddings_object, final_chunk};
use crate::openai::{self, error_object};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use wire::{Digest, Endpoint, Receipt};

/// Serves until the listener fails.
pub async fn serve(client: Arc<Client>, listener: TcpListener) -> std::io::Result<()> {
    axum::serve(listener, router(client)).await
}

/// The routes.
pub fn router(client: Arc<Client>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { Json(json!({"ok": true})) }))
        .route("/v1/models", get(models))
        .route("/v1/attestation", get(attestation))
        .route("/v1/receipts/{id}", get(receipt))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/chat/completions", post(chat))
        .fallback(|| async { named(404, "not_found", "this sidecar has no such path") })
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(middleware::from_fn(refuse_rebinding))
        .with_state(client)
}

async fn refuse_rebinding(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    if host.is_some_and(is_address_or_localhost) {
        return next.run(request).await;
    }
    named(
        403,
        "host_refused",
        "the Host header must be an IP address or localhost",
    )
}

fn is_address_or_localhost(host: &str) -> bool {
    let bare = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = bare.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || address.parse::<IpAddr>().is_ok()
}

async fn models(State(client): State<Arc<Client>>) -> Response {
    let session = match client.session().await {
        Ok(session) => session,
        Err(error) => return failed(&error),
    };
    let offers = session.keyset().models.iter();
    let allowed = offers.filter(|offer| {
        let model = client.models().get(&offer.id);
        model.is_some_and(|m| m.root == offer.root && m.tokenizer_digest == offer.tokenizer)
    });
    let data = allowed.map(|offer| {
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
    });
    Json(json!({"object": "list", "data": data.collect::<Vec<_>>()})).into_response()
}

async fn attestation(State(client): State<Arc<Client>>) -> Response {
    match client.session().await {
        Ok(session) => Json(attestation_object(&session)).into_response(),
        Err(error) => failed(&error),
    }
}

async fn receipt(State(client): State<Arc<Client>>, Path(id): Path<String>) -> Response {
    let mut digest = [0; 32];
    if hex::decode_to_slice(&id, &mut digest).is_err() {
        return named(
            400,
            "invalid_request",
            "a receipt's id is 64 hexadecimal characters",
        );
    }
    let stored = match client.receipt(&Digest(digest)) {
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

async fn embeddings(
    State(client): State<Arc<Client>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body = match read(&headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    let delivery = match openai::parse(Endpoint::Embeddings, &body) {
        Ok(request) => request.delivery,
        Err(error) => return failed(&error),
    };
    // A caller that hangs up must not leave a verified answer unpaid, so the job has a task of its own.
    let job = tokio::spawn(async move { client.embeddings(&body).await });
    match joined(job.await) {
        Ok(answer) => Json(embeddings_object(&answer, delivery)).into_response(),
        Err(error) => failed(&error),
    }
}

async fn chat(State(client): State<Arc<Client>>, headers: HeaderMap, body: Bytes) -> Response {
    let body = match read(&headers, &body) {
        Ok(body) => body,
        Err(refused) => return *refused,
    };
    // Read here already, so that a bad request gets its status and not a stream.
    let request = match openai::parse(Endpoint::Chat, &body) {
        Ok(request) => request,
        Err(error) => return failed(&error),
    };
    if request.delivery.stream {
        return stream(client, body, request.delivery.include_usage).await;
    }
    let job = tokio::spawn(async move { client.chat(&body, &mut |_| ()).await });
    match joined(job.await) {
        Ok(answer) => Json(chat_object(&answer)).into_response(),
        Err(error) => failed(&error),
    }
}

/// Server-sent events. The status waits for the first event: an error before it is an ordinary HTTP error.
async fn stream(client: Arc<Client>, body: Value, include_usage: bool) -> Response {
    let (sender, mut events) = mpsc::channel::<Result<String, ClientError>>(EVENTS_QUEUED_MAX);
    tokio::spawn(async move {
        // A reader that stopped reading loses events, never the verification and the payment.
        let mut sink = |event: &Value| drop(sender.try_send(Ok(line(event))));
        let last = match client.chat(&body, &mut sink).await {
            Ok(answer) => Ok(format!(
                "{}data: [DONE]\n\n",
                line(&final_chunk(&answer, include_usage))
            )),
            Err(error) => Err(error),
        };
        let _ = sender.send(last).await;
    });
    let first = match events.recv().await {
        Some(Ok(first)) => first,
        Some(Err(error)) => return failed(&error),
        None => return named(500, "internal", "the job ended without a word"),
    };
    let rest = futures_util::stream::unfold(events, |mut events| async move {
        let line = match events.recv().await? {
            Ok(line) => line,
            Err(error) => line(&error_object(&error)),
        };
        Some((line, events))
    });
    let first = futures_util::stream::once(async { first });
    let lines = futures_util::StreamExt::chain(first, rest);
    let lines = futures_util::StreamExt::map(lines, Ok::<_, std::convert::Infallible>);
    let mut response = Response::new(Body::from_stream(lines));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn line(event: &Value) -> String {
    format!("data: {event}\n\n")
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Value, Box<Response>> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next()).map(str::trim);
    if kind != Some("application/json") {
        let message = "the request needs the header content-type: application/json";
        return Err(Box::new(named(415, "unsupported_media_type", message)));
    }
    serde_json::from_slice(body).map_err(|e| {
        let message = format!("the body is not JSON: {e}");
        Box::new(named(400, "invalid_request", &message))
    })
}

fn joined<T>(
    job: Result<Result<T, ClientError>, tokio::task::JoinError>,
) -> Result<T, ClientError> {
    job.unwrap_or_else(|_| Err(ClientError::Internal("the job's task ended early".into())))
}

fn failed(error: &ClientError) -> Response {
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    (status, Json(error_object(error))).into_response()
}

fn named(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let error = json!({"error": {
        "message": message, "type": "invalid_request_error", "code": code, "param": null,
        "x_job": {"executed": Executed::No.as_str(), "retryable": false},
    }});
    (status, Json(error)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

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
