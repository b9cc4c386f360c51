//! The OpenAI API as this sidecar speaks it: requests strictly read, and the objects it answers with.
//!
//! A field that this version does not know is refused by name: an application that asks for `stop` or for tools and
//! gets an answer without them would be deceived. A field whose value changes nothing (`n: 1`, `logprobs: false`) is
//! accepted and goes no further than here, so that a request inside the seal says little about the program behind it.

use crate::error::{ClientError, shown};
use serde_json::{Map, Value, json};
use wire::limits::{
    COMPLETION_TOKENS_MAX, CONVERSATION_BYTES_MAX, INPUTS_MAX, MESSAGES_MAX, TEMPERATURE_MAX,
    TEXT_BYTES_MAX, TOP_P_MAX,
};
use wire::{AnswerEvent, ChatRequest, EmbeddingsRequest, Endpoint, Finish, Message, Role, Vectors};

/// A request that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is sealed.
    pub ask: wire::Request,
    /// How the application wants its answer.
    pub delivery: Delivery,
}

/// How the application wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// As server-sent events.
    pub stream: bool,
    /// With the usage in the last chunk.
    pub include_usage: bool,
    /// Vectors as base64 of little-endian 32-bit floats, which the OpenAI SDKs ask for unless told otherwise.
    pub base64: bool,
}

/// Reads a request body for an endpoint.
pub fn parse(endpoint: Endpoint, body: &Value) -> Result<Request, ClientError> {
    let Value::Object(fields) = body else {
        return Err(refuse(None, "the body is not a JSON object"));
    };
    match endpoint {
        Endpoint::Embeddings => embeddings(fields),
        Endpoint::Chat => chat(fields),
    }
}

fn embeddings(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut inputs) = (None, None);
    let mut delivery = Delivery::default();
    for (name, value) in fields {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "input" => inputs = Some(input(value)?),
            "user" => drop(text(name, value)?),
            "encoding_format" => match value.as_str() {
                Some("float") => delivery.base64 = false,
                Some("base64") => delivery.base64 = true,
                _ => return Err(other(name, value, "`float` or `base64`")),
            },
            _ => return Err(unknown(name)),
        }
    }
    let model = model.ok_or_else(|| missing("model"))?;
    let inputs = inputs.ok_or_else(|| missing("input"))?;
    let ask = wire::Request::Embeddings(EmbeddingsRequest { model, inputs });
    Ok(Request { ask, delivery })
}

fn chat(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut messages, mut tokens_max) = (None, None, None);
    let (mut temperature, mut top_p, mut seed) = (None, None, None);
    let mut delivery = Delivery::default();
    for (name, value) in fields {
        match name.as_str() {
            // An SDK that sends every field it knows sends null for most of them.
            _ if value.is_null() => known(name)?,
            "model" => model = Some(text(name, value)?),
            "messages" => messages = Some(conversation(value)?),
            "max_tokens" | "max_completion_tokens" => {
                let wanted = value.as_u64().and_then(|n| u32::try_from(n).ok());
                let wanted = wanted.filter(|n| (1..=COMPLETION_TOKENS_MAX).contains(n));
                let range = format!("1 to {COMPLETION_TOKENS_MAX}");
                let wanted = wanted.ok_or_else(|| other(name, value, &range))?;
                tokens_max = Some(tokens_max.map_or(wanted, |other: u32| other.min(wanted)));
            }
            "temperature" => temperature = Some(number(name, value, TEMPERATURE_MAX)?),
            "top_p" => top_p = Some(number(name, value, TOP_P_MAX)?),
            "seed" => {
                let whole = "a whole number from 0";
                seed = Some(value.as_u64().ok_or_else(|| other(name, value, whole))?);
            }
            "stream" => delivery.stream = flag(name, value)?,
            "stream_options" => delivery.include_usage = stream_options(value)?,
            "user" => drop(text(name, value)?),
            _ => neutral(name, value)?,
        }
    }
    let model = model.ok_or_else(|| missing("model"))?;
    let messages = messages.ok_or_else(|| missing("messages"))?;
    let default = ChatRequest::new(model, messages);
    let ask = wire::Request::Chat(ChatRequest {
        tokens_max: tokens_max.unwrap_or(default.tokens_max),
        temperature: temperature.unwrap_or(default.temperature),
        top_p: top_p.unwrap_or(default.top_p),
        seed,
        ..default
    });
    Ok(Request { ask, delivery })
}

