//! Requests to `/v1/messages` of the Anthropic API. What is asked becomes the same [`Conversation`] as a chat completion's.

use crate::ask::{Ask, Call, Conversation, Json, Role, Turn};
use crate::error::{ClientError, shown};
use crate::openai::tools::{self, Tools};
use crate::openai::{
    bounded, bounded_list, bounded_turns, chat, flag, missing, neutral, number, other, preferences,
    refuse, text, unknown,
};
use serde_json::{Map, Value, json};
use wire::limits::TOP_P_MAX;

/// A request that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    pub(crate) ask: Ask,
    pub(crate) stream: bool,
}

/// Versions of the API that the header `anthropic-version` may name. What is answered here is the same in both.
pub(crate) const VERSIONS: [&str; 2] = ["2023-06-01", "2026-10-21"];
/// The Anthropic API's highest temperature.
const TEMPERATURE_MAX: f32 = 1.0;
/// Fields whose named values mean "nothing".
const NEUTRAL: &[(&str, &[&str])] = &[
    ("service_tier", &[r#""auto""#, r#""standard_only""#]),
    ("speed", &[r#""standard""#]),
];

/// Reads a body. `counting` is for `/v1/messages/count_tokens`, which has no `max_tokens`.
pub(crate) fn parse(fields: &Map<String, Value>, counting: bool) -> Result<Request, ClientError> {
    let (mut model, mut said, mut system, mut tokens_max) = (None, None, None, None);
    let (mut stream, mut offered) = (false, Tools::default());
    let mut asked = Conversation::new(String::new(), Vec::new());
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "messages" => said = Some(messages(name, value)?),
            "system" => system = Some(texts(name, value)?),
            "max_tokens" => tokens_max = Some(chat::tokens(name, value)?),
            "temperature" => asked.temperature = number(name, value, TEMPERATURE_MAX)?,
            "top_p" => asked.top_p = number(name, value, TOP_P_MAX)?,
            "top_k" if preferences::take(name, value, &mut asked.preferences)? => {}
            "stop_sequences" => asked.stops = stops(name, value)?,
            "tools" => functions(&mut offered, name, value)?,
            "tool_choice" => asked.parallel_calls = choose(&mut offered, name, value)?,
            "thinking" => asked.thinking = thinking(name, value)?,
            "metadata" => metadata(name, value)?,
            "stream" => stream = flag(name, value)?,
            "output_config" => effort(name, value)?,
            "context_management" => keeps_all(name, value)?,
            // A hint about speed.
            "cache_control" if value.is_object() => {}
            _ => neutral(NEUTRAL, name, value)?,
        }
    }
    (asked.tools, asked.tool_choice) = offered.finish()?;
    asked.model = model.ok_or_else(|| missing("model"))?;
    let system = system.map(|text| Turn::says(Role::System, text));
    let said = said.ok_or_else(|| missing("messages"))?;
    asked.messages = bounded_turns("messages", system.into_iter().chain(said).collect())?;
    match tokens_max {
        Some(tokens_max) => asked.tokens_max = tokens_max,
        None if counting => {}
        None => return Err(missing("max_tokens")),
    }
    let ask = Ask::Chat(asked);
    Ok(Request { ask, stream })
}

fn messages(name: &str, value: &Value) -> Result<Vec<Turn>, ClientError> {
    let list = value.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| other(name, value, "a list of messages"))?;
    bounded_list(name, list.len())?;
    let mut turns = Vec::new();
    for (index, value) in list.iter().enumerate() {
        message(&format!("{name}[{index}]"), value, &mut turns)?;
    }
    Ok(turns)
}

fn message(at: &str, value: &Value, turns: &mut Vec<Turn>) -> Result<(), ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(at, value, "an object with `role` and `content`"))?;
    let known = |name: &String| matches!(name.as_str(), "role" | "content");
    if let Some(more) = fields.keys().find(|name| !known(name)) {
        return Err(unknown(&format!("{at}.{more}")));
    }
    let field = |name: &str| format!("{at}.{name}");
    let given = |name: &str| fields.get(name).ok_or_else(|| missing(&field(name)));
    let role = given("role")?;
    let role = match role.as_str() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => return Err(other(&field("role"), role, "user, assistant or system")),
    };
    let (at, content) = (field("content"), given("content")?);
    match content {
        Value::String(said) => turns.push(Turn::says(role, bounded(&at, said.clone())?)),
        Value::Array(_) if role == Role::System => {
            turns.push(Turn::says(role, texts(&at, content)?));
        }
        Value::Array(blocks) if role == Role::Assistant => turns.push(assistant(&at, blocks)?),
        Value::Array(blocks) => user(&at, blocks, turns)?,
        _ => return Err(other(&at, content, "a text or a list of blocks")),
    }
    Ok(())
}

