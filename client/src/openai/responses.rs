//! Requests to `/v1/responses`. What is asked becomes the same [`Conversation`] as a chat completion's.

use super::tools::{self, Tools};
use super::{
    bounded, bounded_list, bounded_turns, chat, flag, form, missing, neutral, number, other,
    refuse, text, unknown,
};
use crate::ask::{Ask, Call, Conversation, Form, Role, Turn};
use crate::error::{ClientError, shown};
use serde_json::{Map, Value, json};
use wire::limits::{TEMPERATURE_MAX, TOP_P_MAX};

/// A request that was read. What it continues is not known yet.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    asked: Conversation,
    instructions: Option<String>,
    input: Vec<Turn>,
    /// The response whose conversation goes on.
    pub(crate) previous: Option<String>,
    pub(crate) stream: bool,
    /// Whether the answer can be asked for again, and be continued.
    pub(crate) store: bool,
    /// What the answer repeats of the request, by the names of its fields.
    pub(crate) echo: Map<String, Value>,
}

impl Request {
    /// The conversation that was kept, and what is said now.
    pub(crate) fn turns(&self, previous: &[Turn]) -> Result<Vec<Turn>, ClientError> {
        let turns = previous.iter().chain(&self.input).cloned().collect();
        bounded_turns("input", turns)
    }

    /// What is asked. Instructions count for this answer alone.
    pub(crate) fn ask(self, turns: Vec<Turn>) -> Ask {
        let instructions = self.instructions.map(|text| Turn::says(Role::System, text));
        let messages = instructions.into_iter().chain(turns).collect();
        Ask::Chat(Conversation {
            messages,
            ..self.asked
        })
    }
}

/// Fields whose named values mean "nothing".
const NEUTRAL: &[(&str, &[&str])] = &[
    ("background", &["false"]),
    ("truncation", &[r#""disabled""#]),
    ("service_tier", &[r#""auto""#, r#""default""#]),
    ("top_logprobs", &["0"]),
];
/// The answer repeats these as they came.
const ECHOED: [&str; 10] = [
    "instructions",
    "max_output_tokens",
    "metadata",
    "parallel_tool_calls",
    "previous_response_id",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
];

/// Reads a body.
pub(crate) fn parse(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut input, mut offered) = (None, None, Tools::default());
    let mut request = Request {
        asked: Conversation::new(String::new(), Vec::new()),
        instructions: None,
        input: Vec::new(),
        previous: None,
        stream: false,
        store: true,
        echo: Map::new(),
    };
    let asked = &mut request.asked;
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "input" => input = Some(items(name, value)?),
            "instructions" => request.instructions = Some(text(name, value)?),
            "max_output_tokens" => asked.tokens_max = chat::tokens(name, value)?,
            "temperature" => asked.temperature = number(name, value, TEMPERATURE_MAX)?,
            "top_p" => asked.top_p = number(name, value, TOP_P_MAX)?,
            "tools" => functions(&mut offered, name, value)?,
            "tool_choice" => choose(&mut offered, name, value)?,
            "parallel_tool_calls" => asked.parallel_calls = flag(name, value)?,
            "text" => {
                asked.form = text_form(name, value)?;
                asked.form_at = match asked.form {
                    Form::Schema(_) => "text.format.schema",
                    _ => "text.format",
                };
            }
            "reasoning" => asked.thinking = reasoning(name, value)?,
            "previous_response_id" => request.previous = Some(text(name, value)?),
            "store" => request.store = flag(name, value)?,
            "stream" => request.stream = flag(name, value)?,
            "stream_options" => drop(chat::stream_options(value)?),
            "metadata" => metadata(name, value)?,
            "include" => include(name, value)?,
            // What Codex tells its own servers about itself goes no further than here.
            "client_metadata" if value.is_object() => {}
            "user" | "safety_identifier" | "prompt_cache_key" | "prompt_cache_retention" => {
                drop(text(name, value)?)
            }
            _ => neutral(NEUTRAL, name, value)?,
        }
        if ECHOED.contains(&name.as_str()) {
            request.echo.insert(name.clone(), value.clone());
        }
    }
    (asked.tools, asked.tool_choice) = offered.finish()?;
    asked.model = model.ok_or_else(|| missing("model"))?;
    request.input = input.ok_or_else(|| missing("input"))?;
    Ok(request)
}

/// A text, or a list of items.
fn items(name: &str, value: &Value) -> Result<Vec<Turn>, ClientError> {
    let list = match value {
        Value::String(said) => {
            return Ok(vec![Turn::says(Role::User, bounded(name, said.clone())?)]);
        }
        Value::Array(list) if !list.is_empty() => list,
        _ => return Err(other(name, value, "a text or a list of items")),
    };
    bounded_list(name, list.len())?;
    let mut turns = Vec::new();
    let mut thought = None;
    for (index, value) in list.iter().enumerate() {
        item(&format!("{name}[{index}]"), value, &mut turns, &mut thought)?;
    }
    match turns.is_empty() {
        true => Err(other(
            name,
            value,
            "a list with a message or a call's output",
        )),
        false => Ok(turns),
    }
}

/// Adds an item to the conversation. Calls belong to the assistant's message before them, and thoughts to the one behind.
fn item(
    at: &str,
    value: &Value,
    turns: &mut Vec<Turn>,
    thought: &mut Option<String>,
) -> Result<(), ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(at, value, "a JSON object with a `type`"))?;
    let kind = match fields.get("type") {
        // A message may leave it out.
        None if fields.contains_key("role") => "message",
        None => return Err(missing(&format!("{at}.type"))),
        Some(kind) => kind.as_str().unwrap_or_default(),
    };
    match kind {
        "message" => {
            let mut turn = message(at, fields)?;
            if turn.role == Role::Assistant {
                turn.reasoning = thought.take();
            }
            turns.push(turn);
        }
        "function_call" => {
            let call = call(at, fields)?;
            match turns.last_mut() {
                Some(turn) if turn.role == Role::Assistant && thought.is_none() => {
                    turn.calls.push(call);
                }
                _ => {
                    let mut turn = Turn::says(Role::Assistant, "");
                    turn.reasoning = thought.take();
                    turn.calls.push(call);
                    turns.push(turn);
                }
            }
        }
        "function_call_output" => turns.push(output(at, fields)?),
        "reasoning" => *thought = thoughts(at, fields)?,
        kind => {
            let (field, kind) = (format!("{at}.type"), shown(kind));
            let allowed = "message, function_call, function_call_output and reasoning";
            let message = format!("`{field}` is {kind}; this version knows {allowed}");
            return Err(refuse(Some(&field), &message));
        }
    }
    Ok(())
}

