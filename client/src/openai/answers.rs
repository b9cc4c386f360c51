//! What the application sees of an answer and of an error: the objects of the OpenAI API.

use crate::error::ClientError;
use serde_json::{Value, json};
use wire::Finish;

/// What all objects of one answer have in common.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// `chatcmpl-` and the job's id.
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created_unix_s: u64,
}

impl Head {
    /// A completion begins.
    pub(crate) fn start(&self) -> Value {
        self.chunk(json!({"role": "assistant", "content": ""}), None)
    }

    /// The next text of a completion, and the log probabilities of its tokens where they are asked for.
    pub(crate) fn text(&self, content: &str, logprobs: Vec<Value>) -> Value {
        let mut chunk = self.chunk(json!({"content": content}), None);
        if !logprobs.is_empty() {
            chunk["choices"][0]["logprobs"] = json!({"content": logprobs});
        }
        chunk
    }

    /// A completion is whole.
    pub(crate) fn end(&self, finish: Finish) -> Value {
        self.chunk(json!({}), Some(finish_reason(finish)))
    }

    fn chunk(&self, delta: Value, finish: Option<&str>) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created_unix_s, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    }

    /// The vectors, all of `width` numbers.
    pub(crate) fn embeddings(&self, numbers: &[f32], width: usize) -> Value {
        let vectors = numbers.chunks(width.max(1)).enumerate();
        let data = vectors.map(
            |(index, vector)| json!({"object": "embedding", "index": index, "embedding": vector}),
        );
        json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": self.model})
    }
}

/// A token and its log probability. The bytes of a token that is a part of a character are not known here.
pub(crate) fn logprob_entry(token: &str, logprob: f32) -> Value {
    let whole = !token.contains(char::REPLACEMENT_CHARACTER);
    let bytes = whole.then_some(token.as_bytes());
    json!({"token": token, "logprob": logprob, "bytes": bytes})
}

/// The log probabilities of all tokens of a completion, by its events.
pub(crate) fn logprobs(events: &[Value]) -> Value {
    let parts = events.iter().filter_map(|event| {
        let content = &event["choices"][0]["logprobs"]["content"];
        content.as_array()
    });
    let all: Vec<&Value> = parts.flatten().collect();
    match all.is_empty() {
        true => Value::Null,
        false => json!({"content": all, "refusal": null}),
    }
}

/// Why an answer ended, as the OpenAI API says it.
pub(crate) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length | Finish::Deadline | Finish::Cancelled | Finish::Stalled => "length",
    }
}

/// The error object of the OpenAI API, with what a caller needs to know before it asks again.
pub fn error_object(error: &ClientError) -> Value {
    json!({"error": {
        "message": error.to_string(),
        "type": error_type(error.status()),
        "code": error.code(),
        "param": error.param(),
        "x_job": {"executed": error.executed().as_str(), "retryable": error.retryable()},
    }})
}

/// The kind of error that the OpenAI API names besides its code.
pub(crate) fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}
