//! Requests to `/v1/chat/completions`.

use super::tools::{self, Tools};
use super::{
    Delivery, Request, bounded, bounded_list, bounded_turns, flag, form, missing, neutral, number,
    other, preferences, refuse, text,
};
use crate::ask::{Ask, Conversation, Role, Turn};
use crate::error::{ClientError, shown};
use crate::limits::{CHOICES_MAX, STOP_BYTES_MAX, STOPS_MAX};
use serde_json::{Map, Value};
use wire::limits::{COMPLETION_TOKENS_MAX, TEMPERATURE_MAX, TOP_P_MAX};

pub(super) fn parse(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut messages, mut tokens_max) = (None, None, None);
    let (mut delivery, mut offered) = (Delivery::default(), Tools::default());
    let mut asked = Conversation::new(String::new(), Vec::new());
    // An SDK that sends every field it knows sends null for most of them: null is "not given".
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "messages" => messages = Some(conversation(value)?),
            "max_tokens" | "max_completion_tokens" => {
                let wanted = tokens(name, value)?;
                tokens_max = Some(tokens_max.map_or(wanted, |other: u32| other.min(wanted)));
            }
            "temperature" => asked.temperature = number(name, value, TEMPERATURE_MAX)?,
            "top_p" => asked.top_p = number(name, value, TOP_P_MAX)?,
            "seed" => {
                let whole = "a whole number from 0";
                asked.seed = Some(value.as_u64().ok_or_else(|| other(name, value, whole))?);
            }
            "stop" => asked.stops = stop(name, value)?,
            "n" => asked.choices = choices(name, value)?,
            "tools" => offered.offer(name, value)?,
            "tool_choice" => offered.choose(name, value)?,
            "parallel_tool_calls" => asked.parallel_calls = flag(name, value)?,
            "response_format" | "guided_regex" => form::take(name, value, &mut asked)?,
            "chat_template_kwargs" => asked.thinking = thinking(name, value)?,
            "stream" => delivery.stream = flag(name, value)?,
            "stream_options" => delivery.include_usage = stream_options(value)?,
            "user" | "safety_identifier" | "prompt_cache_key" => drop(text(name, value)?),
            // Of use only to a completion that is stored, which `store` does not allow.
            "metadata" if value.is_object() => {}
            "logprobs" | "top_logprobs" => {}
            _ if preferences::take(name, value, &mut asked.preferences)? => {}
            _ => neutral(NEUTRAL, name, value)?,
        }
    }
    let given = |name| fields.get(name).filter(|value| !value.is_null());
    asked.preferences.logprobs = preferences::logprobs(given("logprobs"), given("top_logprobs"))?;
    (asked.tools, asked.tool_choice) = offered.finish()?;
    asked.model = model.ok_or_else(|| missing("model"))?;
    asked.messages = messages.ok_or_else(|| missing("messages"))?;
    asked.tokens_max = tokens_max.unwrap_or(asked.tokens_max);
    Ok(Request {
        ask: Ask::Chat(asked),
        delivery,
    })
}

