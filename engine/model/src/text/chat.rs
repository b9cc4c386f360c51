//! From a conversation to tokens: the rule of [`super`], step by step.

use std::ops::Range;

use super::conversation::Conversation;
use super::json::Json;
use super::template::Given;
use super::{Chat, GUARDS, Message, Text, TextError};

impl Text {
    /// The tokens of a conversation of plain messages.
    pub fn prompt(&self, messages: &[Message<'_>]) -> Result<Vec<u32>, TextError> {
        self.conversation(&Conversation::of(messages)?)
    }

    /// The tokens of a conversation, with tools, calls and their answers.
    pub fn conversation(&self, said: &Conversation) -> Result<Vec<u32>, TextError> {
        let (chat, control) = (self.chat()?, self.control());
        said.check()?;
        let given = chat.template.given(said);
        let harmless = self.encode(&chat.template.render(&given.harmless())?)?;
        let prompt = match self.spells_control(&given)? {
            true => self.guarded(chat, &given)?,
            false => self.encode(&chat.template.render(&given)?)?,
        };
        let controls = |tokens: &[u32]| tokens.iter().filter(|t| control.contains(t)).count();
        match controls(&prompt) == controls(&harmless) {
            true => Ok(prompt),
            false => Err(TextError::ControlTokenAcross),
        }
    }

    /// The text of a conversation as the template writes it, special tokens spelled out. For people and tests: the tokens of this
    /// text are those of the conversation only if no content spells out a special token.
    pub fn rendered(&self, said: &Conversation) -> Result<String, TextError> {
        let chat = self.chat()?;
        said.check()?;
        chat.template.render(&chat.template.given(said))
    }

    fn spells_control(&self, given: &Given) -> Result<bool, TextError> {
        let (mut spells, mut failed) = (false, None);
        given.each(&mut |text| {
            if spells || failed.is_some() {
                return;
            }
            match self.encode(text) {
                Ok(tokens) => spells |= tokens.iter().any(|token| self.control().contains(token)),
                Err(error) => failed = Some(error),
            }
        });
        failed.map_or(Ok(spells), Err)
    }

    /// The tokens of a conversation in which something spells out a special token.
    fn guarded(&self, chat: &Chat, given: &Given) -> Result<Vec<u32>, TextError> {
        let unused = |guard: &&char| {
            let mut used = false;
            given.each(&mut |text| used |= text.contains(**guard));
            !used
        };
        let guard = *{ GUARDS.iter() }
            .find(unused)
            .ok_or(TextError::ControlTokenAcross)?;
        let broken = given.map(&mut |text, _| self.broken(text, guard));
        if self.spells_control(&broken)? {
            return Err(TextError::ControlToken);
        }
        let rendered = chat.template.render(&broken)?;
        let failed = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
        let encoding = self.tokenizer.encode(rendered.as_str(), false);
        let encoding = encoding.map_err(failed)?;
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        let (mut prompt, mut from) = (Vec::new(), 0);
        let text = |out: &mut Vec<u32>, range: Range<usize>| {
            let text = rendered.get(range).ok_or(TextError::ControlTokenAcross)?;
            let text = text.replace(guard, "");
            let encoding = plain.encode_fast(text, false).map_err(failed)?;
            out.extend(encoding.get_ids());
            Ok(())
        };
        for (token, (start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            if self.control().contains(token) {
                text(&mut prompt, from..*start)?;
                prompt.push(*token);
                from = *end;
            }
        }
        text(&mut prompt, from..rendered.len())?;
        Ok(prompt)
    }

    /// `content` with the guard behind the first character of each special token that it spells out.
    fn broken(&self, content: &str, guard: char) -> String {
        let mut content = content.to_owned();
        for token in self.tokenizer.get_added_tokens_decoder().values() {
            let mut rest = token.content.chars();
            let (true, Some(first)) = (token.special, rest.next()) else {
                continue;
            };
            let broken = format!("{first}{guard}{}", rest.as_str());
            // A spelling that overlaps the one before it is left by the first replacement.
            while !rest.as_str().is_empty() && content.contains(&token.content) {
                content = content.replace(&token.content, &broken);
            }
        }
        content
    }
}

impl Given {
    /// Every text that somebody else wrote, roles and the words of JSON Schema among them.
    fn each<'a>(&'a self, look: &mut impl FnMut(&'a str)) {
        self.messages.each(look);
        self.tools.each(look);
    }

    fn map(&self, change: &mut impl FnMut(&str, bool) -> String) -> Given {
        Given {
            messages: self.messages.map(change),
            tools: self.tools.map(change),
            ..self.clone()
        }
    }

    /// The same conversation with nothing in it that could form a special token with what the template writes around it: every
    /// text is `x`, as far as templates do not look at it.
    fn harmless(&self) -> Given {
        let mut keys = 0;
        let mut change = |text: &str, key: bool| match key {
            true if WORDS.contains(&text) => text.to_owned(),
            false if text.is_empty() || TYPES.contains(&text) => text.to_owned(),
            true => {
                keys += 1;
                format!("x{keys}")
            }
            false => "x".to_owned(),
        };
        let tools = self.tools.map(&mut change);
        let Json::List(messages) = &self.messages else {
            return self.clone();
        };
        let messages = messages.iter().map(|message| {
            let Json::Object(pairs) = message else {
                return message.clone();
            };
            let pairs = pairs.iter().map(|(key, value)| {
                let value = match key.as_str() {
                    "role" => value.clone(),
                    "content" | "reasoning_content" if value.as_str() != Some("") => "x".into(),
                    "tool_call_id" => ids(value),
                    "tool_calls" => calls(value, &mut change),
                    _ => value.map(&mut change),
                };
                (key.clone(), value)
            });
            Json::Object(pairs.collect())
        });
        Given {
            messages: Json::List(messages.collect()),
            tools,
            ..self.clone()
        }
    }
}

/// Calls whose ids keep their length, which templates check.
fn calls(value: &Json, change: &mut impl FnMut(&str, bool) -> String) -> Json {
    let Json::List(calls) = value else {
        return value.clone();
    };
    let calls = calls.iter().map(|call| {
        let Json::Object(pairs) = call else {
            return call.clone();
        };
        let pairs = pairs.iter().map(|(key, value)| {
            let value = match key.as_str() {
                "id" => ids(value),
                _ => value.map(change),
            };
            (key.clone(), value)
        });
        Json::Object(pairs.collect())
    });
    Json::List(calls.collect())
}

fn ids(value: &Json) -> Json {
    let id = value.as_str().unwrap_or_default();
    Json::Text("x".repeat(id.len()))
}

/// Keys that templates look for: of OpenAI's form of a tool and of JSON Schema. An object has each once, so they stay apart.
const WORDS: [&str; 22] = [
    "$defs",
    "additionalProperties",
    "allOf",
    "anyOf",
    "arguments",
    "const",
    "default",
    "description",
    "enum",
    "format",
    "function",
    "items",
    "name",
    "nullable",
    "oneOf",
    "parameters",
    "properties",
    "required",
    "response",
    "return",
    "strict",
    "type",
];
/// Values that templates compare.
const TYPES: [&str; 8] = [
    "array", "boolean", "function", "integer", "null", "number", "object", "string",
];
