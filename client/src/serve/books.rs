//! What was spent, by day, model and key, out of the books on disk.

use super::{Sidecar, failed, named};
use crate::budget::{DEFAULT, Spender, Spent};
use crate::error::day;
use crate::limits::USAGE_DAYS_MAX;
use crate::session::unix_s;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use settlement::Nano;
use std::collections::HashMap;

/// Days that are shown unless others are asked for.
const DAYS_DEFAULT: u64 = 30;
const DAY_S: u64 = 86_400;

/// The last days' jobs, tokens and money. Whoever shows a key of its own sees its own.
pub(super) async fn usage(
    State(Sidecar { client, .. }): State<Sidecar>,
    Extension(spender): Extension<Spender>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    if let Some(other) = query.keys().find(|name| *name != "days") {
        let message = format!(
            "`{}` is no parameter here; `days` is",
            crate::error::shown(other)
        );
        return named(400, "unknown_parameter", &message);
    }
    let days = query.get("days").map(|days| days.parse::<u64>().ok());
    let days = days.unwrap_or(Some(DAYS_DEFAULT));
    let Some(days) = days.filter(|days| (1..=USAGE_DAYS_MAX).contains(days)) else {
        let message = format!("`days` is a whole number from 1 to {USAGE_DAYS_MAX}");
        return named(400, "invalid_request", &message);
    };
    let today = match unix_s() {
        Ok(now) => now / DAY_S,
        Err(error) => return failed(&error),
    };
    let from = (today + 1).saturating_sub(days);
    let spent = match client.budget().spent_since(from) {
        Ok(spent) => spent.into_iter(),
        Err(error) => return failed(&error.into()),
    };
    let all = spender.name() == DEFAULT;
    let shown: Vec<Spent> = spent
        .filter(|spent| all || spent.key == spender.name())
        .collect();
    let cost = shown
        .iter()
        .fold(0u64, |sum, spent| sum.saturating_add(spent.cost.0));
    Json(json!({
        "object": "list",
        "from": day(from * DAY_S),
        "to": day(today * DAY_S),
        "data": shown.iter().map(row).collect::<Vec<_>>(),
        "total": {"jobs": shown.iter().map(|spent| spent.jobs).sum::<u64>(), "cost_nano": Nano(cost)},
    }))
    .into_response()
}

fn row(spent: &Spent) -> Value {
    json!({
        "day": day(spent.day.saturating_mul(DAY_S)),
        "model": spent.model,
        "key": spent.key,
        "jobs": spent.jobs,
        "tokens": {"prompt": spent.prompt, "cached": spent.cached, "completion": spent.completion},
        "cost_nano": spent.cost,
    })
}