fn message(at: &str, fields: &Map<String, Value>) -> Result<Turn, ClientError> {
    let (mut role, mut content) = (None, None);
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("{at}.{name}");
        match name.as_str() {
            "type" => {}
            // How an answer looks that is handed back.
            "id" | "status" | "phase" => drop(text(&field, value)?),
            "role" => {
                let known = value.as_str().and_then(Role::of);
                let known = known.filter(|role| *role != Role::Tool);
                let roles = "user, assistant, system or developer";
                role = Some(known.ok_or_else(|| other(&field, value, roles))?);
            }
            "content" => content = Some(parts(&field, value)?),
            _ => return Err(unknown(&field)),
        }
    }
    let role = role.ok_or_else(|| missing(&format!("{at}.role")))?;
    let content = content.ok_or_else(|| missing(&format!("{at}.content")))?;
    Ok(Turn::says(role, content))
}

/// A text, or a list of parts that are text.
fn parts(field: &str, value: &Value) -> Result<String, ClientError> {
    let list = match value {
        Value::String(said) => return bounded(field, said.clone()),
        Value::Array(list) => list,
        _ => return Err(other(field, value, "a text or a list of text parts")),
    };
    let mut said = String::new();
    for (index, value) in list.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let key = match value.get("type").and_then(Value::as_str) {
            Some("input_text" | "output_text" | "text" | "reasoning_text" | "summary_text") => {
                "text"
            }
            Some("refusal") => "refusal",
            Some(kind) => {
                let kind = shown(kind);
                let message = format!("`{at}` is of type `{kind}`; only text is supported");
                return Err(refuse(Some(&at), &message));
            }
            None => return Err(missing(&format!("{at}.type"))),
        };
        let part = value.get(key).and_then(Value::as_str);
        said += part.ok_or_else(|| missing(&format!("{at}.{key}")))?;
    }
    bounded(field, said)
}