/// What a block is, and its fields besides. Where a cache could begin is of no use here.
fn block<'a>(at: &str, value: &'a Value) -> Result<(&'a str, &'a Map<String, Value>), ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(at, value, "a JSON object with a `type`"))?;
    let kind = fields.get("type").and_then(Value::as_str);
    Ok((kind.ok_or_else(|| missing(&format!("{at}.type")))?, fields))
}

/// Refuses a field of a block that is not one of these. `cache_control` is a hint about speed.
fn only(at: &str, fields: &Map<String, Value>, known: &[&str]) -> Result<(), ClientError> {
    let mut given = fields.iter().filter(|(_, value)| !value.is_null());
    let hint = |name: &String| matches!(name.as_str(), "type" | "cache_control");
    match given.find(|(name, _)| !hint(name) && !known.contains(&name.as_str())) {
        Some((name, _)) => Err(unknown(&format!("{at}.{name}"))),
        None => Ok(()),
    }
}

fn said<'a>(at: &str, fields: &'a Map<String, Value>, key: &str) -> Result<&'a str, ClientError> {
    let field = format!("{at}.{key}");
    let value = fields.get(key).ok_or_else(|| missing(&field))?;
    value.as_str().ok_or_else(|| other(&field, value, "a text"))
}

fn unsupported(at: &str, kind: &str, known: &str) -> ClientError {
    let kind = shown(kind);
    let message = format!("`{at}` is of type `{kind}`; this version knows {known}");
    refuse(Some(at), &message)
}

/// What the assistant said, thought and called, in one turn.
fn assistant(at: &str, blocks: &[Value]) -> Result<Turn, ClientError> {
    let mut turn = Turn::says(Role::Assistant, "");
    let mut thought = String::new();
    for (index, value) in blocks.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let (kind, fields) = block(&at, value)?;
        match kind {
            "text" => {
                only(&at, fields, &["text", "citations"])?;
                turn.content += said(&at, fields, "text")?;
            }
            "thinking" => {
                only(&at, fields, &["thinking", "signature"])?;
                thought += said(&at, fields, "thinking")?;
            }
            "tool_use" => turn.calls.push(call(&at, fields)?),
            kind => return Err(unsupported(&at, kind, "text, thinking and tool_use here")),
        }
    }
    turn.content = bounded(at, turn.content)?;
    turn.reasoning = Some(thought).filter(|thought| !thought.is_empty());
    let calls_max = tools::CALLS_MAX;
    match turn.calls.len() <= calls_max {
        true => Ok(turn),
        false => {
            let message = format!("`{at}` has more than {calls_max} calls");
            Err(refuse(Some(at), &message))
        }
    }
}

