//! Tools in a request of the OpenAI API: `tools`, `tool_choice`, and the calls of an assistant's message.

use super::{missing, other, refuse, text};
use crate::ask::{Call, Json, Tool, ToolChoice};
use crate::error::{ClientError, shown};
use model::limits::TOOLS_MAX;
use model::text::conversation::is_word;
pub(crate) use model::text::tools::CALLS_MAX;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What a request says of tools, as far as it was read.
#[derive(Default)]
pub(crate) struct Tools {
    offered: Vec<Tool>,
    choice: Option<ToolChoice>,
    /// The ones of `offered` that `allowed_tools` leaves.
    allowed: Option<Vec<String>>,
}

impl Tools {
    /// `tools`
    pub(super) fn offer(&mut self, name: &str, value: &Value) -> Result<(), ClientError> {
        for (index, value) in list(name, value, TOOLS_MAX)?.iter().enumerate() {
            let at = format!("{name}[{index}]");
            let fields = function(&at, value)?;
            self.add(&format!("{at}.function"), fields, "parameters")?;
        }
        Ok(())
    }

    /// One function whose fields are those at `at`, where `parameters` names the schema of its arguments.
    pub(crate) fn add(
        &mut self,
        at: &str,
        fields: &Map<String, Value>,
        parameters: &str,
    ) -> Result<(), ClientError> {
        let tool = tool(at, fields, parameters)?;
        if self.offered.iter().any(|other| other.name == tool.name) {
            let field = format!("{at}.name");
            let message = format!("`{field}` is `{}` for the second time", tool.name);
            return Err(refuse(Some(&field), &message));
        }
        self.offered.push(tool);
        Ok(())
    }

    /// `tool_choice`
    pub(crate) fn choose(&mut self, name: &str, value: &Value) -> Result<(), ClientError> {
        let kinds = "none, auto, required, a function or allowed_tools";
        self.choice = Some(match value {
            Value::String(mode) => match mode.as_str() {
                "none" => ToolChoice::None,
                mode => self::mode(mode).ok_or_else(|| other(name, value, kinds))?,
            },
            Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
                Some("function") => ToolChoice::Named(function_name(name, value)?),
                Some("allowed_tools") => self.allow(name, value)?,
                _ => return Err(other(name, value, kinds)),
            },
            _ => return Err(other(name, value, kinds)),
        });
        Ok(())
    }

    /// `{"type": "allowed_tools", "allowed_tools": {"mode", "tools"}}`
    fn allow(&mut self, name: &str, value: &Value) -> Result<ToolChoice, ClientError> {
        let at = format!("{name}.allowed_tools");
        let allowed = value.get("allowed_tools").ok_or_else(|| missing(&at))?;
        let at_mode = format!("{at}.mode");
        let mode = allowed.get("mode").ok_or_else(|| missing(&at_mode))?;
        let choice = mode.as_str().and_then(self::mode);
        let choice = choice.ok_or_else(|| other(&at_mode, mode, "auto or required"))?;
        let at = format!("{at}.tools");
        let tools = allowed.get("tools").ok_or_else(|| missing(&at))?;
        let tools = list(&at, tools, TOOLS_MAX)?.iter().enumerate();
        let names = tools.map(|(index, tool)| function_name(&format!("{at}[{index}]"), tool));
        self.allowed = Some(names.collect::<Result<_, _>>()?);
        Ok(choice)
    }

    /// The tools and the choice, which must be one of them.
    pub(crate) fn finish(mut self) -> Result<(Vec<Tool>, ToolChoice), ClientError> {
        let name = "tool_choice";
        let unknown = |wanted: &str| {
            let message = format!("`{name}` names `{}`, which `tools` lacks", shown(wanted));
            refuse(Some(name), &message)
        };
        let has = |offered: &[Tool], wanted: &str| offered.iter().any(|tool| tool.name == wanted);
        if let Some(allowed) = &self.allowed {
            if let Some(lost) = allowed.iter().find(|wanted| !has(&self.offered, wanted)) {
                return Err(unknown(lost));
            }
            self.offered.retain(|tool| allowed.contains(&tool.name));
        }
        let choice = self.choice.unwrap_or(ToolChoice::Auto);
        match &choice {
            ToolChoice::Named(wanted) if !has(&self.offered, wanted) => Err(unknown(wanted)),
            ToolChoice::Required if self.offered.is_empty() => Err(refuse(
                Some(name),
                "`tool_choice` is required, and there are no tools",
            )),
            _ => Ok((self.offered, choice)),
        }
    }
}

fn mode(mode: &str) -> Option<ToolChoice> {
    match mode {
        "auto" => Some(ToolChoice::Auto),
        "required" => Some(ToolChoice::Required),
        _ => None,
    }
}

