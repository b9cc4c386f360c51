//! Calls of tools as a model writes them, each with arguments that satisfy its tool's schema.

use super::nfa::{Nfa, Part};
use super::schema::{self, Scope};
use super::{CallForm, Degree, FormError, FormFlaw, FormTokens, value};
use crate::text::Json;
use crate::text::tools::Format;

/// At least one call, and nothing else. Llama 3 makes one call at a time.
pub(super) fn part(
    nfa: &mut Nfa,
    tokens: &FormTokens,
    format: Format,
    tools: &[CallForm<'_>],
    several: bool,
    degree: Degree,
) -> Result<Part, FormError> {
    let mark = |text: &str| tokens.mark(text);
    // Mistral's newer form has the name first.
    let name_first = format == Format::Mistral && tokens.has("[ARGS]");
    let (before, between, after, outer) = match format {
        Format::Hermes => (
            [mark("<tool_call>"), b"\n".to_vec()].concat(),
            b"\n".to_vec(),
            [b"\n".to_vec(), mark("</tool_call>")].concat(),
            None,
        ),
        Format::Llama3 => Default::default(),
        Format::Mistral if name_first => (mark("[TOOL_CALLS]"), Vec::new(), Vec::new(), None),
        Format::Mistral => {
            let list = [mark("[TOOL_CALLS]"), b"[".to_vec()].concat();
            (Vec::new(), value::COMMA.to_vec(), Vec::new(), Some(list))
        }
    };
    let max = match several && format != Format::Llama3 {
        true => None,
        false => Some(1),
    };
    let calls = nfa.list(1, max, &between, |nfa| {
        let mut calls = Vec::new();
        for tool in tools {
            let (head, tail) = head(tokens, format, name_first, tool.name);
            let (head, tail) = (nfa.literal(&head)?, nfa.literal(tail)?);
            let arguments = arguments(nfa, tool, degree)?;
            calls.push(nfa.sequence(&[head, arguments, tail])?);
        }
        let call = nfa.either(&calls)?;
        Ok::<_, FormError>(value::between(nfa, &before, call, &after)?)
    })?;
    match outer {
        None => Ok(calls),
        Some(list) => Ok(value::between(nfa, &list, calls, b"]")?),
    }
}

/// What stands before a call's arguments and behind them.
fn head(
    tokens: &FormTokens,
    format: Format,
    name_first: bool,
    name: &str,
) -> (Vec<u8>, &'static [u8]) {
    if name_first {
        return ([name.as_bytes(), &tokens.mark("[ARGS]")].concat(), b"");
    }
    let key = match format {
        Format::Llama3 => "parameters",
        Format::Hermes | Format::Mistral => "arguments",
    };
    let name = serde_json::Value::from(name);
    (format!(r#"{{"name": {name}, "{key}": "#).into_bytes(), b"}")
}

fn arguments(nfa: &mut Nfa, tool: &CallForm<'_>, degree: Degree) -> Result<Part, FormError> {
    let Some(schema) = tool.parameters else {
        return Ok(nfa.literal(b"{}")?);
    };
    let is_object = |schema: &Json| {
        schema.get("type").and_then(Json::as_str) == Some("object")
            || ["properties", "$ref"]
                .iter()
                .any(|keyword| schema.get(keyword).is_some())
    };
    match schema {
        Json::Object(fields) if fields.is_empty() => {
            let values = degree.nesting.saturating_sub(1);
            Ok(value::object(nfa, |nfa| value::any(nfa, values))?)
        }
        schema if is_object(schema) => {
            schema::part(nfa, &Scope::new(schema, tool.path, degree), schema)
        }
        _ => Err(FormError {
            at: tool.path.to_owned(),
            flaw: FormFlaw::Value("a schema of the type object"),
        }),
    }
}