/// Fields of the chat API whose named value means "nothing": accepted, not sent.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("n", &["1"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("logprobs", &["false"]),
    ("store", &["false"]),
    ("response_format", &[r#"{"type":"text"}"#]),
    ("service_tier", &[r#""auto""#, r#""default""#]),
    ("logit_bias", &["{}"]),
    ("metadata", &["{}"]),
    ("tools", &["[]"]),
    ("stop", &["[]"]),
];

const CHAT_FIELDS: &[&str] = &[
    "model",
    "messages",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "seed",
    "stream",
    "stream_options",
    "user",
];

fn neutral(name: &str, value: &Value) -> Result<(), ClientError> {
    let Some((_, values)) = NEUTRAL.iter().find(|(field, _)| *field == name) else {
        return Err(unknown(name));
    };
    let written = value.to_string();
    if values.contains(&written.as_str()) {
        return Ok(());
    }
    let accepted = values.join(" or ");
    Err(refuse(
        Some(name),
        &format!("`{name}` is not supported in this version; only {accepted} is accepted"),
    ))
}

fn known(name: &str) -> Result<(), ClientError> {
    let listed = CHAT_FIELDS.contains(&name) || NEUTRAL.iter().any(|(field, _)| *field == name);
    if listed { Ok(()) } else { Err(unknown(name)) }
}

fn conversation(value: &Value) -> Result<Vec<Message>, ClientError> {
    let name = "messages";
    let list = value
        .as_array()
        .filter(|list| (1..=MESSAGES_MAX).contains(&list.len()));
    let range = format!("`messages` must be a list of 1 to {MESSAGES_MAX} messages");
    let messages: Vec<Message> = list
        .ok_or_else(|| refuse(Some(name), &range))?
        .iter()
        .map(message)
        .collect::<Result<_, _>>()?;
    match messages.iter().map(|message| message.content.len()).sum() {
        0..=CONVERSATION_BYTES_MAX => Ok(messages),
        bytes => Err(refuse(
            Some(name),
            &format!("messages have {bytes} bytes; {CONVERSATION_BYTES_MAX} are allowed"),
        )),
    }
}

fn message(value: &Value) -> Result<Message, ClientError> {
    let name = Some("messages");
    let fields = value
        .as_object()
        .ok_or_else(|| refuse(name, "a message is a JSON object"))?;
    if let Some(other) = fields
        .keys()
        .find(|key| !["role", "content"].contains(&key.as_str()))
    {
        let other = shown(other);
        return Err(refuse(
            name,
            &format!("a message's field `{other}` is not supported in this version"),
        ));
    }
    let role = match fields.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        _ => {
            return Err(refuse(
                name,
                "a message's role is system, user or assistant",
            ));
        }
    };
    Ok(Message {
        role,
        content: content(fields.get("content").unwrap_or(&Value::Null))?,
    })
}

/// A text, or a list of text parts.
fn content(value: &Value) -> Result<String, ClientError> {
    let name = Some("messages");
    let part = |part: &Value| match (part.get("type").and_then(Value::as_str), part.get("text")) {
        (Some("text"), Some(Value::String(text))) => Ok(text.clone()),
        _ => Err(refuse(
            name,
            "a message's content is text; images and audio are not supported",
        )),
    };
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts
            .iter()
            .map(part)
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
        _ => return Err(refuse(name, "a message needs content")),
    };
    bounded("messages", text)
}

fn input(value: &Value) -> Result<Vec<String>, ClientError> {
    let name = "input";
    let range = format!("`input` must be a text or a list of 1 to {INPUTS_MAX} texts");
    let inputs = match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) if (1..=INPUTS_MAX).contains(&list.len()) => {
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            texts
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| refuse(Some(name), &range))?
        }
        _ => return Err(refuse(Some(name), &range)),
    };
    inputs.into_iter().map(|text| bounded(name, text)).collect()
}

fn bounded(name: &str, text: String) -> Result<String, ClientError> {
    if text.len() <= TEXT_BYTES_MAX {
        return Ok(text);
    }
    Err(refuse(
        Some(name),
        &format!(
            "`{name}` has a text of {} bytes; at most {TEXT_BYTES_MAX} are allowed",
            text.len()
        ),
    ))
}

fn stream_options(value: &Value) -> Result<bool, ClientError> {
    let name = "stream_options";
    let fields = value
        .as_object()
        .ok_or_else(|| other(name, value, "a JSON object"))?;
    let mut include_usage = false;
    for (field, value) in fields {
        match field.as_str() {
            "include_usage" => include_usage = flag(name, value)?,
            _ => return Err(unknown(&format!("stream_options.{field}"))),
        }
    }
    Ok(include_usage)
}

fn text(name: &str, value: &Value) -> Result<String, ClientError> {
    let text = value.as_str().ok_or_else(|| other(name, value, "a text"))?;
    bounded(name, text.to_owned())
}

fn flag(name: &str, value: &Value) -> Result<bool, ClientError> {
    value
        .as_bool()
        .ok_or_else(|| other(name, value, "true or false"))
}

