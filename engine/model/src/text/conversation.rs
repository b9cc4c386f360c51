//! What is said in a conversation, with tools and their answers, as chat templates get it.

use super::json::Json;
use super::{Message, TextError, check_bytes};
use crate::limits;

/// A conversation, and what a template is told besides.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Conversation {
    /// In order.
    pub turns: Vec<Turn>,
    /// Definitions of tools in OpenAI's form: `{"type": "function", "function": {"name", "description", "parameters"}}`.
    pub tools: Vec<Json>,
    /// `enable_thinking`, for templates that ask; `None` leaves it to the template.
    pub thinking: Option<bool>,
    /// For templates that write the date; without one they write what they have for that case.
    pub today: Option<Date>,
}

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// Who speaks.
    pub role: Role,
    /// What is said. An assistant that calls tools may say nothing.
    pub content: String,
    /// What the assistant thought before it spoke (`reasoning_content`).
    pub reasoning: Option<String>,
    /// Tools that the assistant calls.
    pub calls: Vec<Call>,
    /// Which call a tool answers.
    pub answers: Option<String>,
    /// The tool that answers, where it is said.
    pub name: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// By which its answer names it.
    pub id: String,
    /// The tool.
    pub name: String,
    /// An object.
    pub arguments: Json,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    /// From 1 on.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
}

impl Role {
    /// The role called so.
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "system" => Role::System,
            "developer" => Role::Developer,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "tool" => Role::Tool,
            _ => return None,
        })
    }

    /// As a template compares it.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl Turn {
    /// Somebody says something.
    pub fn says(role: Role, content: impl Into<String>) -> Self {
        Turn {
            role,
            content: content.into(),
            reasoning: None,
            calls: Vec::new(),
            answers: None,
            name: None,
        }
    }

    /// In OpenAI's order of keys, with arguments as an object.
    fn json(&self, speaker: Role) -> Json {
        let mut pairs = vec![
            ("role", Json::from(speaker.name())),
            ("content", Json::from(self.content.as_str())),
        ];
        let optional = [
            ("reasoning_content", &self.reasoning),
            ("tool_call_id", &self.answers),
            ("name", &self.name),
        ];
        let said = optional.into_iter();
        pairs.extend(said.filter_map(|(key, text)| Some((key, Json::from(text.as_deref()?)))));
        if !self.calls.is_empty() {
            pairs.push((
                "tool_calls",
                Json::List(self.calls.iter().map(Call::json).collect()),
            ));
        }
        Json::object(pairs)
    }
}

impl Call {
    fn json(&self) -> Json {
        let function = Json::object([
            ("name", Json::from(self.name.as_str())),
            ("arguments", self.arguments.clone()),
        ]);
        Json::object([
            ("id", Json::from(self.id.as_str())),
            ("type", Json::from("function")),
            ("function", function),
        ])
    }
}

impl Conversation {
    /// A conversation of plain messages.
    pub fn of(messages: &[Message<'_>]) -> Result<Self, TextError> {
        let turns = messages.iter().enumerate().map(|(message, said)| {
            let role = Role::of(said.role).ok_or(TextError::Role { message })?;
            Ok(Turn::says(role, said.content))
        });
        Ok(Conversation {
            turns: turns.collect::<Result<_, _>>()?,
            ..Conversation::default()
        })
    }

    /// The messages for a template. A developer speaks as the system to one that does not know developers.
    pub(super) fn messages(&self, knows_developers: bool) -> Json {
        let turns = self.turns.iter().map(|turn| match turn.role {
            Role::Developer if !knows_developers => turn.json(Role::System),
            role => turn.json(role),
        });
        Json::List(turns.collect())
    }

    /// Refuses what is out of bounds, before anything is made of it.
    pub(super) fn check(&self) -> Result<(), TextError> {
        let messages_max = limits::MESSAGES_MAX;
        if !(1..=messages_max).contains(&self.turns.len()) {
            return Err(TextError::Messages {
                messages: self.turns.len(),
                messages_max,
            });
        }
        let mut all = 0usize;
        for turn in &self.turns {
            check_bytes(turn.content.len(), limits::TEXT_BYTES_MAX)?;
        }
        let mut add = |text: &str| all = all.saturating_add(text.len());
        let messages = self.messages(true);
        messages.each(&mut add);
        self.tools.iter().for_each(|tool| tool.each(&mut add));
        check_bytes(all, limits::CONVERSATION_BYTES_MAX + 64 * self.turns.len())?;
        for (message, turn) in self.turns.iter().enumerate() {
            let ids = turn.calls.iter().map(|call| &call.id).chain(&turn.answers);
            let names = turn.calls.iter().map(|call| &call.name).chain(&turn.name);
            let what = if !ids.clone().all(|id| is_word(id)) {
                "id"
            } else if !names.clone().all(|name| is_word(name)) {
                "name"
            } else {
                continue;
            };
            return Err(TextError::ToolWord { message, what });
        }
        if self.tools.len() > limits::TOOLS_MAX || !self.tools.iter().all(is_tool) {
            return Err(TextError::Tools {
                tools_max: limits::TOOLS_MAX,
            });
        }
        Ok(())
    }
}

/// Whether a text may be the name of a function or the id of a call: 1 to 64 letters, digits and `_-.:`.
pub fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn is_tool(tool: &Json) -> bool {
    let function = tool.get("function");
    let name = function.and_then(|function| function.get("name"));
    let parameters = function.and_then(|function| function.get("parameters"));
    tool.get("type").and_then(Json::as_str) == Some("function")
        && name.and_then(Json::as_str).is_some_and(is_word)
        && parameters.is_none_or(|parameters| matches!(parameters, Json::Object(_)))
}
