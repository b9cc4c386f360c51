//! What a request would cost. Its tokens are counted here, and nothing is sent to the worker.

use super::api::{APIS, Read, fields, looked};
use super::jobs::{Given, given, lenient, prompt_tokens};
use super::{Sidecar, failed, named};
use crate::anthropic;
use crate::ask::{Ask, Conversation, Role, Texts, Turn};
use crate::budget::Spender;
use crate::client::Client;
use crate::error::ClientError;
use crate::job::{Job, pinned};
use crate::limits::USAGE_DAYS_MAX;
use crate::objects::CURRENCY;
use crate::off_thread::off_thread;
use crate::openai::{self, chat};
use crate::session::{Session, unix_s};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Value, json};
use settlement::Nano;
use std::collections::HashMap;
use std::sync::Arc;
use wire::{Endpoint, Usage};

/// Where prices are asked for.
pub(super) const QUOTES: &str = "/v1/quotes";
/// Where the tokens of a message are counted.
pub(super) const COUNT: &str = "/v1/messages/count_tokens";

/// The price of one text: `?model=…&text=…`, and `max_tokens` if it is to be continued.
pub(super) async fn of_text(
    State(Sidecar { client, .. }): State<Sidecar>,
    Extension(spender): Extension<Spender>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    match text_quote(&client, spender, &query).await {
        Ok(quote) => Json(quote).into_response(),
        Err(error) => failed(&error),
    }
}

async fn text_quote(
    client: &Arc<Client>,
    spender: Spender,
    query: &HashMap<String, String>,
) -> Result<Value, ClientError> {
    let known = ["model", "text", "max_tokens"];
    if let Some(other) = query.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(openai::unknown(other));
    }
    let given = |name: &str| query.get(name).ok_or_else(|| openai::missing(name));
    let (model, text) = (given("model")?, given("text")?);
    let text = openai::bounded("text", text.clone())?;
    let session = client.session().await?;
    let offer = pinned(model).and_then(|(bare, _)| session.keyset().model(bare));
    let ask = match offer.map(|offer| offer.endpoint) {
        Some(Endpoint::Embeddings) => Ask::Embeddings(Texts::of(model.clone(), vec![text])),
        _ => {
            let said = vec![Turn::says(Role::User, text)];
            let mut asked = Conversation::new(model.clone(), said);
            if let Some(max) = query.get("max_tokens") {
                let max = max.parse::<u64>().map_or(Value::Null, Value::from);
                asked.tokens_max = chat::tokens("max_tokens", &max)?;
            }
            Ask::Chat(asked)
        }
    };
    quote(client, session, spender, ask).await
}

/// The price of a request: `{"path": "/v1/chat/completions", "body": {…}}`.
pub(super) async fn of_request(
    State(sidecar): State<Sidecar>,
    Extension(spender): Extension<Spender>,
    headers: HeaderMap,
    body: Given,
) -> Response {
    let posted = match given(QUOTES, &headers, body) {
        Ok(posted) => posted,
        Err(refused) => return *refused,
    };
    let (path, body) = (&posted.body["path"], &posted.body["body"]);
    let api = APIS.into_iter().find(|api| *path == api.path());
    let Some(api) = api.filter(|_| body.is_object()) else {
        let paths = APIS.map(|api| api.path()).join(", ");
        let message = format!("`path` is one of {paths}, and `body` what would be posted there");
        return named(400, "invalid_request", &message);
    };
    let read = lenient(body.clone(), sidecar.unknown, |body| api.read(body));
    let quoted = async {
        let ask = match read?.0 {
            Read::OpenAi(request) => request.ask,
            Read::Rerank(request) => request.ask,
            Read::Messages(request) => request.ask,
            Read::Responses(request) => {
                let turns = request.turns(&[])?;
                request.ask(turns)
            }
        };
        let session = sidecar.client.session().await?;
        quote(&sidecar.client, session, spender, ask).await
    };
    match quoted.await {
        Ok(quote) => Json(quote).into_response(),
        Err(error) => failed(&error),
    }
}