fn number(name: &str, value: &Value, max: f32) -> Result<f32, ClientError> {
    match value.as_f64() {
        Some(number) if (0.0..=f64::from(max)).contains(&number) => Ok(number as f32),
        _ => Err(other(name, value, &format!("0 to {max}"))),
    }
}

/// A field with another value than `allowed`.
fn other(name: &str, value: &Value, allowed: &str) -> ClientError {
    let value = shown(&value.to_string());
    refuse(
        Some(name),
        &format!("{name} is {value}; it may be {allowed}"),
    )
}

fn missing(name: &str) -> ClientError {
    refuse(Some(name), &format!("`{name}` is missing"))
}

fn unknown(name: &str) -> ClientError {
    let name = shown(name);
    refuse(
        Some(&name),
        &format!("the field `{name}` is not supported in this version"),
    )
}

fn refuse(param: Option<&str>, message: &str) -> ClientError {
    ClientError::Request {
        param: param.map(str::to_owned),
        message: message.to_owned(),
    }
}

/// What the application sees of an answer's events: the objects of the OpenAI API, without the token ids.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// `chatcmpl-` and the job's id.
    pub(crate) id: String,
    pub(crate) model: String,
    pub(crate) created_unix_s: u64,
}

impl Head {
    /// An event as its object.
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
        Finish::Length | Finish::Deadline => "length",
    }
}

/// The error object of the OpenAI API, with what a caller needs to know before it asks again.
pub fn error_object(error: &ClientError) -> Value {
    let kind = match error.status() {
        400..=499 => "invalid_request_error",
        _ => "server_error",
    };
    json!({"error": {
        "message": error.to_string(),
        "type": kind,
        "code": error.code(),
        "param": error.param(),
        "x_job": {"executed": error.executed().as_str(), "retryable": error.retryable()},
    }})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(endpoint: Endpoint, body: Value) -> Option<String> {
        match parse(endpoint, &body) {
            Err(ClientError::Request { param, .. }) => param,
            other => panic!("{body} gives {other:?}"),
        }
    }

    fn chat_with(field: &str, value: Value) -> Value {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[field] = value;
        body
    }

    #[test]
    fn a_field_that_would_change_the_answer_and_is_not_implemented_is_refused_by_name() {
        for (field, value) in [
            ("tools", json!([{}])),
            ("stop", json!("x")),
            ("n", json!(2)),
            ("logprobs", json!(true)),
            ("temperatur", json!(1)),
            ("temperature", json!(3)),
            ("max_tokens", json!(0)),
            ("seed", json!(-1)),
            ("stream", json!("yes")),
        ] {
            assert_eq!(
                refused(Endpoint::Chat, chat_with(field, value)),
                Some(field.into())
            );
        }
        let body = json!({"model": "m", "input": "a", "dimensions": 5});
        assert_eq!(
            refused(Endpoint::Embeddings, body),
            Some("dimensions".into())
        );
        let body = json!({"model": "m", "input": "a", "encoding_format": "hex"});
        assert_eq!(
            refused(Endpoint::Embeddings, body),
            Some("encoding_format".into())
        );
    }

    #[test]
    fn common_fields_are_accepted_and_only_what_counts_is_sealed() {
        let body = json!({"model": "m", "messages": [
            {"role": "developer", "content": "be brief"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            "temperature": 0.5, "top_p": 1, "seed": 7, "max_tokens": 9, "max_completion_tokens": 5, "n": 1,
            "stream": true, "stream_options": {"include_usage": true}, "user": "u", "tools": null});
        let request = parse(Endpoint::Chat, &body).unwrap();
        assert_eq!(
            request.delivery,
            Delivery {
                stream: true,
                include_usage: true,
                base64: false,
            }
        );
        let message = |role, content: &str| Message {
            role,
            content: content.into(),
        };
        let expected = wire::Request::Chat(ChatRequest {
            model: "m".into(),
            messages: vec![message(Role::System, "be brief"), message(Role::User, "ab")],
            temperature: 0.5,
            top_p: 1.0,
            seed: Some(7),
            tokens_max: 5,
        });
        assert_eq!(request.ask, expected);
        assert_eq!(
            wire::Request::decode(Endpoint::Chat, &request.ask.encode()),
            Ok(expected),
            "what is accepted here, a guest accepts"
        );
    }

    #[test]
    fn every_error_says_whether_the_job_ran() {
        let object = error_object(&ClientError::Cut("x".into()));
        assert_eq!(
            object["error"]["x_job"],
            json!({"executed": "maybe", "retryable": true})
        );
        assert_eq!(object["error"]["code"], "truncated_stream");
    }
}
