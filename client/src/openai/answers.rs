//! What the application sees of an answer's events and of an error: the objects of the OpenAI API.

use crate::error::ClientError;
use serde_json::{Value, json};
use wire::{AnswerEvent, Finish, Vectors};

/// What all objects of one answer have in common.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// `chatcmpl-` and the job's id.
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created_unix_s: u64,
}

impl Head {
    /// An event as its object, without the token ids.
    pub(crate) fn object(&self, event: &AnswerEvent) -> Value {
        let (delta, finish) = match event {
            AnswerEvent::Start => (json!({"role": "assistant", "content": ""}), None),
            AnswerEvent::Text { content, .. } => (json!({"content": content}), None),
            AnswerEvent::End { finish, .. } => (json!({}), Some(finish_reason(*finish))),
            AnswerEvent::Embeddings(vectors) => return self.embeddings(vectors),
        };
        json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created_unix_s, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    }

    fn embeddings(&self, vectors: &Vectors) -> Value {
        let floats = |bytes: &[u8]| -> Vec<f32> {
            let (floats, _) = bytes.as_chunks::<4>();
            floats
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        };
        let data = vectors.iter().enumerate().map(|(index, bytes)| {
            json!({"object": "embedding", "index": index, "embedding": floats(bytes)})
        });
        json!({"object": "list", "data": data.collect::<Vec<_>>(), "model": self.model})
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