fn call(at: &str, fields: &Map<String, Value>) -> Result<Call, ClientError> {
    let field = |name: &str| format!("{at}.{name}");
    let given = |name: &str| fields.get(name).ok_or_else(|| missing(&field(name)));
    only(
        at,
        fields,
        &["type", "id", "status", "call_id", "name", "arguments"],
    )?;
    Ok(Call {
        id: tools::word(&field("call_id"), given("call_id")?)?,
        name: tools::word(&field("name"), given("name")?)?,
        arguments: tools::arguments(&field("arguments"), given("arguments")?)?,
    })
}

fn output(at: &str, fields: &Map<String, Value>) -> Result<Turn, ClientError> {
    only(at, fields, &["type", "id", "status", "call_id", "output"])?;
    let field = |name: &str| format!("{at}.{name}");
    let given = |name: &str| fields.get(name).ok_or_else(|| missing(&field(name)));
    let mut turn = Turn::says(Role::Tool, parts(&field("output"), given("output")?)?);
    turn.answers = Some(tools::word(&field("call_id"), given("call_id")?)?);
    Ok(turn)
}

/// What the model thought, where the item has it in the clear. A summary and encrypted content are another provider's.
fn thoughts(at: &str, fields: &Map<String, Value>) -> Result<Option<String>, ClientError> {
    let known = [
        "type",
        "id",
        "status",
        "summary",
        "content",
        "encrypted_content",
    ];
    only(at, fields, &known)?;
    let content = fields.get("content").filter(|value| !value.is_null());
    let thought = content.map(|value| parts(&format!("{at}.content"), value));
    Ok(thought.transpose()?.filter(|thought| !thought.is_empty()))
}

fn only(at: &str, fields: &Map<String, Value>, known: &[&str]) -> Result<(), ClientError> {
    let mut given = fields.iter().filter(|(_, value)| !value.is_null());
    match given.find(|(name, _)| !known.contains(&name.as_str())) {
        Some((name, _)) => Err(unknown(&format!("{at}.{name}"))),
        None => Ok(()),
    }
}

/// Functions, whose fields lie beside their type.
fn functions(offered: &mut Tools, name: &str, value: &Value) -> Result<(), ClientError> {
    for (index, value) in tools::list(name, value, model::limits::TOOLS_MAX)?
        .iter()
        .enumerate()
    {
        let at = format!("{name}[{index}]");
        let fields = value.as_object();
        let fields = fields.ok_or_else(|| other(&at, value, "a JSON object"))?;
        let mut fields = fields.clone();
        let kind = fields.shift_remove("type");
        match kind.as_ref().map(|kind| (kind, kind.as_str())) {
            Some((_, Some("function"))) => offered.add(&at, &fields, "parameters")?,
            Some((kind, _)) => return Err(other(&format!("{at}.type"), kind, "function")),
            None => return Err(missing(&format!("{at}.type"))),
        }
    }
    Ok(())
}

/// The choice in the form of a chat completion, which names functions one level deeper.
fn choose(offered: &mut Tools, name: &str, value: &Value) -> Result<(), ClientError> {
    let deeper = |value: &Value| match value.get("type").and_then(Value::as_str) {
        Some("function") => json!({"type": "function", "function": {"name": value.get("name")}}),
        _ => value.clone(),
    };
    let chosen = match value.get("type").and_then(Value::as_str) {
        Some("allowed_tools") => {
            let tools = value.get("tools").and_then(Value::as_array);
            let tools = tools.map(|tools| tools.iter().map(deeper).collect::<Vec<_>>());
            json!({"type": "allowed_tools",
                "allowed_tools": {"mode": value.get("mode"), "tools": tools}})
        }
        _ => deeper(value),
    };
    let flat = |error| renamed(renamed(error, ".allowed_tools", ""), ".function", "");
    offered.choose(name, &chosen).map_err(flat)
}

