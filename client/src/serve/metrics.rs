//! Figures for Prometheus. Nothing here is made from prompts or answers: no token is counted, and of money only what the
//! payee sees in any case.

use super::Sidecar;
use super::routes::routes;
use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, PoisonError};

/// How many requests each route had, by the status of their answers.
pub(super) struct Requests {
    counts: Mutex<BTreeMap<(&'static str, u16), u64>>,
    paths: Vec<&'static str>,
}

impl Default for Requests {
    fn default() -> Self {
        Requests {
            counts: Mutex::default(),
            paths: routes().iter().map(|route| route.path).collect(),
        }
    }
}

impl Requests {
    /// The route that a path belongs to, or `none`. A path itself is never shown: it may name anything.
    fn route(&self, path: &str) -> &'static str {
        let fits = |route: &&&str| match route.split_once('{') {
            Some((before, _)) => path.len() > before.len() && path.starts_with(before),
            None => path == **route,
        };
        let exact = self.paths.iter().find(|route| **route == path);
        exact
            .or_else(|| self.paths.iter().find(fits))
            .copied()
            .unwrap_or("none")
    }

    fn count(&self, path: &str, status: u16) {
        // One sum: whole, whoever panicked.
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((self.route(path), status)).or_default() += 1;
    }

    fn lines(&self) -> String {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = counts.iter().map(|((route, status), count)| {
            format!("chrysalis_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}\n")
        });
        lines.collect()
    }
}

/// Counts a request by its route and status.
pub(super) async fn count(
    State(sidecar): State<Sidecar>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let response = next.run(request).await;
    sidecar.requests.count(&path, response.status().as_u16());
    response
}

/// The figures as text.
pub(super) async fn metrics(State(sidecar): State<Sidecar>) -> Response {
    let (client, budget) = (&sidecar.client, sidecar.client.budget());
    let mut text = String::new();
    let mut figure = |name: &str, kind: &str, help: &str, value: Option<String>| {
        if let Some(value) = value {
            let head = format!("# HELP chrysalis_{name} {help}\n# TYPE chrysalis_{name} {kind}\n");
            let line = match name {
                "requests_total" => value,
                name => format!("chrysalis_{name} {value}\n"),
            };
            // Writing to a text does not fail.
            let _ = write!(text, "{head}{line}");
        }
    };
    let session = client.known_session();
    let session = session.as_ref();
    let requests = Some(sidecar.requests.lines()).filter(|lines| !lines.is_empty());
    figure(
        "requests_total",
        "counter",
        "Requests by route and status.",
        requests,
    );
    let promised = budget
        .cumulative()
        .ok()
        .map(|promised| promised.to_string());
    let help = "Everything promised on the channel, in nanoTON.";
    figure("promised_nano", "counter", help, promised);
    let held = Some(budget.in_flight().to_string());
    let help = "The most that jobs in flight may cost, in nanoTON.";
    figure("in_flight_nano", "gauge", help, held);
    let deposit = session.map(|session| session.channel().state.deposit.to_string());
    let help = "The channel's deposit when the worker was attested, in nanoTON.";
    figure("deposit_nano", "gauge", help, deposit);
    let age = session.map(|session| session.age().as_secs().to_string());
    let help = "Seconds since the worker was attested; absent while none is.";
    figure("attestation_age_seconds", "gauge", help, age);
    let waiting = budget
        .unacknowledged()
        .ok()
        .map(|voucher| u8::from(voucher.is_some()).to_string());
    let help = "1 while the payee has not acknowledged the newest voucher.";
    figure("voucher_unacknowledged", "gauge", help, waiting);
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_counted_by_its_route_and_its_path_is_not_shown() {
        let requests = Requests::default();
        for path in [
            "/v1/models",
            "/v1/models/secret",
            "/v1/receipts/verify",
            "/v1/receipts/secret",
            "/secret",
        ] {
            requests.count(path, 200);
        }
        let lines = requests.lines();
        assert!(!lines.contains("secret"), "{lines}");
        for route in [
            "/v1/models",
            "/v1/models/{*id}",
            "/v1/receipts/verify",
            "/v1/receipts/{id}",
            "none",
        ] {
            let line = format!("chrysalis_requests_total{{route=\"{route}\",status=\"200\"}} 1\n");
            assert!(lines.contains(&line), "{route}: {lines}");
        }
    }
}
