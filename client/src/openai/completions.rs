//! Requests to `/v1/completions`: a prompt as it is, without a chat template.

use super::{
    Delivery, Request, bounded, chat, flag, form, missing, neutral, number, other, preferences,
    refuse, text,
};
use crate::ask::{Ask, Conversation, Prompt};
use crate::error::ClientError;
use serde_json::{Map, Value};
use wire::limits::{REQUEST_WORDS_MAX, TEMPERATURE_MAX, TOP_P_MAX};

/// Fields whose named values mean "nothing".
const NEUTRAL: &[(&str, &[&str])] = &[
    ("best_of", &["1"]),
    ("echo", &["false"]),
    ("logprobs", &["null"]),
    ("suffix", &[r#""""#]),
];

/// Reads a body.
pub(crate) fn parse(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut prompt) = (None, None);
    let mut delivery = Delivery::default();
    let mut asked = Conversation::new(String::new(), Vec::new());
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "prompt" => prompt = Some(prompt_of(name, value)?),
            "max_tokens" => asked.tokens_max = chat::tokens(name, value)?,
            "temperature" => asked.temperature = number(name, value, TEMPERATURE_MAX)?,
            "top_p" => asked.top_p = number(name, value, TOP_P_MAX)?,
            "seed" => {
                let whole = "a whole number from 0";
                asked.seed = Some(value.as_u64().ok_or_else(|| other(name, value, whole))?);
            }
            "stop" => asked.stops = chat::stop(name, value)?,
            "n" => asked.choices = chat::choices(name, value)?,
            "stream" => delivery.stream = flag(name, value)?,
            "stream_options" => delivery.include_usage = chat::stream_options(value)?,
            "response_format" | "guided_regex" => form::take(name, value, &mut asked)?,
            "user" => drop(text(name, value)?),
            _ if preferences::take(name, value, &mut asked.preferences)? => {}
            _ => neutral(NEUTRAL, name, value)?,
        }
    }
    asked.model = model.ok_or_else(|| missing("model"))?;
    let prompt = prompt.ok_or_else(|| missing("prompt"))?;
    let ask = Ask::Raw(prompt, asked);
    Ok(Request { ask, delivery })
}

/// One prompt: a text or token ids, alone or as the only one of a list.
fn prompt_of(name: &str, value: &Value) -> Result<Prompt, ClientError> {
    let wanted = "one text, or one list of token ids";
    match value {
        Value::String(said) => Ok(Prompt::Text(bounded(name, said.clone())?)),
        Value::Array(list) => match list.as_slice() {
            [one @ (Value::String(_) | Value::Array(_))] => prompt_of(name, one),
            [Value::String(_) | Value::Array(_), ..] => {
                let message = format!("`{name}` has {} prompts; send one a request", list.len());
                Err(refuse(Some(name), &message))
            }
            ids if (1..=REQUEST_WORDS_MAX).contains(&ids.len()) => {
                let id = |id: &Value| id.as_u64().and_then(|id| u32::try_from(id).ok());
                let ids: Option<Vec<u32>> = ids.iter().map(id).collect();
                { ids.map(Prompt::Ids) }.ok_or_else(|| other(name, value, wanted))
            }
            _ => Err(other(name, value, wanted)),
        },
        _ => Err(other(name, value, wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Form;
    use serde_json::json;

    fn read(field: &str, value: Value) -> Result<Prompt, ClientError> {
        let mut body = json!({"model": "m", "prompt": "a", "max_tokens": 3});
        body[field] = value;
        match parse(body.as_object().unwrap())?.ask {
            Ask::Raw(prompt, asked) if asked.tokens_max == 3 => Ok(prompt),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_completion_has_the_forms_of_a_chat() {
        let form = |field: &str, value: Value| {
            let mut body = json!({"model": "m", "prompt": "a"});
            body[field] = value;
            match parse(body.as_object().unwrap())?.ask {
                Ask::Raw(_, asked) => Ok((asked.form, asked.form_at)),
                other => panic!("{other:?}"),
            }
        };
        let regex = Form::Regex("a+".into());
        assert_eq!(
            form("guided_regex", json!("a+")),
            Ok((regex, "guided_regex"))
        );
        let object = json!({"type": "json_object"});
        assert_eq!(
            form("response_format", object),
            Ok((Form::Object, "response_format"))
        );
        let error: Result<_, ClientError> = form("response_format", json!({"type": "xml"}));
        assert_eq!(error.unwrap_err().param(), Some("response_format"));
    }

    #[test]
    fn a_prompt_is_one_text_or_one_list_of_ids() {
        let text = Prompt::Text("b".into());
        assert_eq!(read("prompt", json!("b")), Ok(text.clone()));
        assert_eq!(read("prompt", json!(["b"])), Ok(text));
        let ids = Prompt::Ids(vec![1, 2]);
        assert_eq!(read("prompt", json!([1, 2])), Ok(ids.clone()));
        assert_eq!(read("prompt", json!([[1, 2]])), Ok(ids));
        for bad in [
            json!([]),
            json!([[]]),
            json!(["a", "b"]),
            json!([1, "a"]),
            json!([-1]),
            json!([4294967296u64]),
            json!(5),
        ] {
            let error = read("prompt", bad).unwrap_err();
            assert_eq!(error.param(), Some("prompt"), "{error}");
        }
        for (field, value) in [
            ("echo", json!(true)),
            ("best_of", json!(2)),
            ("logprobs", json!(1)),
            ("suffix", json!("x")),
            ("messages", json!([])),
        ] {
            let error = read(field, value).unwrap_err();
            assert_eq!(error.param(), Some(field), "{error}");
        }
    }
}