/// Fields whose named values mean "nothing": accepted, not sent.
const NEUTRAL: &[(&str, &[&str])] = &[
    ("store", &["false"]),
    ("modalities", &[r#"["text"]"#]),
    ("service_tier", &[r#""auto""#, r#""default""#]),
    ("functions", &["[]"]),
    ("function_call", &[r#""none""#, r#""auto""#]),
];

pub(super) fn choices(name: &str, value: &Value) -> Result<u32, ClientError> {
    let wanted = value.as_u64().and_then(|count| u32::try_from(count).ok());
    let wanted = wanted.filter(|count| (1..=CHOICES_MAX).contains(count));
    wanted.ok_or_else(|| other(name, value, &format!("1 to {CHOICES_MAX}")))
}

/// What is handed to the template, of which one thing is known.
fn thinking(name: &str, value: &Value) -> Result<Option<bool>, ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(name, value, "an object with `enable_thinking`"))?;
    let mut thinking = None;
    for (field, value) in fields {
        let full = format!("{name}.{}", shown(field));
        match field.as_str() {
            "enable_thinking" => thinking = Some(flag(&full, value)?),
            _ => return Err(super::unknown(&full)),
        }
    }
    Ok(thinking)
}

/// A limit of completion tokens. More than a worker can make is no error: the answer ends at what it can make.
pub(crate) fn tokens(name: &str, value: &Value) -> Result<u32, ClientError> {
    match value.as_u64() {
        Some(wanted) if wanted > 0 => Ok(u32::try_from(wanted)
            .unwrap_or(u32::MAX)
            .min(COMPLETION_TOKENS_MAX)),
        _ => Err(other(name, value, "a whole number from 1")),
    }
}

/// One text that ends a completion, or a list of them.
pub(crate) fn stop(name: &str, value: &Value) -> Result<Vec<String>, ClientError> {
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

fn conversation(value: &Value) -> Result<Vec<Turn>, ClientError> {
    let name = "messages";
    let list = value.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| other(name, value, "a list of messages"))?;
    bounded_list(name, list.len())?;
    let messages = list.iter().enumerate();
    let messages: Vec<Turn> = messages
        .map(|(index, value)| message(&format!("messages[{index}]"), value))
        .collect::<Result<_, _>>()?;
    bounded_turns(name, messages)
}

/// Fields of a message beside `role` and `content`, as the SDKs write them, and the values that ask for nothing.
const MESSAGE_NEUTRAL: &[(&str, &[&str])] = &[("annotations", &["[]"]), ("weight", &["1"])];

fn message(at: &str, value: &Value) -> Result<Turn, ClientError> {
    let fields = value
        .as_object()
        .ok_or_else(|| other(at, value, "a JSON object with `role` and `content`"))?;
    let (mut role, mut said, mut refusal) = (None, None, None);
    let mut turn = Turn::says(Role::User, "");
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "role" => role = Some(speaker(&field, value)?),
            "content" => said = Some(content(&field, value)?),
            "refusal" => refusal = Some(text(&field, value)?),
            "reasoning_content" => turn.reasoning = Some(text(&field, value)?),
            "name" => turn.name = Some(text(&field, value)?),
            "tool_calls" => turn.calls = tools::calls(&field, value)?,
            "tool_call_id" => turn.answers = Some(tools::answered(&field, value)?),
            _ => {
                let listed = MESSAGE_NEUTRAL.iter().find(|(known, _)| known == name);
                let values = listed.map(|(_, values)| (field.as_str(), *values));
                neutral(values.as_slice(), &shown(&field), value)?;
            }
        }
    }
    turn.role = role.ok_or_else(|| missing(&format!("{at}.role")))?;
    let only = |field: &str, role: &str| {
        let field = format!("{at}.{field}");
        let message = format!("`{field}` is of messages with the role {role} only");
        Err(refuse(Some(&field), &message))
    };
    match turn.role {
        Role::Tool if turn.answers.is_none() => {
            return Err(missing(&format!("{at}.tool_call_id")));
        }
        Role::Tool => {}
        _ if turn.answers.is_some() => return only("tool_call_id", "tool"),
        // It is for people who tell several speakers of one role apart; chat templates have no place for it.
        _ => turn.name = None,
    }
    if turn.role != Role::Assistant {
        if !turn.calls.is_empty() {
            return only("tool_calls", "assistant");
        }
        if turn.reasoning.is_some() {
            return only("reasoning_content", "assistant");
        }
    }
    // An assistant's message that an SDK hands back has a refusal or calls where it has no content.
    let said = said.or(refusal);
    let silent = (!turn.calls.is_empty()).then(String::new);
    let content = said.or(silent);
    turn.content = content.ok_or_else(|| missing(&format!("{at}.content")))?;
    Ok(turn)
}

fn speaker(field: &str, value: &Value) -> Result<Role, ClientError> {
    let role = value.as_str().and_then(Role::of);
    role.ok_or_else(|| other(field, value, "system, developer, user, assistant or tool"))
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

pub(super) fn stream_options(value: &Value) -> Result<bool, ClientError> {
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
