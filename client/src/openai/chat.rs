//! Requests to `/v1/chat/completions`.

use super::{
    Delivery, Request, bounded, flag, missing, neutral, number, other, preferences, refuse, text,
};
use crate::ask::{Ask, Conversation, Message, Preferences, Role};
use crate::error::{ClientError, shown};
use crate::limits::{COMPLETION_TOKENS_DEFAULT, STOP_BYTES_MAX, STOPS_MAX};
use model::limits::{CONVERSATION_BYTES_MAX, MESSAGES_MAX};
use serde_json::{Map, Value};
use wire::limits::{COMPLETION_TOKENS_MAX, TEMPERATURE_MAX, TOP_P_MAX};

pub(super) fn parse(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut messages, mut tokens_max) = (None, None, None);
    let (mut temperature, mut top_p, mut seed) = (None, None, None);
    let (mut stops, mut delivery) = (Vec::new(), Delivery::default());
    let mut preferred = Preferences::default();
    // An SDK that sends every field it knows sends null for most of them: null is "not given".
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "messages" => messages = Some(conversation(value)?),
            "max_tokens" | "max_completion_tokens" => {
                let wanted = tokens(name, value)?;
                tokens_max = Some(tokens_max.map_or(wanted, |other: u32| other.min(wanted)));
            }
            "temperature" => temperature = Some(number(name, value, TEMPERATURE_MAX)?),
            "top_p" => top_p = Some(number(name, value, TOP_P_MAX)?),
            "seed" => {
                let whole = "a whole number from 0";
                seed = Some(value.as_u64().ok_or_else(|| other(name, value, whole))?);
            }
            "stop" => stops = stop(name, value)?,
            "stream" => delivery.stream = flag(name, value)?,
            "stream_options" => delivery.include_usage = stream_options(value)?,
            "user" | "safety_identifier" | "prompt_cache_key" => drop(text(name, value)?),
            // Of use only to a completion that is stored, which `store` does not allow.
            "metadata" if value.is_object() => {}
            "logprobs" | "top_logprobs" => {}
            _ if preferences::take(name, value, &mut preferred)? => {}
            _ => neutral(NEUTRAL, name, value)?,
        }
    }
    let given = |name| fields.get(name).filter(|value| !value.is_null());
    preferred.logprobs = preferences::logprobs(given("logprobs"), given("top_logprobs"))?;
    let model = model.ok_or_else(|| missing("model"))?;
    let messages = messages.ok_or_else(|| missing("messages"))?;
    let ask = Ask::Chat(Conversation {
        model,
        messages,
        tokens_max: tokens_max.unwrap_or(COMPLETION_TOKENS_DEFAULT),
        temperature: temperature.unwrap_or(1.0),
        top_p: top_p.unwrap_or(1.0),
        seed,
        stops,
        preferences: preferred,
    });
    Ok(Request { ask, delivery })
}