fn call(at: &str, fields: &Map<String, Value>) -> Result<Call, ClientError> {
    only(at, fields, &["id", "name", "input", "caller"])?;
    let field = |name: &str| format!("{at}.{name}");
    let given = |name: &str| fields.get(name).ok_or_else(|| missing(&field(name)));
    let input = given("input")?;
    let arguments = match tools::json(&field("input"), input)? {
        object @ Json::Object(_) => object,
        _ => return Err(other(&field("input"), input, "a JSON object")),
    };
    Ok(Call {
        id: tools::word(&field("id"), given("id")?)?,
        name: tools::word(&field("name"), given("name")?)?,
        arguments,
    })
}

/// What a person said, and what tools answered, in their order.
fn user(at: &str, blocks: &[Value], turns: &mut Vec<Turn>) -> Result<(), ClientError> {
    let before = turns.len();
    let mut spoken: Option<String> = None;
    for (index, value) in blocks.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let (kind, fields) = block(&at, value)?;
        match kind {
            "text" => {
                only(&at, fields, &["text", "citations"])?;
                *spoken.get_or_insert_default() += said(&at, fields, "text")?;
            }
            "tool_result" => {
                let text = spoken.take();
                turns.extend(text.map(|text| Turn::says(Role::User, text)));
                turns.push(result(&at, fields)?);
            }
            kind => return Err(unsupported(&at, kind, "text and tool_result here")),
        }
    }
    turns.extend(spoken.map(|text| Turn::says(Role::User, text)));
    for turn in &turns[before..] {
        bounded(at, turn.content.clone())?;
    }
    match turns.len() > before {
        true => Ok(()),
        false => Err(refuse(Some(at), &format!("`{at}` is empty"))),
    }
}

/// What a tool answered. Whether that is an error is said by its text.
fn result(at: &str, fields: &Map<String, Value>) -> Result<Turn, ClientError> {
    only(at, fields, &["tool_use_id", "content", "is_error"])?;
    let field = |name: &str| format!("{at}.{name}");
    let id = fields.get("tool_use_id");
    let id = id.ok_or_else(|| missing(&field("tool_use_id")))?;
    let content = fields.get("content").filter(|value| !value.is_null());
    let content = content.map(|value| texts(&field("content"), value));
    let mut turn = Turn::says(Role::Tool, content.transpose()?.unwrap_or_default());
    turn.answers = Some(tools::word(&field("tool_use_id"), id)?);
    Ok(turn)
}

/// A text, or a list of blocks that are text.
fn texts(at: &str, value: &Value) -> Result<String, ClientError> {
    let blocks = match value {
        Value::String(said) => return bounded(at, said.clone()),
        Value::Array(blocks) => blocks,
        _ => return Err(other(at, value, "a text or a list of text blocks")),
    };
    let mut text = String::new();
    for (index, value) in blocks.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let (kind, fields) = block(&at, value)?;
        if kind != "text" {
            return Err(unsupported(&at, kind, "text here"));
        }
        only(&at, fields, &["text", "citations"])?;
        text += said(&at, fields, "text")?;
    }
    bounded(at, text)
}

fn stops(name: &str, value: &Value) -> Result<Vec<String>, ClientError> {
    match value {
        Value::Array(_) => chat::stop(name, value),
        _ => Err(other(name, value, "a list of texts")),
    }
}

/// Functions of the application. Tools that Anthropic's own servers or models bring are none.
fn functions(offered: &mut Tools, name: &str, value: &Value) -> Result<(), ClientError> {
    let list = tools::list(name, value, model::limits::TOOLS_MAX)?;
    for (index, value) in list.iter().enumerate() {
        let at = format!("{name}[{index}]");
        let fields = value.as_object();
        let fields = fields.ok_or_else(|| other(&at, value, "a JSON object"))?;
        let mut fields = fields.clone();
        let kind = fields.shift_remove("type").unwrap_or_default();
        if !kind.is_null() && kind != "custom" {
            return Err(other(&format!("{at}.type"), &kind, "custom"));
        }
        for hint in ["cache_control", "eager_input_streaming"] {
            fields.shift_remove(hint);
        }
        offered.add(&at, &fields, "input_schema")?;
    }
    Ok(())
}

