//! What the application sees of an answer and of an error: the objects of the OpenAI API.

use crate::error::ClientError;
use model::text::tools::Called;
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
        self.said(json!({"content": content}), logprobs)
    }

    /// The same of what the model thinks before it answers.
    pub(crate) fn thought(&self, thought: &str, logprobs: Vec<Value>) -> Value {
        self.said(json!({"reasoning_content": thought}), logprobs)
    }

    fn said(&self, delta: Value, logprobs: Vec<Value>) -> Value {
        let mut chunk = self.chunk(delta, None);
        if !logprobs.is_empty() {
            chunk["choices"][0]["logprobs"] = json!({"content": logprobs});
        }
        chunk
    }

    /// A call of a tool, the completion's `index`th: who is called under which id, then with what.
    pub(crate) fn call(&self, index: usize, call: &Called) -> [Value; 2] {
        let job = self.id.rsplit('-').next().unwrap_or_default();
        let begin = json!({"index": index, "id": format!("call_{job}_{index}"), "type": "function",
            "function": {"name": call.name, "arguments": ""}});
        let rest = json!({"index": index, "function": {"arguments": call.arguments}});
        [begin, rest].map(|part| self.chunk(json!({"tool_calls": [part]}), None))
    }

    /// A completion is whole.
    pub(crate) fn end(&self, finish: Finish, called: bool) -> Value {
        let reason = match finish {
            Finish::Stop if called => "tool_calls",
            finish => finish_reason(finish),
        };
        self.chunk(json!({}), Some(reason))
    }

    fn chunk(&self, delta: Value, finish: Option<&str>) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created_unix_s, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    }

    /// The scores, in the order of the documents.
    pub(crate) fn scores(&self, scores: &[f32]) -> Value {
        json!({"id": self.id.replacen("chatcmpl", "rerank", 1), "object": "list", "model": self.model, "scores": scores})
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

/// What the model thought, by a completion's events.
pub(crate) fn thought(events: &[Value]) -> String {
    let parts = events.iter().filter_map(|event| {
        let part = &event["choices"][0]["delta"]["reasoning_content"];
        part.as_str()
    });
    parts.collect()
}

/// The calls of a completion, by its events.
pub(crate) fn calls(events: &[Value]) -> Vec<Value> {
    let mut calls: Vec<Value> = Vec::new();
    let parts = events.iter().filter_map(|event| {
        let parts = &event["choices"][0]["delta"]["tool_calls"];
        parts.as_array()
    });
    for part in parts.flatten() {
        match (part.get("id"), calls.last_mut()) {
            (None, Some(call)) => {
                call["function"]["arguments"] = part["function"]["arguments"].clone();
            }
            _ => {
                let (id, function) = (&part["id"], &part["function"]);
                calls.push(json!({"id": id, "type": "function", "function": function}));
            }
        }
    }
    calls
}

/// Why an answer ended, as the OpenAI API says it.
fn finish_reason(finish: Finish) -> &'static str {
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::text::conversation::is_word;

    #[test]
    fn calls_come_in_two_parts_and_are_put_together_again() {
        let head = Head {
            id: format!("chatcmpl-{}", "0f".repeat(16)),
            model: "m".into(),
            created_unix_s: 1,
        };
        let call = |name: &str, arguments: &str| Called {
            name: name.into(),
            arguments: arguments.into(),
        };
        let mut events = vec![head.start(), head.text("hm", Vec::new())];
        events.extend(head.call(0, &call("f", r#"{"a":1}"#)));
        events.extend(head.call(1, &call("g", "{}")));
        events.push(head.end(Finish::Stop, true));
        let delta = |event: usize| events[event]["choices"][0]["delta"]["tool_calls"][0].clone();
        let id = delta(2)["id"].as_str().unwrap().to_owned();
        assert!(is_word(&id), "{id} may name the call in the next request");
        let begin = json!({"index": 0, "id": id, "type": "function", "function": {"name": "f", "arguments": ""}});
        assert_eq!(delta(2), begin);
        assert_eq!(
            delta(3),
            json!({"index": 0, "function": {"arguments": "{\"a\":1}"}})
        );
        assert_eq!(delta(4)["index"], 1);
        assert_eq!(events[6]["choices"][0]["finish_reason"], "tool_calls");
        let whole = calls(&events);
        assert_eq!(whole.len(), 2);
        let first = json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}});
        assert_eq!(whole[0], first);
        assert_ne!(whole[1]["id"], whole[0]["id"]);
        // Cut short, it says so.
        let cut = head.end(Finish::Length, true);
        assert_eq!(cut["choices"][0]["finish_reason"], "length");
    }
}
