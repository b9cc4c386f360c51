//! The OpenAI API's responses.

use super::items::{Item, Items, Step};
use super::{Shape, ends, named, only, reason};
use crate::ask::{Call, Json, Role, Turn};
use crate::client::Answer;
use crate::objects::x_job;
use crate::serve::stored::Place;
use serde_json::{Map, Value, json};

/// `/v1/responses`
pub(crate) struct Responses {
    /// What is repeated of the request.
    echo: Map<String, Value>,
    /// Where the answer is kept, if it is to be kept.
    place: Option<Place>,
    items: Items,
    /// The first chunk, which names job, model and time.
    head: Option<Value>,
    sequence: u64,
}

impl Responses {
    /// An answer that repeats these fields of its request.
    pub(crate) fn new(echo: Map<String, Value>, place: Option<Place>) -> Self {
        Responses {
            echo,
            place,
            items: Items::default(),
            head: None,
            sequence: 0,
        }
    }

    fn emit(&mut self, kind: &str, mut fields: Value) -> String {
        fields["type"] = kind.into();
        fields["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        named(&fields)
    }

    /// The hexadecimal name of the job, in all ids.
    fn job(&self) -> &str {
        let id = self.head.as_ref().and_then(|head| head["id"].as_str());
        let job = id.and_then(|id| id.rsplit('-').next());
        job.unwrap_or_default()
    }

    fn object(&self, status: &str, output: Vec<Value>) -> Value {
        let head = self.head.as_ref().unwrap_or(&Value::Null);
        let echo = |name: &str, default: Value| self.echo.get(name).cloned().unwrap_or(default);
        json!({
            "id": format!("resp_{}", self.job()),
            "object": "response",
            "created_at": head["created"],
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "instructions": echo("instructions", Value::Null),
            "max_output_tokens": echo("max_output_tokens", Value::Null),
            "model": head["model"],
            "output": output,
            "parallel_tool_calls": echo("parallel_tool_calls", true.into()),
            "previous_response_id": echo("previous_response_id", Value::Null),
            "store": self.place.is_some(),
            "temperature": echo("temperature", 1.0.into()),
            "text": echo("text", json!({"format": {"type": "text"}})),
            "tool_choice": echo("tool_choice", "auto".into()),
            "tools": echo("tools", json!([])),
            "top_p": echo("top_p", 1.0.into()),
            "truncation": "disabled",
            "usage": null,
            "metadata": echo("metadata", json!({})),
        })
    }

    /// The item at a place, as far as it has come.
    fn item(&self, place: usize, status: &str) -> Value {
        let job = self.job();
        match &self.items.0[place] {
            Item::Thought(thought) => {
                let content = match status {
                    "in_progress" => json!([]),
                    _ => json!([thought_part(thought)]),
                };
                json!({"type": "reasoning", "id": format!("rs_{job}_{place}"), "status": status, "summary": [],
                    "content": content})
            }
            Item::Text(text) => {
                let content = match status {
                    "in_progress" => json!([]),
                    _ => json!([part(text)]),
                };
                json!({"type": "message", "id": format!("msg_{job}_{place}"), "status": status, "role": "assistant",
                    "content": content})
            }
            Item::Call {
                id,
                name,
                arguments,
            } => {
                json!({"type": "function_call", "id": format!("fc_{job}_{place}"), "call_id": id, "name": name,
                "arguments": arguments, "status": status})
            }
        }
    }

    fn step(&mut self, step: Step) -> String {
        match step {
            Step::Began(place) => {
                let item = self.item(place, "in_progress");
                let id = item["id"].clone();
                let added = json!({"output_index": place, "item": item});
                let mut lines = self.emit("response.output_item.added", added);
                let part = match self.items.0[place] {
                    Item::Thought(_) => thought_part(""),
                    Item::Text(_) => part(""),
                    Item::Call { .. } => return lines,
                };
                let added =
                    json!({"item_id": id, "output_index": place, "content_index": 0, "part": part});
                lines += &self.emit("response.content_part.added", added);
                lines
            }
            Step::More(place, delta) => {
                let id = self.item(place, "in_progress")["id"].clone();
                match self.items.0[place] {
                    Item::Thought(_) => {
                        let delta = json!({"item_id": id, "output_index": place, "content_index": 0, "delta": delta});
                        self.emit("response.reasoning_text.delta", delta)
                    }
                    Item::Text(_) => {
                        let delta = json!({"item_id": id, "output_index": place, "content_index": 0, "delta": delta,
                            "logprobs": []});
                        self.emit("response.output_text.delta", delta)
                    }
                    Item::Call { .. } => {
                        let delta = json!({"item_id": id, "output_index": place, "delta": delta});
                        self.emit("response.function_call_arguments.delta", delta)
                    }
                }
            }
        }
    }

    /// That an item is whole. Agents act on this, so it waits for the receipt.
    fn done(&mut self, place: usize, item: &Value) -> String {
        let id = &item["id"];
        let mut lines = match self.items.0[place].clone() {
            Item::Thought(text) => {
                let done =
                    json!({"item_id": id, "output_index": place, "content_index": 0, "text": text});
                let mut lines = self.emit("response.reasoning_text.done", done);
                let done = json!({"item_id": id, "output_index": place, "content_index": 0, "part": thought_part(&text)});
                lines += &self.emit("response.content_part.done", done);
                lines
            }
            Item::Text(text) => {
                let done = json!({"item_id": id, "output_index": place, "content_index": 0, "text": text, "logprobs": []});
                let mut lines = self.emit("response.output_text.done", done);
                let done = json!({"item_id": id, "output_index": place, "content_index": 0, "part": part(&text)});
                lines += &self.emit("response.content_part.done", done);
                lines
            }
            Item::Call {
                name, arguments, ..
            } => {
                let done = json!({"item_id": id, "output_index": place, "name": name, "arguments": arguments});
                self.emit("response.function_call_arguments.done", done)
            }
        };
        let done = json!({"output_index": place, "item": item});
        lines += &self.emit("response.output_item.done", done);
        lines
    }

    /// The whole answer, which is kept if it is to be.
    fn finished(&mut self, answer: &Answer) -> Value {
        let (status, details) = match reason(answer) {
            "length" => ("incomplete", json!({"reason": "max_output_tokens"})),
            _ => ("completed", Value::Null),
        };
        let last = self.items.0.len().saturating_sub(1);
        let output = (0..self.items.0.len()).map(|place| match &self.items.0[place] {
            Item::Text(_) | Item::Thought(_) if place == last => self.item(place, status),
            _ => self.item(place, "completed"),
        });
        let mut object = self.object(status, output.collect());
        object["incomplete_details"] = details;
        let used = answer.usage;
        let input = used.prompt + used.cached;
        object["usage"] = json!({
            "input_tokens": input, "input_tokens_details": {"cached_tokens": used.cached},
            "output_tokens": used.completion, "output_tokens_details": {"reasoning_tokens": answer.thought_tokens},
            "total_tokens": input + used.completion,
        });
        object["x_job"] = x_job(answer);
        if let Some(place) = self.place.take() {
            place.keep(&object, self.turn());
        }
        object
    }

    /// What the assistant said, for whoever continues it.
    fn turn(&self) -> Turn {
        let mut turn = Turn::says(Role::Assistant, self.items.said());
        turn.reasoning = self.items.thought();
        let calls = self.items.0.iter().filter_map(|item| match item {
            Item::Call {
                id,
                name,
                arguments,
            } => Some(Call {
                id: id.clone(),
                name: name.clone(),
                arguments: Json::parse(arguments).unwrap_or(Json::Object(Vec::new())),
            }),
            Item::Thought(_) | Item::Text(_) => None,
        });
        turn.calls = calls.collect();
        turn
    }
}

impl Shape for Responses {
    fn event(&mut self, chunk: &Value) -> String {
        let mut lines = String::new();
        if self.head.is_none() {
            self.head = Some(chunk.clone());
            for kind in ["response.created", "response.in_progress"] {
                let object = self.object("in_progress", Vec::new());
                lines += &self.emit(kind, json!({"response": object}));
            }
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
        let object = self.finished(answer);
        let items = object["output"].as_array().into_iter().flatten();
        for (place, item) in items.enumerate() {
            lines += &self.done(place, item);
        }
        let kind = match object["status"].as_str() {
            Some("completed") => "response.completed",
            _ => "response.incomplete",
        };
        lines + &self.emit(kind, json!({"response": object}))
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let answer = only(answers);
        self.head = answer.events.first().cloned();
        self.items = Items::of(&answer.events);
        self.finished(answer)
    }
}

fn thought_part(text: &str) -> Value {
    json!({"type": "reasoning_text", "text": text})
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}
