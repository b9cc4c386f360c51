//! The OpenAI and the Anthropic API on the loopback, or on a socket.
//!
//! Trusted: whoever shows a key of [`Access::Keys`], or may enter the directory of the socket, since every request
//! spends the budget. [`Access::Open`] leaves that out where its owner says so. A server that took the port first would
//! get the key with the first request, and the prompts; a socket in a directory of this user's cannot be taken.
//! Requests that a web page could forge are refused besides: a body must say that it is JSON, the `Host` must be an
//! address or `localhost` (a page that rebinds its own name to the loopback cannot say that), and an `Origin` must be
//! the sidecar's own. No answer has a CORS header. Promised: `[DONE]` or a whole JSON answer is written only after the
//! receipt was verified; an answer that fails ends with an error object.

mod api;
mod books;
mod idempotency;
mod jobs;
mod metrics;
mod openapi;
mod quotes;
mod receipts;
mod responses;
mod routes;
pub(crate) mod stored;
mod worker;

use crate::anthropic;
use crate::budget::{BudgetError, Spender};
use crate::client::Client;
use crate::error::{ClientError, Executed, shown};
use crate::limits::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::openai::{self, error_object};
use crate::session::unix_s;
use crate::shape::message_error;
use axum::body::to_bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::serve::Listener;
use axum::{Json, Router};
use idempotency::Keys;
use metrics::Requests;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;
use stored::Stored;
use wire::Digest;
use zeroize::Zeroizing;

/// Who may ask.
pub enum Access {
    /// Whoever shows one of these keys as `Authorization: Bearer`, as the OpenAI SDKs show theirs, or as `x-api-key`.
    Keys(Vec<(Spender, Zeroizing<String>)>),
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
    stored: Arc<Stored>,
    requests: Arc<Requests>,
    unknown: Unknown,
}

/// Serves until the listener fails, has the worker's next keys before the last ones end, and delivers vouchers besides.
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
    let renewing = Arc::clone(&client);
    tokio::select! {
        ended = axum::serve(listener, router(client, access, unknown)).into_future() => ended,
        () = renewing.renew() => Ok(()),
        () = renewing.deliver_waiting() => Ok(()),
    }
}

/// The routes, behind whoever is let in.
pub fn router(client: Arc<Client>, access: Access, unknown: Unknown) -> Router {
    let sidecar = Sidecar {
        client,
        keys: Arc::default(),
        stored: Arc::default(),
        requests: Arc::default(),
        unknown,
    };
    let counted = middleware::from_fn_with_state(sidecar.clone(), metrics::count);
    { routes::routes().into_iter() }
        .fold(Router::new(), |router, route| {
            router.route(route.path, route.handler)
        })
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
        .layer(counted)
        .with_state(sidecar)
}

async fn admit(State(access): State<Arc<Access>>, mut request: Request, next: Next) -> Response {
    let of_anthropic = request.uri().path().starts_with("/v1/messages");
    let response = match admitted(&access, request.headers(), request.uri().path()) {
        Err(refused) => *refused,
        Ok(spender) => {
            request.extensions_mut().insert(spender);
            next.run(request).await
        }
    };
    match of_anthropic && response.status().as_u16() >= 400 {
        true => in_anthropics_shape(response).await,
        false => response,
    }
}

/// An error as the Anthropic API shows it, with the same status and headers.
async fn in_anthropics_shape(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, REPLY_BYTES_MAX).await.unwrap_or_default();
    let object = serde_json::from_slice(&body).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    let object = Json(message_error(parts.status.as_u16(), &object));
    let mut response = (parts.status, object).into_response();
    response.headers_mut().extend(parts.headers);
    response
}

/// Who asks, if it may.
fn admitted(access: &Access, headers: &HeaderMap, path: &str) -> Result<Spender, Box<Response>> {
    let refuse = |status, code, message: &str| Err(Box::new(named(status, code, message)));
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if !text(header::HOST).is_some_and(is_address_or_localhost) {
        let message = "the Host header must be an IP address or localhost";
        return refuse(403, "host_refused", message);
    }
    if headers.contains_key(header::ORIGIN) && !is_own_origin(headers) {
        let message = "a web page of another origin may not use this sidecar";
        return refuse(403, "origin_refused", message);
    }
    if path.starts_with("/v1/messages")
        && let Some(version) = headers.get("anthropic-version")
        && !anthropic::VERSIONS.iter().any(|known| version == known)
    {
        let known = anthropic::VERSIONS.join(" or ");
        let message = format!("anthropic-version must be {known}");
        return refuse(400, "invalid_request", &message);
    }
    let Access::Keys(keys) = access else {
        return Ok(Spender::default());
    };
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    // Where Anthropic's SDKs show theirs.
    let shown = bearer.or_else(|| text(header::HeaderName::from_static("x-api-key")));
    // Digests are compared, so that the time tells nothing of the keys.
    let digest = |key: &str| Digest::of(key.as_bytes());
    let shown = shown.map(|shown| digest(shown.trim()));
    let mut found = None;
    for (spender, key) in keys {
        if shown == Some(digest(key)) {
            found = Some(spender.clone());
        }
    }
    match found {
        Some(spender) => Ok(spender),
        // Health tells nothing of anybody's.
        None if path == "/healthz" => Ok(Spender::default()),
        None => {
            let message = "the API key is missing or wrong; it is in the file that the sidecar names at its start \
                 (`api_key_file`)";
            refuse(401, "invalid_api_key", message)
        }
    }
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

/// An error as the OpenAI API shows it. The SDKs obey `retry-after` and `x-should-retry`.
fn failed(error: &ClientError) -> Response {
    let mut response = (status(error), Json(error_object(error))).into_response();
    let retry = HeaderValue::from_static(if error.retryable() { "true" } else { "false" });
    response.headers_mut().insert("x-should-retry", retry);
    if error.retryable() && matches!(error.status(), 429 | 503) {
        let seconds = HeaderValue::from_static("1");
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
    }
    if let ClientError::Budget(BudgetError::DayLimit { .. }) = error {
        // No SDK waits for tomorrow; a program that reads this may.
        let left = unix_s().map_or(0, |now| DAY_S - now % DAY_S);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, left.into());
    }
    response
}

const DAY_S: u64 = 86_400;

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
        let answer = |origins: &[&str]| admitted(&Access::Open, &headers(origins), "/v1/models");
        assert!(answer(&[]).is_ok(), "no browser");
        assert!(answer(&[own]).is_ok());
        for bad in [
            &["null"][..],
            &["http://evil.example"],
            &["http://127.0.0.1:3000"],
            &["https://127.0.0.1:10000"],
            &[own, "http://evil.example"],
        ] {
            let Err(refused) = answer(bad) else {
                panic!("{bad:?} is let in")
            };
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