/// Fields whose named values mean "nothing": accepted, not sent.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("n", &["1"]),
    ("store", &["false"]),
    ("response_format", &[r#"{"type":"text"}"#]),
    ("modalities", &[r#"["text"]"#]),
    ("service_tier", &[r#""auto""#, r#""default""#]),
    ("tools", &["[]"]),
    ("tool_choice", &[r#""none""#, r#""auto""#]),
    ("parallel_tool_calls", &["true", "false"]),
    ("functions", &["[]"]),
    ("function_call", &[r#""none""#, r#""auto""#]),
];

/// A limit of completion tokens. More than a worker can make is no error: the answer ends at what it can make.
fn tokens(name: &str, value: &Value) -> Result<u32, ClientError> {
    match value.as_u64() {
        Some(wanted) if wanted > 0 => Ok(u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .min(COMPLETION_TOKENS_MAX)),
        _ => Err(other(name, value, "a whole number from 1")),
    }
}

/// One text that ends a completion, or a list of them.
fn stop(name: &str, value: &Value) -> Result<Vec<String>, ClientError> {
    let stops: Option<Vec<String>> = match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(list) => { list.iter() }
            .map(|text| text.as_str().map(str::to_owned))
            .collect(),
        _ => None,
    };
    let fits = |stop: &String| (1..=STOP_BYTES_MAX).contains(&stop.len());
    let stops = stops.filter(|stops| stops.len() <= STOPS_MAX && stops.iter().all(fits));
    let range = format!("a text of 1 to {STOP_BYTES_MAX} bytes, or a list of at most {STOPS_MAX}");
    stops.ok_or_else(|| other(name, value, &range))
}

fn conversation(value: &Value) -> Result<Vec<Message>, ClientError> {
    let name = "messages";
    let list = value.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| other(name, value, "a list of messages"))?;
    if list.len() > MESSAGES_MAX {
        let count = list.len();
        let message = format!("`{name}` has {count} messages; at most {MESSAGES_MAX} are allowed");
        return Err(refuse(Some(name), &message));
    }
    let messages = list.iter().enumerate();
    let messages: Vec<Message> = messages
        .map(|(index, value)| message(&format!("messages[{index}]"), value))
        .collect::<Result<_, _>>()?;
    match messages.iter().map(|message| message.content.len()).sum() {
        0..=CONVERSATION_BYTES_MAX => Ok(messages),
        bytes => {
            let message = format!(
                "`{name}` has {bytes} bytes of content; at most {CONVERSATION_BYTES_MAX} are allowed"
            );
            Err(refuse(Some(name), &message))
        }
    }
}

/// Fields of a message beside `role` and `content`, as the SDKs write them, and the values that ask for nothing. A
/// name is for people who tell several speakers of one role apart; chat templates have no place for it.
const MESSAGE_NEUTRAL: &[(&str, &[&str])] = &[
    ("tool_calls", &["[]"]),
    ("annotations", &["[]"]),
    ("weight", &["1"]),
];

fn message(at: &str, value: &Value) -> Result<Message, ClientError> {
    let fields = value
        .as_object()
        .ok_or_else(|| other(at, value, "a JSON object with `role` and `content`"))?;
    let (mut role, mut said, mut refusal) = (None, None, None);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "role" => role = Some(speaker(&field, value)?),
            "content" => said = Some(content(&field, value)?),
            "refusal" => refusal = Some(text(&field, value)?),
            "name" => drop(text(&field, value)?),
            _ => {
                let listed = MESSAGE_NEUTRAL.iter().find(|(known, _)| known == name);
                let values = listed.map(|(_, values)| (field.as_str(), *values));
                neutral(values.as_slice(), &shown(&field), value)?;
            }
        }
    }
    let role = role.ok_or_else(|| missing(&format!("{at}.role")))?;
    // An assistant's message that an SDK hands back has a refusal where it has no content.
    let content = said.or(refusal);
    let content = content.ok_or_else(|| missing(&format!("{at}.content")))?;
    Ok(Message { role, content })
}

fn speaker(field: &str, value: &Value) -> Result<Role, ClientError> {
    match value.as_str() {
        Some("system" | "developer") => Ok(Role::System),
        Some("user") => Ok(Role::User),
        Some("assistant") => Ok(Role::Assistant),
        Some("tool" | "function") => {
            let message = format!("`{field}` is {value}; tools are not supported in this version");
            Err(refuse(Some(field), &message))
        }
        _ => Err(other(field, value, "system, developer, user or assistant")),
    }
}

/// A text, or a list of text parts.
fn content(field: &str, value: &Value) -> Result<String, ClientError> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let parts = parts.iter().enumerate();
            let parts = parts.map(|(index, value)| part(&format!("{field}[{index}]"), value));
            parts.collect::<Result<Vec<_>, _>>()?.concat()
        }
        _ => return Err(other(field, value, "a text or a list of text parts")),
    };
    bounded(field, text)
}

fn part<'a>(field: &str, value: &'a Value) -> Result<&'a str, ClientError> {
    let text = match value.get("type").and_then(Value::as_str) {
        Some("text") => value.get("text"),
        Some("refusal") => value.get("refusal"),
        Some(kind) => {
            let kind = shown(kind);
            let message = format!(
                "`{field}` is of type `{kind}`; only text is supported, no images, audio or files"
            );
            return Err(refuse(Some(field), &message));
        }
        None => return Err(missing(&format!("{field}.type"))),
    };
    let text = text.and_then(Value::as_str);
    text.ok_or_else(|| missing(&format!("{field}.text")))
}

fn stream_options(value: &Value) -> Result<bool, ClientError> {
    let name = "stream_options";
    let fields = value
        .as_object()
        .ok_or_else(|| other(name, value, "a JSON object"))?;
    let mut include_usage = false;
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let full = format!("{name}.{field}");
        match field.as_str() {
            "include_usage" => include_usage = flag(&full, value)?,
            // Padding against an observer of the network: there is none between an application and its sidecar.
            "include_obfuscation" => drop(flag(&full, value)?),
            _ => return Err(super::unknown(&full)),
        }
    }
    Ok(include_usage)
}
