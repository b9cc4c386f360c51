//! The shapes of answers: how each API writes what one job made.
//!
//! A job speaks in chunks of the OpenAI API's chat completions ([`crate::openai`]); a shape turns these into its own API's
//! events and objects. Promised: what an application may take for the end of an answer, or act on as a whole call of a
//! tool, is written only by [`Shape::end`] and [`Shape::whole`], which have a verified answer.

mod items;
mod messages;
mod openai;
mod rerank;
mod responses;

pub(crate) use messages::{Messages, message_error};
pub(crate) use openai::{Chat, Completions, Embeddings};
pub(crate) use rerank::Rerank;
pub(crate) use responses::Responses;

use crate::client::Answer;
use serde_json::Value;

/// How an API writes an answer.
pub(crate) trait Shape: Send {
    /// What is sent for a chunk as it arrives, as server-sent events; possibly nothing.
    fn event(&mut self, chunk: &Value) -> String;

    /// The end of a stream, once its answers are verified and paid. There is at least one.
    fn end(&mut self, answers: &[Answer]) -> String;

    /// The whole answers as one object, where nothing was streamed. There is at least one, or the cache of embeddings had all.
    fn whole(&mut self, answers: &[Answer]) -> Value;
}

/// The answer where an API has one for each request.
fn only(answers: &[Answer]) -> &Answer {
    let answer = answers.first();
    answer.expect("Client::answers gives at least one")
}

/// Whether a chunk says why the answer ended: that is left to [`Shape::end`].
fn ends(chunk: &Value) -> bool {
    !chunk["choices"][0]["finish_reason"].is_null()
}

/// The reason for the end, as a chat completion's last chunk has it.
fn reason(answer: &Answer) -> &str {
    let last = answer.events.last();
    let reason = last.map(|last| &last["choices"][0]["finish_reason"]);
    reason.and_then(Value::as_str).unwrap_or("length")
}

/// One server-sent event with a name.
fn named(event: &Value) -> String {
    let name = event["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {event}\n\n")
}