/// The choice in the OpenAI API's words, and whether one answer may have several calls.
fn choose(offered: &mut Tools, name: &str, value: &Value) -> Result<bool, ClientError> {
    let kinds = "an object whose `type` is auto, any, tool or none";
    let fields = value.as_object().ok_or_else(|| other(name, value, kinds))?;
    let choice = match fields.get("type").and_then(Value::as_str) {
        Some("auto") => json!("auto"),
        Some("any") => json!("required"),
        Some("none") => json!("none"),
        Some("tool") => {
            let field = format!("{name}.name");
            let wanted = fields.get("name").ok_or_else(|| missing(&field))?;
            let wanted = tools::word(&field, wanted)?;
            json!({"type": "function", "function": {"name": wanted}})
        }
        _ => return Err(other(name, value, kinds)),
    };
    only(name, fields, &["name", "disable_parallel_tool_use"])?;
    offered.choose(name, &choice)?;
    let one = fields.get("disable_parallel_tool_use");
    let one = one.filter(|value| !value.is_null());
    let one = one.map(|value| flag(&format!("{name}.disable_parallel_tool_use"), value));
    Ok(!one.transpose()?.unwrap_or(false))
}

/// Whether to think. How long is for the model and `max_tokens`.
fn thinking(name: &str, value: &Value) -> Result<Option<bool>, ClientError> {
    let kinds = "an object whose `type` is enabled, disabled or adaptive";
    let fields = value.as_object().ok_or_else(|| other(name, value, kinds))?;
    only(name, fields, &["budget_tokens", "display"])?;
    match fields.get("type").and_then(Value::as_str) {
        Some("enabled") => Ok(Some(true)),
        Some("disabled") => Ok(Some(false)),
        Some("adaptive") => Ok(None),
        _ => Err(other(name, value, kinds)),
    }
}

/// How hard to think is for the model, as in the OpenAI API.
fn effort(name: &str, value: &Value) -> Result<(), ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(name, value, "an object with `effort`"))?;
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{name}.{field}");
        match (field.as_str(), value.as_str()) {
            ("effort", Some("low" | "medium" | "high" | "xhigh" | "max")) => {}
            ("effort", _) => return Err(other(&at, value, "low, medium, high, xhigh or max")),
            _ => return Err(unknown(&at)),
        }
    }
    Ok(())
}

/// Edits that take nothing out of the conversation.
fn keeps_all(name: &str, value: &Value) -> Result<(), ClientError> {
    let none = json!([]);
    let edits = value.get("edits").unwrap_or(&none);
    let keeps = |edit: &Value| edit["type"] == "clear_thinking_20251015" && edit["keep"] == "all";
    match edits.as_array() {
        Some(edits) if edits.iter().all(keeps) => Ok(()),
        _ => Err(other(
            &format!("{name}.edits"),
            edits,
            "edits that keep all thinking",
        )),
    }
}

