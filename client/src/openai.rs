//! The OpenAI API as this sidecar speaks it: requests strictly read, and the objects it answers with.
//!
//! A field that this version does not know is refused by name: an application that asks for images and gets an answer
//! without them would be deceived. A field whose value changes nothing (`store: false`, `logprobs: false`, null) is
//! accepted and goes no further than here, so that a request inside the seal says little about the program behind
//! it. A refusal names its field as a path, such as `messages[2].content`.

mod answers;
pub(crate) mod chat;
pub(crate) mod completions;
mod embeddings;
mod form;
pub(crate) mod preferences;
pub(crate) mod rerank;
pub(crate) mod responses;
pub(crate) mod tools;

pub use answers::error_object;
pub(crate) use answers::{Head, calls, error_type, logprob_entry, logprobs, thought};

use crate::ask::{Ask, Turn};
use crate::error::{ClientError, shown};
use model::limits::{CONVERSATION_BYTES_MAX, MESSAGES_MAX, TEXT_BYTES_MAX};
use serde_json::Value;
use wire::Endpoint;

/// A request that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is asked.
    pub ask: Ask,
    /// How the application wants its answer.
    pub delivery: Delivery,
}

/// How the application wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Delivery {
    /// As server-sent events.
    pub stream: bool,
    /// With a last chunk that has the usage and no choices.
    pub include_usage: bool,
    /// Vectors as base64 of little-endian 32-bit floats, which the OpenAI SDKs ask for unless told otherwise.
    pub base64: bool,
    /// Vectors cut to so many numbers and brought to length one again.
    pub dimensions: Option<u32>,
}

impl Request {
    /// What is asked, for who takes vectors as they are verified.
    pub(crate) fn whole(self) -> Result<Ask, ClientError> {
        match self.delivery.dimensions {
            None => Ok(self.ask),
            Some(_) => Err(refuse(Some("dimensions"), WHOLE)),
        }
    }
}

const WHOLE: &str = "`dimensions` is for the sidecar; here a vector comes whole";

/// Reads a request body for an endpoint.
pub fn parse(endpoint: Endpoint, body: &Value) -> Result<Request, ClientError> {
    let Value::Object(fields) = body else {
        return Err(refuse(None, "the body is not a JSON object"));
    };
    match endpoint {
        Endpoint::Embeddings => embeddings::parse(fields),
        Endpoint::Chat => chat::parse(fields),
        Endpoint::Rerank => rerank::parse(fields).map(|read| Request {
            ask: read.ask,
            delivery: Delivery::default(),
        }),
    }
}

/// A field that counts for nothing: one of `list` with one of its values. Every other one is refused by name.
pub(crate) fn neutral(
    list: &[(&str, &[&str])],
    name: &str,
    value: &Value,
) -> Result<(), ClientError> {
    let Some((_, values)) = list.iter().find(|(field, _)| *field == name) else {
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

pub(crate) fn bounded(name: &str, text: String) -> Result<String, ClientError> {
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

pub(crate) fn text(name: &str, value: &Value) -> Result<String, ClientError> {
    let text = value.as_str().ok_or_else(|| other(name, value, "a text"))?;
    bounded(name, text.to_owned())
}

pub(crate) fn flag(name: &str, value: &Value) -> Result<bool, ClientError> {
    value
        .as_bool()
        .ok_or_else(|| other(name, value, "true or false"))
}

pub(crate) fn number(name: &str, value: &Value, max: f32) -> Result<f32, ClientError> {
    match value.as_f64() {
        Some(number) if (0.0..=f64::from(max)).contains(&number) => Ok(number as f32),
        _ => Err(other(name, value, &format!("0 to {max}"))),
    }
}

/// Refuses more messages than one conversation has.
pub(crate) fn bounded_list(name: &str, messages: usize) -> Result<(), ClientError> {
    if messages <= MESSAGES_MAX {
        return Ok(());
    }
    let message = format!("`{name}` has {messages} messages; at most {MESSAGES_MAX} are allowed");
    Err(refuse(Some(name), &message))
}

/// The messages of a conversation, unless they are too many or too long together.
pub(crate) fn bounded_turns(name: &str, turns: Vec<Turn>) -> Result<Vec<Turn>, ClientError> {
    bounded_list(name, turns.len())?;
    match turns.iter().map(|turn| turn.content.len()).sum() {
        0..=CONVERSATION_BYTES_MAX => Ok(turns),
        bytes => {
            let message = format!(
                "`{name}` has {bytes} bytes of content; at most {CONVERSATION_BYTES_MAX} are allowed"
            );
            Err(refuse(Some(name), &message))
        }
    }
}

/// A field with another value than `allowed`.
pub(crate) fn other(name: &str, value: &Value, allowed: &str) -> ClientError {
    let value = shown(&value.to_string());
    refuse(
        Some(name),
        &format!("`{name}` is {value}; it may be {allowed}"),
    )
}

pub(crate) fn missing(name: &str) -> ClientError {
    refuse(Some(name), &format!("`{name}` is missing"))
}

pub(crate) fn unknown(name: &str) -> ClientError {
    ClientError::UnknownField { param: shown(name) }
}

pub(crate) fn refuse(param: Option<&str>, message: &str) -> ClientError {
    ClientError::Request {
        param: param.map(str::to_owned),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::{Conversation, Preferences, Role, Turn};
    use serde_json::json;

    fn refused(endpoint: Endpoint, body: Value) -> Option<String> {
        match parse(endpoint, &body) {
            Err(error) if error.status() == 400 => error.param().map(str::to_owned),
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
            ("stop", json!("")),
            ("stop", json!(["a", "b", "c", "d", "e"])),
            ("stop", json!([1])),
            ("n", json!(0)),
            ("n", json!(9)),
            ("functions", json!([{"name": "f"}])),
            ("chat_template_kwargs", json!(1)),
            ("logprobs", json!("yes")),
            ("top_logprobs", json!(3)),
            ("presence_penalty", json!(3)),
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
        let body = json!({"model": "m", "input": "a", "dimensions": 0});
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
            "stream": true, "stream_options": {"include_usage": true}, "user": "u", "tools": null,
            "stop": "\n\n", "top_k": 4, "frequency_penalty": 0.5, "logit_bias": {"9": -1}});
        let request = parse(Endpoint::Chat, &body).unwrap();
        assert_eq!(
            request.delivery,
            Delivery {
                stream: true,
                include_usage: true,
                base64: false,
                dimensions: None,
            }
        );
        let messages = vec![
            Turn::says(Role::Developer, "be brief"),
            Turn::says(Role::User, "ab"),
        ];
        let expected = Ask::Chat(Conversation {
            temperature: 0.5,
            seed: Some(7),
            tokens_max: 5,
            stops: vec!["\n\n".into()],
            preferences: Preferences {
                top_k: 4,
                frequency: 0.5,
                bias: vec![(9, -1.0)],
                ..Preferences::default()
            },
            ..Conversation::new("m".into(), messages)
        });
        assert_eq!(request.ask, expected);
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
