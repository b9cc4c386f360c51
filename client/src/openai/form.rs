//! What the text of an answer must be: `response_format`, and vLLM's `guided_regex`.

use super::{missing, other, refuse, text, tools};
use crate::ask::{Conversation, Form};
use crate::error::ClientError;
use crate::limits::FORM_BYTES_MAX;
use serde_json::Value;

/// What an answer must be, one form at most.
pub(super) fn take(name: &str, value: &Value, asked: &mut Conversation) -> Result<(), ClientError> {
    let (form, at) = match name {
        "guided_regex" => (regex(name, value)?, "guided_regex"),
        _ => match response_format(name, value)? {
            form @ Form::Schema(_) => (form, "response_format.json_schema.schema"),
            form => (form, "response_format"),
        },
    };
    match (&asked.form, form) {
        (_, Form::Text) => Ok(()),
        (Form::Text, form) => {
            (asked.form, asked.form_at) = (form, at);
            Ok(())
        }
        _ => Err(refuse(
            Some(name),
            "`response_format` and `guided_regex` are two forms of one answer; ask for one of them",
        )),
    }
}

/// `response_format`
pub(super) fn response_format(name: &str, value: &Value) -> Result<Form, ClientError> {
    let kind = value.get("type").and_then(Value::as_str);
    let form = match kind {
        Some("text") => Form::Text,
        Some("json_object") => Form::Object,
        Some("json_schema") => return json_schema(&format!("{name}.json_schema"), value),
        _ => {
            let kinds = "an object whose `type` is text, json_object or json_schema";
            return Err(other(name, value, kinds));
        }
    };
    let more = value
        .as_object()
        .and_then(|fields| { fields.keys() }.find(|key| *key != "type"));
    match more {
        Some(more) => Err(super::unknown(&format!("{name}.{more}"))),
        None => Ok(form),
    }
}

/// `{"type": "json_schema", "json_schema": {"name", "schema", …}}`
fn json_schema(at: &str, value: &Value) -> Result<Form, ClientError> {
    let given = value.get("json_schema").ok_or_else(|| missing(at))?;
    let fields = given.as_object();
    let fields = fields.ok_or_else(|| other(at, given, "an object with `name` and `schema`"))?;
    let mut schema = None;
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        let field = format!("{at}.{name}");
        match name.as_str() {
            // For people, and for models that are not held to the schema.
            "name" | "description" => drop(text(&field, value)?),
            // An answer satisfies the schema in any case.
            "strict" => drop(super::flag(&field, value)?),
            "schema" if value.is_object() || value.is_boolean() => {
                bounded(&field, &value.to_string())?;
                schema = Some(tools::json(&field, value)?);
            }
            "schema" => return Err(other(&field, value, "a JSON Schema")),
            _ => return Err(super::unknown(&field)),
        }
    }
    let schema = schema.ok_or_else(|| missing(&format!("{at}.schema")))?;
    Ok(Form::Schema(schema))
}

/// `guided_regex`
pub(super) fn regex(name: &str, value: &Value) -> Result<Form, ClientError> {
    let regex = text(name, value)?;
    bounded(name, &regex)?;
    Ok(Form::Regex(regex))
}

fn bounded(name: &str, written: &str) -> Result<(), ClientError> {
    match written.len() <= FORM_BYTES_MAX {
        true => Ok(()),
        false => Err(refuse(
            Some(name),
            &format!(
                "`{name}` has {} bytes; at most {FORM_BYTES_MAX} are allowed",
                written.len()
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Json;
    use serde_json::json;

    #[test]
    fn a_form_is_read_with_its_keys_in_order_and_refused_by_name() {
        let read = |value: &Value| response_format("response_format", value);
        let schema = json!({"type": "object", "properties": {"z": {}, "a": {}}});
        let form = |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}});
        let Ok(Form::Schema(Json::Object(read_schema))) = read(&form(&schema)) else {
            panic!("no schema");
        };
        assert_eq!(
            serde_json::to_string(&read_schema[1].1).unwrap(),
            r#"{"z":{},"a":{}}"#
        );
        assert_eq!(read(&json!({"type": "json_object"})), Ok(Form::Object));
        assert_eq!(read(&json!({"type": "text"})), Ok(Form::Text));
        for (value, field) in [
            (json!("json_object"), "response_format"),
            (json!({"type": "grammar"}), "response_format"),
            (
                json!({"type": "json_object", "schema": {}}),
                "response_format.schema",
            ),
            (
                json!({"type": "json_schema"}),
                "response_format.json_schema",
            ),
            (
                json!({"type": "json_schema", "json_schema": {"name": "n"}}),
                "response_format.json_schema.schema",
            ),
            (form(&json!(1)), "response_format.json_schema.schema"),
            (
                form(&json!({"description": "x".repeat(FORM_BYTES_MAX)})),
                "response_format.json_schema.schema",
            ),
        ] {
            match read(&value) {
                Err(error) => assert_eq!(error.param(), Some(field)),
                other => panic!("{field}: {other:?}"),
            }
        }
    }
}
