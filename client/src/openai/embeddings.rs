//! Requests to `/v1/embeddings`.

use super::{Delivery, Request, bounded, missing, neutral, other, refuse, text};
use crate::ask::{Ask, Texts};
use crate::error::ClientError;
use serde_json::{Map, Value};
use wire::limits::INPUTS_MAX;

pub(super) fn parse(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut inputs) = (None, None);
    let mut delivery = Delivery::default();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "input" => inputs = Some(input(value)?),
            "user" => drop(text(name, value)?),
            "encoding_format" => match value.as_str() {
                Some("float") => delivery.base64 = false,
                Some("base64") => delivery.base64 = true,
                _ => return Err(other(name, value, "`float` or `base64`")),
            },
            "dimensions" => delivery.dimensions = Some(dimensions(name, value)?),
            _ => neutral(&[], name, value)?,
        }
    }
    let model = model.ok_or_else(|| missing("model"))?;
    let inputs = inputs.ok_or_else(|| missing("input"))?;
    let ask = Ask::Embeddings(Texts::of(model, inputs));
    Ok(Request { ask, delivery })
}

fn dimensions(name: &str, value: &Value) -> Result<u32, ClientError> {
    let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
    let number = number.filter(|number| *number > 0);
    number.ok_or_else(|| other(name, value, "a whole number of 1 or more"))
}

const TOKEN_IDS: &str = "`input` is token ids, most likely of another model's tokenizer; send texts (in LangChain: \
     check_embedding_ctx_length=False)";

fn input(value: &Value) -> Result<Vec<String>, ClientError> {
    let name = "input";
    let list = match value {
        Value::String(one) => return Ok(vec![bounded(name, one.clone())?]),
        Value::Array(list) if !list.is_empty() => list,
        _ => return Err(other(name, value, "a text or a list of texts")),
    };
    let ids = |value: &Value| value.is_number() || value.is_array();
    if list.iter().all(ids) {
        return Err(refuse(Some(name), TOKEN_IDS));
    }
    if list.len() > INPUTS_MAX {
        let message = format!(
            "`input` has {} texts; at most {INPUTS_MAX} are allowed",
            list.len()
        );
        return Err(refuse(Some(name), &message));
    }
    let texts = list.iter().enumerate();
    texts
        .map(|(index, value)| text(&format!("input[{index}]"), value))
        .collect()
}
