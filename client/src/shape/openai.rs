//! Chat completions, raw completions and embeddings.

use super::{Shape, ends, only, reason};
use crate::client::Answer;
use crate::objects::{
    chat_object, embeddings_object, kept_embeddings_object, last_chunks, usage, x_jobs,
};
use crate::openai::Delivery;
use crate::vectors::Looked;
use serde_json::{Value, json};

/// `/v1/chat/completions`
pub(crate) struct Chat(pub(crate) Delivery);

/// `/v1/completions`
pub(crate) struct Completions(pub(crate) Delivery);

/// `/v1/embeddings`
pub(crate) struct Embeddings {
    pub(crate) delivery: Delivery,
    /// What a cache of vectors has of the texts; an answer is to the others.
    pub(crate) looked: Option<(Looked, String)>,
}

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

    fn end(&mut self, answers: &[Answer]) -> String {
        let chunks = last_chunks(answers, self.0.include_usage);
        let lines: String = chunks.iter().map(line).collect();
        format!("{lines}data: [DONE]\n\n")
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        chat_object(answers)
    }
}

impl Shape for Completions {
    fn event(&mut self, chunk: &Value) -> String {
        let choice = &chunk["choices"][0];
        match choice["delta"]["content"].as_str() {
            Some(text) if !text.is_empty() => {
                let choice = text_choice(&choice["index"], text, &Value::Null);
                line(&text_completion(chunk, vec![choice]))
            }
            _ => String::new(),
        }
    }

    fn end(&mut self, answers: &[Answer]) -> String {
        let mut last = self.whole(answers);
        let choices = last["choices"].as_array_mut();
        for choice in choices.into_iter().flatten() {
            choice["text"] = "".into();
        }
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

    fn whole(&mut self, answers: &[Answer]) -> Value {
        let head = only(answers).events.first().unwrap_or(&Value::Null);
        let choices = answers.iter().enumerate().map(|(index, answer)| {
            text_choice(&index.into(), &answer.text, &reason(answer).into())
        });
        let mut object = text_completion(head, choices.collect());
        object["usage"] = usage(answers);
        object["x_job"] = x_jobs(answers);
        object
    }
}

fn text_completion(chunk: &Value, choices: Vec<Value>) -> Value {
    let id = chunk["id"].as_str().unwrap_or_default();
    let job = id.rsplit('-').next().unwrap_or_default();
    json!({
        "id": format!("cmpl-{job}"), "object": "text_completion", "created": chunk["created"], "model": chunk["model"],
        "choices": choices,
    })
}

fn text_choice(index: &Value, text: &str, finish_reason: &Value) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish_reason})
}

impl Shape for Embeddings {
    // Vectors come whole; the OpenAI API has no stream of them.
    fn event(&mut self, _chunk: &Value) -> String {
        String::new()
    }

    fn end(&mut self, answers: &[Answer]) -> String {
        line(&self.whole(answers))
    }

    fn whole(&mut self, answers: &[Answer]) -> Value {
        match &mut self.looked {
            None => embeddings_object(only(answers), self.delivery),
            Some((looked, model)) => {
                kept_embeddings_object(looked, model, answers.first(), self.delivery)
            }
        }
    }
}
