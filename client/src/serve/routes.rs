//! Every route, once: what is served is what `/openapi.json` describes.

use super::api::{APIS, Api};
use super::jobs::answers;
use super::{Sidecar, books, metrics, openapi, quotes, receipts, responses, worker};
use axum::routing::{MethodRouter, delete, get, post};

/// A route with its description.
pub(super) struct Route {
    pub(super) method: &'static str,
    /// With parameters in braces, as axum writes them.
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    /// Fields that a body must have; `None` where there is no body.
    pub(super) body: Option<&'static [&'static str]>,
    /// Parameters of the query.
    pub(super) query: &'static [&'static str],
    /// What a good answer is, besides server-sent events where the body may ask for them.
    pub(super) answer: &'static str,
    pub(super) handler: MethodRouter<Sidecar>,
}

const JSON: &str = "application/json";

/// All of them.
pub(super) fn routes() -> Vec<Route> {
    let mut routes = vec![
        reads(
            "/healthz",
            "Whether a job could be answered now; needs no key",
            get(worker::health),
        ),
        reads(
            "/v1/models",
            "Models that are allowed and offered, with prices",
            get(worker::models),
        ),
        reads(
            "/v1/models/{*id}",
            "One of these models",
            get(worker::model),
        ),
        reads(
            "/v1/attestation",
            "What was verified of the worker",
            get(worker::attestation),
        ),
        Route {
            answer: "application/cbor",
            ..reads(
                "/v1/attestation/bundle",
                "Its evidence, for `measurements bundle verify`",
                get(worker::bundle),
            )
        },
        Route {
            answer: wire::CMW_CBOR,
            ..reads(
                "/v1/attestation/cmw",
                "Evidence and verdict as a RATS Conceptual Message Wrapper (RFC 9999)",
                get(worker::cmw),
            )
        },
        Route {
            answer: wire::EAT_JSON,
            ..reads(
                "/v1/attestation/eat",
                "The verdict as an unsigned Entity Attestation Token (RFC 9711)",
                get(worker::eat),
            )
        },
        reads(
            "/v1/receipts/{id}",
            "A receipt on file",
            get(receipts::receipt),
        ),
        Route {
            answer: "application/cbor",
            ..reads(
                "/v1/receipts/{id}/proof",
                "Its proof in one file, for `chrysalis verify`",
                get(receipts::proof),
            )
        },
        posts(
            receipts::VERIFY,
            "Whether a receipt was signed by a worker that this sidecar verified; offline",
            &["receipt"],
            post(receipts::verify),
        ),
        Route {
            query: &["model", "text", "max_tokens"],
            ..reads(
                quotes::QUOTES,
                "What a text would cost",
                get(quotes::of_text),
            )
        },
        posts(
            quotes::QUOTES,
            "What a request would cost",
            &["path", "body"],
            post(quotes::of_request),
        ),
        Route {
            query: &["days"],
            ..reads(
                "/v1/usage",
                "Jobs, tokens and money by day, model and key",
                get(books::usage),
            )
        },
        reads(
            "/v1/responses/{id}",
            "A response that is kept",
            get(responses::show),
        ),
        Route {
            method: "delete",
            ..reads(
                "/v1/responses/{id}",
                "Forget a response",
                delete(responses::delete),
            )
        },
        posts(
            quotes::COUNT,
            "Tokens of a message's prompt",
            &["model", "messages"],
            post(quotes::count),
        ),
        Route {
            answer: "text/plain",
            ..reads("/metrics", "Figures for Prometheus", get(metrics::metrics))
        },
        reads("/openapi.json", "This description", get(openapi::document)),
    ];
    routes.extend(APIS.map(|api| {
        let (summary, body): (_, &[&str]) = match api {
            Api::Embeddings => ("Vectors of texts (OpenAI API)", &["model", "input"]),
            Api::Rerank => (
                "Rank documents by a query (Cohere's and Jina's shape)",
                &["model", "query", "documents"],
            ),
            Api::Chat => (
                "Continue a conversation (OpenAI API)",
                &["model", "messages"],
            ),
            Api::Completions => (
                "Continue a prompt as it is (OpenAI API)",
                &["model", "prompt"],
            ),
            Api::Responses => (
                "Continue a conversation (OpenAI API, responses)",
                &["model", "input"],
            ),
            Api::Messages => (
                "Continue a conversation (Anthropic API)",
                &["model", "max_tokens", "messages"],
            ),
        };
        posts(api.path(), summary, body, answers(api))
    }));
    routes
}

fn reads(path: &'static str, summary: &'static str, handler: MethodRouter<Sidecar>) -> Route {
    Route {
        method: "get",
        path,
        summary,
        body: None,
        query: &[],
        answer: JSON,
        handler,
    }
}

fn posts(
    path: &'static str,
    summary: &'static str,
    body: &'static [&'static str],
    handler: MethodRouter<Sidecar>,
) -> Route {
    Route {
        method: "post",
        body: Some(body),
        ..reads(path, summary, handler)
    }
}