fn tool(at: &str, fields: &Map<String, Value>, parameters: &str) -> Result<Tool, ClientError> {
    let mut tool = Tool {
        schema_at: format!("{at}.{parameters}"),
        name: String::new(),
        description: None,
        parameters: None,
    };
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "name" => tool.name = word(&field, value)?,
            "description" => tool.description = Some(text(&field, value)?),
            name if name == parameters && value.is_object() => {
                tool.parameters = Some(json(&field, value)?);
            }
            name if name == parameters => {
                return Err(other(&field, value, "a JSON Schema, an object"));
            }
            // Where the model must call a tool its arguments satisfy the schema in any case; where it may, nothing can hold it.
            "strict" => drop(super::flag(&field, value)?),
            _ => return Err(super::unknown(&field)),
        }
    }
    match tool.name.is_empty() {
        true => Err(missing(&format!("{at}.name"))),
        false => Ok(tool),
    }
}

/// The fields of `{"type": "function", "function": {…}}`.
fn function<'a>(at: &str, value: &'a Value) -> Result<&'a Map<String, Value>, ClientError> {
    let kind = value
        .get("type")
        .ok_or_else(|| missing(&format!("{at}.type")))?;
    if kind != "function" {
        return Err(other(&format!("{at}.type"), kind, "function"));
    }
    let at = format!("{at}.function");
    let function = value.get("function").ok_or_else(|| missing(&at))?;
    let fields = function.as_object();
    fields.ok_or_else(|| other(&at, function, "a JSON object with a `name`"))
}

fn function_name(at: &str, value: &Value) -> Result<String, ClientError> {
    let field = format!("{at}.function.name");
    let name = function(at, value)?.get("name");
    word(&field, name.ok_or_else(|| missing(&field))?)
}

pub(crate) fn word(field: &str, value: &Value) -> Result<String, ClientError> {
    let word = value.as_str().filter(|word| is_word(word));
    let word = word.ok_or_else(|| other(field, value, "1 to 64 letters, digits and `_-.:`"))?;
    Ok(word.to_owned())
}

/// A value with its keys in their order. Its depth is bounded: the body was read by `serde_json`, which goes 128 deep.
pub(crate) fn json(field: &str, value: &Value) -> Result<Json, ClientError> {
    Json::deserialize(value).map_err(|error| refuse(Some(field), &format!("`{field}`: {error}")))
}

pub(crate) fn list<'a>(
    name: &str,
    value: &'a Value,
    max: usize,
) -> Result<&'a [Value], ClientError> {
    let list = value.as_array().filter(|list| list.len() <= max);
    let list = list.ok_or_else(|| other(name, value, &format!("a list of at most {max}")))?;
    Ok(list)
}

/// The `tool_calls` of an assistant's message.
pub(super) fn calls(field: &str, value: &Value) -> Result<Vec<Call>, ClientError> {
    let calls = list(field, value, CALLS_MAX)?.iter().enumerate();
    calls
        .map(|(index, value)| call(&format!("{field}[{index}]"), value))
        .collect()
}

fn call(at: &str, value: &Value) -> Result<Call, ClientError> {
    let field = format!("{at}.id");
    let id = value.get("id").ok_or_else(|| missing(&field))?;
    let id = word(&field, id)?;
    let name = function_name(at, value)?;
    let field = format!("{at}.function.arguments");
    let arguments = function(at, value)?.get("arguments");
    let arguments = arguments.ok_or_else(|| missing(&field))?;
    Ok(Call {
        id,
        name,
        arguments: self::arguments(&field, arguments)?,
    })
}

/// The arguments of a call, as the text that the model wrote.
pub(crate) fn arguments(field: &str, value: &Value) -> Result<Json, ClientError> {
    let wanted = "the JSON text of an object";
    let written = value.as_str();
    let written = written.ok_or_else(|| other(field, value, wanted))?;
    match written.trim() {
        // Other providers write nothing where a function has no arguments.
        "" => Ok(Json::Object(Vec::new())),
        written => match Json::parse(written) {
            Ok(object @ Json::Object(_)) => Ok(object),
            _ => Err(other(field, value, wanted)),
        },
    }
}

