//! What is known of the worker: whether it could answer, what it offers, what was verified of it.

use super::{Sidecar, failed};
use crate::client::Client;
use crate::error::{ClientError, shown};
use crate::job::pinned;
use crate::objects::{CURRENCY, attestation_object};
use crate::openai::error_object;
use crate::session::Session;
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use wire::{CMW_CBOR, Cmw, EAT_JSON, ModelOffer};

/// Whether a job could be answered now, and if not, why.
pub(super) async fn health(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
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

pub(super) async fn models(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    let session = match client.session().await {
        Ok(session) => session,
        Err(error) => return failed(&error),
    };
    let data: Vec<Value> = allowed(&client, &session)
        .map(|offer| model_object(&session, offer))
        .collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

pub(super) async fn model(
    State(Sidecar { client, .. }): State<Sidecar>,
    Path(id): Path<String>,
) -> Response {
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

pub(super) async fn attestation(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    match client.session().await {
        Ok(session) => Json(attestation_object(&session, session.registry())).into_response(),
        Err(error) => failed(&error),
    }
}

/// The evidence with what was made of it, wrapped for verifiers of other makes.
pub(super) async fn cmw(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    match client.session().await {
        Ok(session) => {
            let wrapper = Cmw {
                bundle: session.bundle().to_vec(),
                nonce: *session.nonce(),
                result: Some(session.eat().to_cbor()),
            };
            ([(header::CONTENT_TYPE, CMW_CBOR)], wrapper.encode()).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// What was verified, as a token.
pub(super) async fn eat(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    match client.session().await {
        Ok(session) => {
            let token = session.eat().to_json().to_string();
            ([(header::CONTENT_TYPE, EAT_JSON)], token).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// The evidence as a file for `measurements bundle verify`.
pub(super) async fn bundle(State(Sidecar { client, .. }): State<Sidecar>) -> Response {
    match client.session().await {
        Ok(session) => {
            let kind = [(header::CONTENT_TYPE, "application/cbor")];
            (kind, session.bundle().to_vec()).into_response()
        }
        Err(error) => failed(&error),
    }
}
