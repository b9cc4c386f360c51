//! Chat completions, raw completions and embeddings.

use super::{Shape, ends, reason};
use crate::client::Answer;
use crate::objects::{chat_object, embeddings_object, last_chunks, usage, x_job};
use crate::openai::Delivery;
use serde_json::{Value, json};

/// `/v1/chat/completions`
pub(crate) struct Chat(pub(crate) Delivery);

/// `/v1/completions`
pub(crate) struct Completions(pub(crate) Delivery);

/// `/v1/embeddings`
pub(crate) struct Embeddings(pub(crate) Delivery);

fn line(event: &Value) -> String {
    format!("data: {event}\n\n")
}

impl Shape for Chat {
    fn event(&mut self, chunk: &Value) -> String {
        match ends(chunk) {
            true => String::new(),
            false => line(chunk),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let chunks = last_chunks(answer, self.0.include_usage);
        let lines: String = chunks.iter().map(line).collect();
        format!("{lines}data: [DONE]\n\n")
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        chat_object(answer)
    }
}

impl Shape for Completions {
    fn event(&mut self, chunk: &Value) -> String {
        match chunk["choices"][0]["delta"]["content"].as_str() {
            Some(text) if !text.is_empty() => line(&text_completion(chunk, text, &Value::Null)),
            _ => String::new(),
        }
    }

    fn end(&mut self, answer: &Answer) -> String {
        let mut last = self.whole(answer);
        last["choices"][0]["text"] = "".into();
        let mut with_usage = last.clone();
        if let Some(fields) = last.as_object_mut() {
            fields.shift_remove("usage");
        }
        let mut lines = line(&last);
        if self.0.include_usage {
            with_usage["choices"] = json!([]);
            lines += &line(&with_usage);
        }
        format!("{lines}data: [DONE]\n\n")
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        let head = answer.events.first().unwrap_or(&Value::Null);
        let mut object = text_completion(head, &answer.text, &reason(answer).into());
        object["usage"] = usage(answer);
        object["x_job"] = x_job(answer);
        object
    }
}

fn text_completion(chunk: &Value, text: &str, finish_reason: &Value) -> Value {
    let id = chunk["id"].as_str().unwrap_or_default();
    let job = id.rsplit('-').next().unwrap_or_default();
    json!({
        "id": format!("cmpl-{job}"), "object": "text_completion", "created": chunk["created"], "model": chunk["model"],
        "choices": [{"text": text, "index": 0, "logprobs": null, "finish_reason": finish_reason}],
    })
}

impl Shape for Embeddings {
    // Vectors come whole; the OpenAI API has no stream of them.
    fn event(&mut self, _chunk: &Value) -> String {
        String::new()
    }

    fn end(&mut self, answer: &Answer) -> String {
        line(&self.whole(answer))
    }

    fn whole(&mut self, answer: &Answer) -> Value {
        embeddings_object(answer, self.0)
    }
}