/// How many tokens the prompt of a message has.
pub(super) async fn count(
    State(sidecar): State<Sidecar>,
    headers: HeaderMap,
    body: Given,
) -> Response {
    let posted = match given(COUNT, &headers, body) {
        Ok(posted) => posted,
        Err(refused) => return *refused,
    };
    let read = |body: &Value| anthropic::parse(fields(body)?, true);
    let counted = async {
        let (request, _) = lenient(posted.body, sidecar.unknown, read)?;
        prompt_tokens(&sidecar.client, &request.ask).await
    };
    match counted.await {
        Ok(tokens) => Json(json!({"input_tokens": tokens})).into_response(),
        Err(error) => failed(&error),
    }
}

async fn quote(
    client: &Arc<Client>,
    session: Session,
    spender: Spender,
    ask: Ask,
) -> Result<Value, ClientError> {
    let client = Arc::clone(client);
    off_thread(move || quote_now(&client, &session, &spender, ask)).await
}

/// The price of all jobs of a request together. Texts whose vectors are kept cost nothing.
fn quote_now(
    client: &Client,
    session: &Session,
    spender: &Spender,
    ask: Ask,
) -> Result<Value, ClientError> {
    let (mut answers, mut kept) = (ask.choices(), 0);
    let ask = match ask {
        Ask::Embeddings(all) => {
            let asked = looked(client, spender, all.clone()).0;
            kept = all.inputs.len() - asked.inputs.len();
            // With nothing left to ask there is no job.
            answers = u32::from(!asked.inputs.is_empty());
            Ask::Embeddings(if answers == 0 { all } else { asked })
        }
        ask => ask,
    };
    let counted = Job::count(session, ask)?;
    let (offer, most) = (&counted.offer, counted.most);
    let all = |tokens: u32| u64::from(tokens) * u64::from(answers);
    let of_all = |cost: Nano| Nano(cost.0.saturating_mul(answers.into()));
    let cost = |completion: u32| {
        let usage = Usage { completion, ..most };
        let cost = offer.prices.cost(&usage, session.keyset().price_step);
        of_all(cost.unwrap_or(Nano(u64::MAX)))
    };
    let (usual, jobs) = usual_completion(client, &offer.id)?;
    let usual = usual.map_or(most.completion, |usual| usual.min(most.completion));
    Ok(json!({
        "object": "quote",
        "model": offer.id,
        // Each answer is a job, which reads the prompt and is billed for it.
        "answers": answers,
        "texts_kept": kept,
        "prompt_tokens": all(most.prompt),
        "completion_tokens_max": all(most.completion),
        "completion_tokens_estimate": all(usual),
        // Without jobs in the books the estimate is the most.
        "estimate_from_jobs": jobs,
        "cost_min_nano": cost(0),
        "cost_estimate_nano": cost(usual),
        "cost_max_nano": of_all(counted.estimate),
        "price": {
            "in": offer.prices.prompt, "cached": offer.prices.cached, "out": offer.prices.completion,
            "currency": CURRENCY, "unit": 1_000_000,
        },
    }))
}

/// The mean length of a model's completions in the books, rounded up, and of how many jobs.
fn usual_completion(client: &Client, model: &str) -> Result<(Option<u32>, u64), ClientError> {
    let from = (unix_s()? / 86_400).saturating_sub(USAGE_DAYS_MAX);
    let spent = client.budget().spent_since(from)?;
    let own = spent.iter().filter(|spent| spent.model == model);
    let (tokens, jobs) = own.fold((0u64, 0u64), |(tokens, jobs), spent| {
        (
            tokens.saturating_add(spent.completion),
            jobs.saturating_add(spent.jobs),
        )
    });
    let mean = (jobs > 0).then(|| tokens.div_ceil(jobs));
    Ok((
        mean.map(|mean| u32::try_from(mean).unwrap_or(u32::MAX)),
        jobs,
    ))
}