/// The `tool_call_id` of a tool's message.
pub(super) fn answered(field: &str, value: &Value) -> Result<String, ClientError> {
    word(field, value)
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use crate::ask::{Ask, Conversation, Role};
    use serde_json::json;
    use wire::Endpoint;

    fn tool(name: &str) -> Value {
        json!({"type": "function", "function": {"name": name, "description": "d", "strict": true,
            "parameters": {"type": "object", "properties": {"z": {"type": "string"}, "a": {"type": "integer"}}}}})
    }

    fn read(fields: Value) -> Result<Conversation, ClientError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        for (name, value) in fields.as_object().unwrap() {
            body[name] = value.clone();
        }
        match parse(Endpoint::Chat, &body)?.ask {
            Ask::Chat(chat) => Ok(chat),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tools_keep_the_order_of_their_keys() {
        let chat = read(json!({"tools": [tool("f")]})).unwrap();
        let written = serde_json::to_string(&chat.tools[0].json()).unwrap();
        let expected = concat!(
            r#"{"type":"function","function":{"name":"f","description":"d","parameters":"#,
            r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"integer"}}}}}"#
        );
        assert_eq!(written, expected);
        assert_eq!(chat.tool_choice, ToolChoice::Auto);
        assert!(chat.parallel_calls);
    }

    #[test]
    fn a_choice_is_one_of_the_tools() {
        let named = |name: &str| json!({"type": "function", "function": {"name": name}});
        let allowed = |mode, names: &[&str]| {
            let tools: Vec<Value> = names.iter().map(|name| named(name)).collect();
            json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}})
        };
        let chosen = |choice: Value| {
            let chat = read(json!({"tools": [tool("f"), tool("g")], "tool_choice": choice}));
            let chat = chat.map_err(|error| error.to_string())?;
            let names: Vec<String> = chat.tools.into_iter().map(|tool| tool.name).collect();
            Ok::<_, String>((chat.tool_choice, names.join(" ")))
        };
        for (choice, expected, names) in [
            (json!("none"), ToolChoice::None, "f g"),
            (json!("required"), ToolChoice::Required, "f g"),
            (named("g"), ToolChoice::Named("g".into()), "f g"),
            (allowed("auto", &["g"]), ToolChoice::Auto, "g"),
            (
                allowed("required", &["f", "g"]),
                ToolChoice::Required,
                "f g",
            ),
        ] {
            assert_eq!(chosen(choice), Ok((expected, names.to_owned())));
        }
        for choice in [
            named("h"),
            allowed("auto", &["h"]),
            allowed("none", &["f"]),
            json!({"type": "custom", "custom": {"name": "f"}}),
            json!("always"),
        ] {
            let error = chosen(choice).unwrap_err();
            assert!(error.contains("`tool_choice"), "{error}");
        }
        assert!(read(json!({"tool_choice": "required"})).is_err());
        assert!(read(json!({"tool_choice": "auto", "tools": []})).is_ok());
    }

    #[test]
    fn what_is_no_tool_is_refused_by_name() {
        let changed = |pointer: &str, value: Value| {
            let mut tool = tool("f");
            *tool.pointer_mut(pointer).unwrap() = value;
            json!([tool])
        };
        for (tools, field) in [
            (json!([{}]), "tools[0].type"),
            (json!({}), "tools"),
            (json!([tool("f"), tool("f")]), "tools[1].function.name"),
            (json!(vec![tool("f"); 129]), "tools"),
            (changed("/type", json!("custom")), "tools[0].type"),
            (changed("/function", json!(1)), "tools[0].function"),
            (
                changed("/function/name", json!("a b")),
                "tools[0].function.name",
            ),
            (
                changed("/function/name", Value::Null),
                "tools[0].function.name",
            ),
            (
                changed("/function/parameters", json!([])),
                "tools[0].function.parameters",
            ),
            (
                changed("/function", json!({"name": "f", "x": 1})),
                "tools[0].function.x",
            ),
        ] {
            match read(json!({"tools": tools})) {
                Err(error) => assert_eq!(error.param(), Some(field)),
                other => panic!("{field}: {other:?}"),
            }
        }
    }

    #[test]
    fn calls_and_their_answers_are_messages() {
        let call = |arguments: &str| json!({"id": "call_1", "type": "function", "function": {"name": "f", "arguments": arguments}});
        let messages = |arguments: &str| {
            json!({"messages": [{"role": "user", "content": "hi"},
                {"role": "assistant", "content": null, "tool_calls": [call(arguments)]},
                {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "42"}]}]})
        };
        let chat = read(messages(r#"{"b": 1, "a": [2]}"#)).unwrap();
        let asked = &chat.messages[1];
        assert_eq!((asked.role, asked.content.as_str()), (Role::Assistant, ""));
        let arguments = serde_json::to_string(&asked.calls[0].arguments).unwrap();
        assert_eq!(arguments, r#"{"b":1,"a":[2]}"#);
        let answer = &chat.messages[2];
        assert_eq!((answer.role, answer.content.as_str()), (Role::Tool, "42"));
        assert_eq!(answer.answers.as_deref(), Some("call_1"));
        assert!(
            read(messages("")).is_ok(),
            "other providers write nothing for no arguments"
        );
        for (message, field) in [
            (
                json!({"role": "tool", "content": "a"}),
                "messages[0].tool_call_id",
            ),
            (
                json!({"role": "user", "content": "a", "tool_call_id": "b"}),
                "messages[0].tool_call_id",
            ),
            (
                json!({"role": "user", "content": "a", "tool_calls": [call("{}")]}),
                "messages[0].tool_calls",
            ),
            (json!({"role": "assistant"}), "messages[0].content"),
            (
                json!({"role": "function", "content": "a"}),
                "messages[0].role",
            ),
            (
                json!({"role": "assistant", "tool_calls": [call("[1]")]}),
                "messages[0].tool_calls[0].function.arguments",
            ),
            (
                json!({"role": "assistant", "tool_calls": [{"id": "a b"}]}),
                "messages[0].tool_calls[0].id",
            ),
        ] {
            match read(json!({"messages": [message]})) {
                Err(error) => assert_eq!(error.param(), Some(field)),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