/// `{"format": …, "verbosity": …}`
fn text_form(name: &str, value: &Value) -> Result<Form, ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(name, value, "an object with `format`"))?;
    let mut form = Form::Text;
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{name}.{field}");
        match field.as_str() {
            "format" => form = format_of(&at, value)?,
            "verbosity" => neutral(&[(&at, &[r#""medium""#])], &at, value)?,
            _ => return Err(unknown(&at)),
        }
    }
    Ok(form)
}

/// A schema and its name lie beside the type here, and one level deeper in a chat completion.
fn format_of(at: &str, value: &Value) -> Result<Form, ClientError> {
    if value.get("type").and_then(Value::as_str) != Some("json_schema") {
        return form::response_format(at, value);
    }
    let mut schema = value.as_object().cloned().unwrap_or_default();
    schema.shift_remove("type");
    let deeper = json!({"type": "json_schema", "json_schema": schema});
    let deep = format!("{at}.json_schema");
    form::response_format(at, &deeper).map_err(|error| renamed(error, &deep, at))
}

/// An error that names a field as it was given.
fn renamed(error: ClientError, from: &str, to: &str) -> ClientError {
    let name = |text: String| text.replacen(from, to, 1);
    match error {
        ClientError::Request { param, message } => ClientError::Request {
            param: param.map(name),
            message: name(message),
        },
        ClientError::UnknownField { param } => ClientError::UnknownField { param: name(param) },
        error => error,
    }
}

/// Efforts that the OpenAI API has. How hard to think is for the model; only whether is told to it.
const EFFORTS: [&str; 6] = ["none", "minimal", "low", "medium", "high", "xhigh"];

fn reasoning(name: &str, value: &Value) -> Result<Option<bool>, ClientError> {
    let fields = value.as_object();
    let fields = fields.ok_or_else(|| other(name, value, "an object with `effort`"))?;
    let mut thinking = None;
    for (field, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let at = format!("{name}.{field}");
        match (field.as_str(), value.as_str()) {
            ("effort", Some("none")) => thinking = Some(false),
            ("effort", Some(effort)) if EFFORTS.contains(&effort) => {}
            ("effort", _) => return Err(other(&at, value, &EFFORTS.join(", "))),
            // A model that gives none is as good as this one.
            ("summary" | "generate_summary", Some("auto" | "concise" | "detailed")) => {}
            ("summary" | "generate_summary", _) => {
                return Err(other(&at, value, "auto, concise or detailed"));
            }
            _ => return Err(unknown(&at)),
        }
    }
    Ok(thinking)
}

/// The OpenAI API's limits: 16 pairs, names of 64 and values of 512 characters.
fn metadata(name: &str, value: &Value) -> Result<(), ClientError> {
    let fits = |(name, value): (&String, &Value)| {
        let value = value.as_str().map(|text| text.chars().count());
        name.chars().count() <= 64 && value.is_some_and(|chars| chars <= 512)
    };
    match value.as_object() {
        Some(fields) if fields.len() <= 16 && fields.iter().all(fits) => Ok(()),
        _ => Err(other(name, value, "16 names with texts at most")),
    }
}

/// What may be wanted besides: encrypted thoughts, which nothing here makes.
fn include(name: &str, value: &Value) -> Result<(), ClientError> {
    let known = |value: &Value| value == "reasoning.encrypted_content";
    match value.as_array() {
        Some(list) if list.iter().all(known) => Ok(()),
        _ => Err(other(name, value, "a list of reasoning.encrypted_content")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::ToolChoice;

    fn read(more: Value) -> Result<Request, ClientError> {
        let mut body = json!({"model": "m", "input": "hi"});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        parse(body.as_object().unwrap())
    }

    fn asked(request: Request, previous: &[Turn]) -> Conversation {
        let turns = request.turns(previous).unwrap();
        match request.ask(turns) {
            Ask::Chat(chat) => chat,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn items_become_messages_with_calls_where_they_belong() {
        let request = read(
            json!({"instructions": "be brief", "store": false, "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]},
            {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
                "content": [{"type": "output_text", "text": "c", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{\"z\":1,\"a\":2}"},
            {"type": "function_call", "call_id": "call_2", "name": "g", "arguments": ""},
            {"type": "function_call_output", "call_id": "call_1", "output": "one"},
            {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "two"}]},
            {"type": "function_call", "call_id": "call_3", "name": "f", "arguments": "{}"}]}),
        );
        let request = request.unwrap();
        assert!(!request.store);
        let chat = asked(request, &[Turn::says(Role::User, "before")]);
        let said: Vec<_> = { chat.messages.iter() }
            .map(|turn| (turn.role.name(), turn.content.as_str(), turn.calls.len()))
            .collect();
        let expected = [
            ("system", "be brief", 0),
            ("user", "before", 0),
            ("user", "ab", 0),
            ("assistant", "c", 2),
            ("tool", "one", 0),
            ("tool", "two", 0),
            ("assistant", "", 1),
        ];
        assert_eq!(said, expected);
        assert_eq!(chat.messages[3].reasoning.as_deref(), Some("hm"));
        assert_eq!(chat.messages[4].answers.as_deref(), Some("call_1"));
        let arguments = serde_json::to_string(&chat.messages[3].calls[0].arguments).unwrap();
        assert_eq!(arguments, r#"{"z":1,"a":2}"#);
    }

    #[test]
    fn what_the_sdks_and_agents_send_is_taken_and_repeated() {
        let tool = json!({"type": "function", "name": "f", "description": "d", "strict": false,
            "parameters": {"type": "object", "properties": {}}});
        let request = read(
            json!({"tools": [tool], "tool_choice": {"type": "function", "name": "f"},
            "parallel_tool_calls": false, "reasoning": {"effort": "none", "summary": "auto"},
            "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "truncation": "disabled",
            "text": {"format": {"type": "text"}, "verbosity": "medium"}, "metadata": {"a": "b"}, "stream": true,
            "max_output_tokens": 9, "temperature": 0, "user": null}),
        );
        let request = request.unwrap();
        assert!(request.stream && request.store);
        assert_eq!(request.echo["metadata"], json!({"a": "b"}));
        assert_eq!(request.echo["tools"][0]["name"], "f");
        let chat = asked(request, &[]);
        assert_eq!(chat.tool_choice, ToolChoice::Named("f".into()));
        assert_eq!((chat.thinking, chat.tokens_max), (Some(false), 9));
        assert!(!chat.parallel_calls);
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        let item = |item: Value| json!({"input": [item]});
        let part = |part: Value| item(json!({"role": "user", "content": [part]}));
        for (body, field) in [
            (json!({"input": null}), "input"),
            (json!({"input": []}), "input"),
            (
                json!({"input": [{"type": "reasoning", "summary": []}]}),
                "input",
            ),
            (
                item(json!({"type": "item_reference", "id": "x"})),
                "input[0].type",
            ),
            (item(json!({"content": "a"})), "input[0].type"),
            (
                item(json!({"role": "tool", "content": "a"})),
                "input[0].role",
            ),
            (item(json!({"role": "user"})), "input[0].content"),
            (
                item(json!({"role": "user", "content": "a", "x": 1})),
                "input[0].x",
            ),
            (
                part(json!({"type": "input_image", "image_url": "x"})),
                "input[0].content[0]",
            ),
            (
                item(
                    json!({"type": "function_call", "call_id": "c", "name": "f", "arguments": "[]"}),
                ),
                "input[0].arguments",
            ),
            (
                item(json!({"type": "function_call_output", "call_id": "c"})),
                "input[0].output",
            ),
            (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
            (
                json!({"tools": [{"type": "function", "name": "a b"}]}),
                "tools[0].name",
            ),
            (
                json!({"tool_choice": {"type": "function", "name": "f"}}),
                "tool_choice",
            ),
            (
                json!({"tool_choice": {"type": "function"}}),
                "tool_choice.name",
            ),
            (json!({"background": true}), "background"),
            (json!({"truncation": "auto"}), "truncation"),
            (json!({"include": ["file_search_call.results"]}), "include"),
            (
                json!({"text": {"format": {"type": "json_schema", "name": "n"}}}),
                "text.format.schema",
            ),
            (json!({"text": {"verbosity": "low"}}), "text.verbosity"),
            (json!({"reasoning": {"effort": "most"}}), "reasoning.effort"),
            (json!({"metadata": {"a": 1}}), "metadata"),
            (json!({"conversation": "c"}), "conversation"),
        ] {
            match read(body) {
                Err(error) => assert_eq!(error.param(), Some(field), "{error}"),
                Ok(request) => panic!("{field}: {request:?}"),
            }
        }
    }
}