/// Who the application's user is goes no further than here.
fn metadata(name: &str, value: &Value) -> Result<(), ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(name, value, "an object with `user_id`"))?;
    match fields.keys().find(|field| *field != "user_id") {
        Some(field) => Err(unknown(&format!("{name}.{field}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::ToolChoice;

    fn read(more: Value) -> Result<Conversation, ClientError> {
        let mut body = json!({"model": "m", "max_tokens": 9,
            "messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        match parse(body.as_object().unwrap(), false)?.ask {
            Ask::Chat(chat) => Ok(chat),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn blocks_become_messages_in_their_order() {
        let chat = read(json!({
            "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
                {"role": "assistant", "content": [{"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "c"},
                    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"z": 1, "a": 2}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": false,
                        "content": [{"type": "text", "text": "one"}]},
                    {"type": "text", "text": "go on"}]}],
            "tools": [{"name": "f", "description": "d", "cache_control": null,
                "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
            "stop_sequences": ["x"], "top_k": 5, "temperature": 1, "metadata": {"user_id": "u"},
            "thinking": {"type": "disabled"}, "stream": true, "output_config": {"effort": "high"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}));
        let chat = chat.unwrap();
        let said: Vec<_> = { chat.messages.iter() }
            .map(|turn| (turn.role.name(), turn.content.as_str(), turn.calls.len()))
            .collect();
        let expected = [
            ("system", "be brief", 0),
            ("user", "ab", 0),
            ("assistant", "c", 1),
            ("tool", "one", 0),
            ("user", "go on", 0),
        ];
        assert_eq!(said, expected);
        assert_eq!(chat.messages[2].reasoning.as_deref(), Some("hm"));
        assert_eq!(chat.messages[3].answers.as_deref(), Some("toolu_1"));
        let arguments = serde_json::to_string(&chat.messages[2].calls[0].arguments).unwrap();
        assert_eq!(arguments, r#"{"z":1,"a":2}"#);
        assert_eq!(chat.tool_choice, ToolChoice::Named("f".into()));
        assert_eq!(chat.stops, ["x"]);
        assert_eq!((chat.preferences.top_k, chat.thinking), (5, Some(false)));
        assert!(!chat.parallel_calls);
        assert!(chat.tools[0].parameters.is_some());
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        let said = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        let block =
            |role: &str, block: Value| json!({"messages": [{"role": role, "content": [block]}]});
        for (body, field) in [
            (json!({"max_tokens": null}), "max_tokens"),
            (json!({"messages": []}), "messages"),
            (said(json!([])), "messages[0].content"),
            (said(json!(5)), "messages[0].content"),
            (
                json!({"messages": [{"role": "tool", "content": "a"}]}),
                "messages[0].role",
            ),
            (
                json!({"messages": [{"role": "user", "content": "a", "name": "b"}]}),
                "messages[0].name",
            ),
            (
                block("user", json!({"type": "image", "source": {}})),
                "messages[0].content[0]",
            ),
            (
                block("user", json!({"type": "tool_use"})),
                "messages[0].content[0]",
            ),
            (
                block("assistant", json!({"type": "tool_result"})),
                "messages[0].content[0]",
            ),
            (
                block("user", json!({"type": "text", "text": "a", "x": 1})),
                "messages[0].content[0].x",
            ),
            (
                block("user", json!({"type": "tool_result"})),
                "messages[0].content[0].tool_use_id",
            ),
            (
                block(
                    "assistant",
                    json!({"type": "tool_use", "id": "a", "name": "f", "input": []}),
                ),
                "messages[0].content[0].input",
            ),
            (
                json!({"tools": [{"type": "web_search_20250305", "name": "w"}]}),
                "tools[0].type",
            ),
            (
                json!({"tools": [{"name": "f", "input_schema": 1}]}),
                "tools[0].input_schema",
            ),
            (
                json!({"tools": [{"name": "f", "parameters": {}}]}),
                "tools[0].parameters",
            ),
            (json!({"tool_choice": "auto"}), "tool_choice"),
            (
                json!({"tool_choice": {"type": "tool", "name": "g"}}),
                "tool_choice",
            ),
            (json!({"temperature": 1.5}), "temperature"),
            (json!({"stop_sequences": "x"}), "stop_sequences"),
            (json!({"thinking": {"type": "much"}}), "thinking"),
            (json!({"container": "c"}), "container"),
            (
                json!({"output_config": {"effort": 1}}),
                "output_config.effort",
            ),
            (
                json!({"output_config": {"format": {}}}),
                "output_config.format",
            ),
            (
                json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}),
                "context_management.edits",
            ),
        ] {
            match read(body) {
                Err(error) => assert_eq!(error.param(), Some(field), "{error}"),
                Ok(chat) => panic!("{field}: {chat:?}"),
            }
        }
        // Only counting needs no limit.
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        assert!(parse(body.as_object().unwrap(), true).is_ok());
    }
}
