//! The Anthropic API's messages.

use super::items::{Item, Items, Step};
use super::{Shape, ends, named, only, reason};
use crate::client::Answer;
use crate::objects::x_job;
use serde_json::{Value, json};

/// `/v1/messages`
pub(crate) struct Messages {
    /// Tokens of the prompt, counted here: a stream begins with them.
    prompt_tokens: u32,
    items: Items,
    begun: bool,
}

impl Messages {
    /// An answer to a prompt of so many tokens.
    pub(crate) fn new(prompt_tokens: u32) -> Self {
        Messages {
            prompt_tokens,
            items: Items::default(),
            begun: false,
        }
    }

    fn step(&self, step: Step) -> String {
        match step {
            Step::Began(place) => {
                let before = place.checked_sub(1).map(stop).unwrap_or_default();
                let block = match &self.items.0[place] {
                    Item::Thought(_) => {
                        json!({"type": "thinking", "thinking": "", "signature": ""})
                    }
                    Item::Text(_) => json!({"type": "text", "text": ""}),
                    Item::Call { id, name, .. } => {
                        json!({"type": "tool_use", "id": id, "name": name, "input": {}})
                    }
                };
                let start =
                    json!({"type": "content_block_start", "index": place, "content_block": block});
                before + &named(&start)
            }
            Step::More(place, more) => {
                let delta = match &self.items.0[place] {
                    Item::Thought(_) => json!({"type": "thinking_delta", "thinking": more}),
                    Item::Text(_) => json!({"type": "text_delta", "text": more}),
                    Item::Call { .. } => json!({"type": "input_json_delta", "partial_json": more}),
                };
                named(&json!({"type": "content_block_delta", "index": place, "delta": delta}))
            }
        }
    }
}

impl Shape for Messages {
    fn event(&mut self, chunk: &Value) -> String {
        let mut lines = String::new();
        if !self.begun {
            self.begun = true;
            let mut message = message(chunk, Vec::new());
            message["usage"] = json!({"input_tokens": self.prompt_tokens, "output_tokens": 0});
            lines += &named(&json!({"type": "message_start", "message": message}));
        }
        if ends(chunk) {
            return lines;
        }
        for step in self.items.push(chunk) {
            lines += &self.step(step);
        }
        lines
    }

    fn end(&mut self, answers: &[Answer]) -> String {
        let answer = only(answers);
        let mut lines = String::new();
        if let Some(step) = self.items.finish() {
            lines += &self.step(step);
        }
        lines += &stop(self.items.0.len() - 1);
        let (reason, sequence) = stop_reason(answer);
        let delta = json!({"stop_reason": reason, "stop_sequence": sequence});
        let last = json!({"type": "message_delta", "delta": delta, "usage": usage(answer), "x_job": x_job(answer)});
        lines + &named(&last) + &named(&json!({"type": "message_stop"}))
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let answer = only(answers);
        let head = answer.events.first().unwrap_or(&Value::Null);
        let items = Items::of(&answer.events).0.into_iter();
        // An answer of calls alone has no text, and an empty one no block: an empty text may not be sent back.
        let items = items.filter(|item| *item != Item::Text(String::new()));
        let blocks = items.map(|item| match item {
            // Nobody signs a thought here: the receipt covers the whole answer.
            Item::Thought(thought) => {
                json!({"type": "thinking", "thinking": thought, "signature": ""})
            }
            Item::Text(text) => json!({"type": "text", "text": text}),
            Item::Call {
                id,
                name,
                arguments,
            } => {
                let input = serde_json::from_str(&arguments).unwrap_or_else(|_| json!({}));
                json!({"type": "tool_use", "id": id, "name": name, "input": input})
            }
        });
        let mut object = message(head, blocks.collect());
        let (reason, sequence) = stop_reason(answer);
        object["stop_reason"] = reason.into();
        object["stop_sequence"] = sequence.into();
        object["usage"] = usage(answer);
        object["x_job"] = x_job(answer);
        object
    }
}

fn message(chunk: &Value, content: Vec<Value>) -> Value {
    let id = chunk["id"].as_str().unwrap_or_default();
    let job = id.rsplit('-').next().unwrap_or_default();
    json!({
        "id": format!("msg_{job}"), "type": "message", "role": "assistant", "model": chunk["model"], "content": content,
        "stop_reason": null, "stop_sequence": null, "stop_details": null, "container": null,
    })
}

fn stop(place: usize) -> String {
    named(&json!({"type": "content_block_stop", "index": place}))
}

fn stop_reason(answer: &Answer) -> (&'static str, Option<&str>) {
    match (reason(answer), answer.stop.as_deref()) {
        ("tool_calls", _) => ("tool_use", None),
        ("stop", Some(stop)) => ("stop_sequence", Some(stop)),
        ("stop", None) => ("end_turn", None),
        _ => ("max_tokens", None),
    }
}

fn usage(answer: &Answer) -> Value {
    let used = answer.usage;
    json!({
        "input_tokens": used.prompt, "cache_read_input_tokens": used.cached, "cache_creation_input_tokens": 0,
        "output_tokens": used.completion,
    })
}

/// An error object of the OpenAI API as the Anthropic API writes it, with the same extras.
pub(crate) fn message_error(status: u16, object: &Value) -> Value {
    let kind = match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 | 405 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let error = &object["error"];
    json!({"type": "error", "error": {
        "type": kind, "message": error["message"], "code": error["code"], "param": error["param"],
        "x_job": error["x_job"],
    }})
}
