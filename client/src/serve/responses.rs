//! Responses that are kept: shown again and forgotten.

use super::{Sidecar, named};
use crate::budget::Spender;
use crate::error::shown;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

/// A response as it was given.
pub(super) async fn show(
    State(sidecar): State<Sidecar>,
    Extension(spender): Extension<Spender>,
    Path(id): Path<String>,
) -> Response {
    match sidecar.stored.object(&id, &spender) {
        Some(object) => Json(object).into_response(),
        None => not_found(&id),
    }
}

/// Forgets a response. Those that continue it keep what was said.
pub(super) async fn delete(
    State(sidecar): State<Sidecar>,
    Extension(spender): Extension<Spender>,
    Path(id): Path<String>,
) -> Response {
    match sidecar.stored.delete(&id, &spender) {
        true => Json(json!({"id": id, "object": "response", "deleted": true})).into_response(),
        false => not_found(&id),
    }
}

fn not_found(id: &str) -> Response {
    let message = format!("no response {} is kept here under this key", shown(id));
    named(404, "response_not_found", &message)
}
