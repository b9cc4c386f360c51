//! The requests inside the seal: the parts of the OpenAI API that this agent answers, strictly read, and the JSON it
//! answers with.

use engine::{Message, Role};
use serde::Deserialize;
use serde_json::{Value, json};

/// Inputs in one embeddings request.
const INPUTS_MAX: usize = 64;
/// Completion tokens when the request does not say.
const COMPLETION_TOKENS_DEFAULT: u32 = 128;

/// An embeddings request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmbeddingsRequest {
    pub(crate) model: String,
    input: Input,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default, rename = "user")]
    _user: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Input {
    One(String),
    Many(Vec<String>),
}

/// A chat request. `stream` and its options steer the sidecar; the sealed answer is a stream in any case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatRequest {
    pub(crate) model: String,
    messages: Vec<ChatMessage>,
    #[serde(default)]
    temperature: Option<f32>,
    #[serde(default)]
    top_p: Option<f32>,
    #[serde(default)]
    pub(crate) seed: Option<u64>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    n: Option<u32>,
    #[serde(default, rename = "stream")]
    _stream: Option<bool>,
    #[serde(default, rename = "stream_options")]
    _stream_options: Option<Value>,
    #[serde(default, rename = "user")]
    _user: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatMessage {
    role: ChatRole,
    content: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ChatRole {
    System,
    User,
    Assistant,
}

/// The request is not one this agent answers. It says no more, since this leaves the seal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unanswerable;

impl EmbeddingsRequest {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Unanswerable> {
        let request: Self = serde_json::from_slice(body).map_err(|_| Unanswerable)?;
        let inputs = request.inputs().len();
        let plain = request
            .encoding_format
            .as_deref()
            .is_none_or(|format| format == "float");
        if plain && (1..=INPUTS_MAX).contains(&inputs) {
            Ok(request)
        } else {
            Err(Unanswerable)
        }
    }

    pub(crate) fn inputs(&self) -> &[String] {
        match &self.input {
            Input::One(text) => std::slice::from_ref(text),
            Input::Many(texts) => texts,
        }
    }
}

impl ChatRequest {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, Unanswerable> {
        let request: Self = serde_json::from_slice(body).map_err(|_| Unanswerable)?;
        let sane = request.n.is_none_or(|n| n == 1)
            && (0.0..=2.0).contains(&request.temperature())
            && (0.0..=1.0).contains(&request.top_p())
            && request.completion_tokens_max() > 0
            && !request.messages.is_empty();
        if sane { Ok(request) } else { Err(Unanswerable) }
    }

    pub(crate) fn temperature(&self) -> f32 {
        self.temperature.unwrap_or(1.0)
    }

    pub(crate) fn top_p(&self) -> f32 {
        self.top_p.unwrap_or(1.0)
    }

    pub(crate) fn completion_tokens_max(&self) -> u32 {
        self.max_completion_tokens
            .or(self.max_tokens)
            .unwrap_or(COMPLETION_TOKENS_DEFAULT)
    }

    pub(crate) fn messages(self) -> Vec<Message> {
        let role = |role| match role {
            ChatRole::System => Role::System,
            ChatRole::User => Role::User,
            ChatRole::Assistant => Role::Assistant,
        };
        self.messages
            .into_iter()
            .map(|m| Message {
                role: role(m.role),
                content: m.content,
            })
            .collect()
    }
}

/// The whole answer to an embeddings request.
pub(crate) fn embeddings_response(model: &str, vectors: &[Vec<f32>], tokens: u32) -> Value {
    let data = vectors.iter().enumerate();
    let data: Vec<Value> = data
        .map(|(index, v)| json!({"object": "embedding", "index": index, "embedding": v}))
        .collect();
    json!({"object": "list", "data": data, "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}

/// The identity that all chunks of one chat answer share.
pub(crate) struct ChunkHead {
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created: u64,
}

impl ChunkHead {
    fn chunk(&self, delta: Value, finish: Option<&str>) -> Value {
        json!({"id": self.id, "object": "chat.completion.chunk", "created": self.created, "model": self.model,
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
    }

    /// The first chunk: whose turn it is.
    pub(crate) fn role(&self) -> Value {
        self.chunk(json!({"role": "assistant", "content": ""}), None)
    }

    /// The next piece, with exactly the tokens that made it, so that a client can recount.
    pub(crate) fn piece(&self, content: &str, token_ids: &[u32]) -> Value {
        let mut chunk = self.chunk(json!({"content": content}), None);
        chunk["x_job"] = json!({"token_ids": token_ids});
        chunk
    }

    /// The last chunk: why it ended and what was used.
    pub(crate) fn last(
        &self,
        token_ids: &[u32],
        finish: &str,
        prompt: u32,
        completion: u32,
    ) -> Value {
        let mut chunk = self.chunk(json!({}), Some(finish));
        chunk["x_job"] = json!({"token_ids": token_ids});
        chunk["usage"] = json!({"prompt_tokens": prompt, "completion_tokens": completion,
            "total_tokens": prompt + completion, "prompt_tokens_details": {"cached_tokens": 0}});
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_understood_is_not_answered() {
        let chat = |body: &str| ChatRequest::parse(body.as_bytes()).map(|_| ());
        let good =
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"seed":1,"max_tokens":5}"#;
        assert_eq!(chat(good), Ok(()));
        for bad in [
            r#"{"model":"m","messages":[]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"n":2}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"tools":[]}"#,
            r#"{"model":"m","messages":[{"role":"robot","content":"hi"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"temperature":-1}"#,
            r#"{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":0}"#,
            "{",
        ] {
            assert_eq!(chat(bad), Err(Unanswerable), "{bad}");
        }
        let embeddings =
            |body: &str| EmbeddingsRequest::parse(body.as_bytes()).map(|r| r.inputs().len());
        assert_eq!(embeddings(r#"{"model":"m","input":"a"}"#), Ok(1));
        assert_eq!(embeddings(r#"{"model":"m","input":["a","b"]}"#), Ok(2));
        assert_eq!(embeddings(r#"{"model":"m","input":[]}"#), Err(Unanswerable));
        assert_eq!(
            embeddings(r#"{"model":"m","input":"a","encoding_format":"base64"}"#),
            Err(Unanswerable)
        );
    }
}
