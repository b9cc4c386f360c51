//! Requests to `/v1/rerank`, as Cohere and Jina have them.

use super::{bounded, flag, missing, neutral, other, refuse, text};
use crate::ask::{Ask, Ranking};
use crate::error::ClientError;
use serde_json::{Map, Value};
use wire::limits::INPUTS_MAX;

/// A request that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Request {
    /// What is asked.
    pub(crate) ask: Ask,
    /// Results at most; all of them where absent.
    pub(crate) top_n: Option<usize>,
    /// The documents as they were sent, where they are to be sent back.
    pub(crate) documents: Option<Vec<String>>,
}

/// Reads a body.
pub(crate) fn parse(fields: &Map<String, Value>) -> Result<Request, ClientError> {
    let (mut model, mut query, mut documents, mut top_n) = (None, None, None, None);
    let mut returned = false;
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "model" => model = Some(text(name, value)?),
            "query" => query = Some(text(name, value)?),
            "documents" => documents = Some(list(name, value)?),
            "top_n" => {
                let wanted = value.as_u64().and_then(|n| usize::try_from(n).ok());
                let wanted = wanted.filter(|n| *n > 0);
                top_n = Some(wanted.ok_or_else(|| other(name, value, "a whole number from 1"))?);
            }
            "return_documents" => returned = flag(name, value)?,
            "user" => drop(text(name, value)?),
            _ => neutral(&[], name, value)?,
        }
    }
    let documents = documents.ok_or_else(|| missing("documents"))?;
    Ok(Request {
        documents: returned.then(|| documents.clone()),
        ask: Ask::Rerank(Ranking {
            model: model.ok_or_else(|| missing("model"))?,
            query: query.ok_or_else(|| missing("query"))?,
            documents,
        }),
        top_n,
    })
}

/// Texts, or objects with a text.
fn list(name: &str, value: &Value) -> Result<Vec<String>, ClientError> {
    let list = value.as_array().filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| other(name, value, "a list of texts"))?;
    if list.len() > INPUTS_MAX {
        let count = list.len();
        let message = format!("`{name}` has {count} texts; at most {INPUTS_MAX} are allowed");
        return Err(refuse(Some(name), &message));
    }
    let document = |(index, value): (usize, &Value)| {
        let name = format!("{name}[{index}]");
        match value {
            Value::String(said) => bounded(&name, said.clone()),
            Value::Object(fields) => match fields.keys().find(|key| *key != "text") {
                Some(more) => Err(super::unknown(&format!("{name}.{more}"))),
                None => text(&format!("{name}.text"), &value["text"]),
            },
            _ => Err(other(&name, value, "a text, or an object with `text`")),
        }
    };
    list.iter().enumerate().map(document).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(field: &str, value: Value) -> Result<Request, ClientError> {
        let mut body = json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}]});
        body[field] = value;
        parse(body.as_object().unwrap())
    }

    #[test]
    fn documents_are_texts_or_objects_with_one() {
        let read_back = read("return_documents", json!(true)).unwrap();
        assert_eq!(read_back.documents, Some(vec!["a".into(), "b".into()]));
        let Ask::Rerank(ranking) = read_back.ask else {
            panic!("a ranking");
        };
        assert_eq!((ranking.query.as_str(), ranking.documents.len()), ("q", 2));
        assert_eq!(read("top_n", json!(1)).map(|read| read.top_n), Ok(Some(1)));
        assert_eq!(
            read("top_n", json!(null)).map(|read| read.documents),
            Ok(None)
        );
        for (field, value, at) in [
            ("documents", json!([]), "documents"),
            ("documents", json!("a"), "documents"),
            ("documents", json!([1]), "documents[0]"),
            ("documents", json!([{"text": 1}]), "documents[0].text"),
            (
                "documents",
                json!([{"text": "a", "title": "b"}]),
                "documents[0].title",
            ),
            ("documents", json!(vec!["a"; INPUTS_MAX + 1]), "documents"),
            ("query", json!(null), "query"),
            ("top_n", json!(0), "top_n"),
            ("max_tokens_per_doc", json!(5), "max_tokens_per_doc"),
        ] {
            let error = read(field, value).unwrap_err();
            assert_eq!(error.param(), Some(at), "{error}");
        }
    }
}
