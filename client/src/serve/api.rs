//! The APIs whose requests become jobs: where they are asked, how they are read, and in which shape they are answered.

use super::Sidecar;
use super::stored::Stored;
use crate::anthropic;
use crate::ask::{Ask, Texts};
use crate::budget::Spender;
use crate::client::Client;
use crate::error::ClientError;
use crate::job::pinned;
use crate::openai::{self, Request, completions, error_object, rerank, responses};
use crate::shape::{
    Chat, Completions, Embeddings, Messages, Rerank, Responses, Shape, message_error,
};
use crate::vectors::Looked;
use model::limits::{CONVERSATION_BYTES_MAX, MESSAGES_MAX};
use serde_json::{Map, Value};
use wire::Endpoint;

/// An API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Embeddings,
    Rerank,
    Chat,
    Completions,
    Responses,
    Messages,
}

/// A request that was read, and what its answer looks like.
pub(super) enum Read {
    OpenAi(openai::Request),
    Rerank(rerank::Request),
    Responses(Box<responses::Request>),
    Messages(anthropic::Request),
}

/// A request that can be asked.
pub(super) struct Ready {
    pub(super) ask: Ask,
    pub(super) stream: bool,
    pub(super) shape: Box<dyn Shape>,
}

pub(super) const APIS: [Api; 6] = [
    Api::Embeddings,
    Api::Rerank,
    Api::Chat,
    Api::Completions,
    Api::Responses,
    Api::Messages,
];

impl Api {
    /// Where it is asked.
    pub(super) fn path(self) -> &'static str {
        match self {
            Api::Embeddings => Endpoint::Embeddings.path(),
            Api::Chat => Endpoint::Chat.path(),
            Api::Rerank => Endpoint::Rerank.path(),
            Api::Completions => "/v1/completions",
            Api::Responses => "/v1/responses",
            Api::Messages => "/v1/messages",
        }
    }

    /// Reads a body.
    pub(super) fn read(self, body: &Value) -> Result<Read, ClientError> {
        let fields = self::fields(body)?;
        Ok(match self {
            Api::Embeddings => Read::OpenAi(openai::parse(Endpoint::Embeddings, body)?),
            Api::Chat => Read::OpenAi(openai::parse(Endpoint::Chat, body)?),
            Api::Rerank => Read::Rerank(rerank::parse(fields)?),
            Api::Completions => Read::OpenAi(completions::parse(fields)?),
            Api::Responses => Read::Responses(Box::new(responses::parse(fields)?)),
            Api::Messages => Read::Messages(anthropic::parse(fields, false)?),
        })
    }

    /// What is asked, and the shape of its answer.
    pub(super) fn ready(
        self,
        read: Read,
        sidecar: &Sidecar,
        spender: &Spender,
    ) -> Result<Ready, ClientError> {
        Ok(match read {
            Read::OpenAi(Request {
                ask: Ask::Embeddings(texts),
                delivery,
            }) => {
                can_be_cut(&sidecar.client, &texts.model, delivery.dimensions)?;
                let (texts, looked) = looked(&sidecar.client, spender, texts);
                Ready {
                    ask: Ask::Embeddings(texts),
                    stream: delivery.stream,
                    shape: Box::new(Embeddings { delivery, looked }),
                }
            }
            Read::OpenAi(request) => Ready {
                ask: request.ask,
                stream: request.delivery.stream,
                shape: match self {
                    Api::Completions => Box::new(Completions(request.delivery)),
                    _ => Box::new(Chat(request.delivery)),
                },
            },
            Read::Rerank(request) => Ready {
                ask: request.ask,
                stream: false,
                shape: Box::new(Rerank {
                    top_n: request.top_n,
                    documents: request.documents,
                }),
            },
            Read::Responses(request) => {
                let kept = |id: &String| {
                    let turns = sidecar.stored.turns(id, spender);
                    turns.ok_or_else(|| not_kept(id))
                };
                let previous = request.previous.as_ref().map(kept).transpose()?;
                let turns = request.turns(&previous.unwrap_or_default())?;
                let place = { request.store }.then(|| sidecar.stored.place(spender, turns.clone()));
                Ready {
                    stream: request.stream,
                    shape: Box::new(Responses::new(request.echo.clone(), place)),
                    ask: request.ask(turns),
                }
            }
            Read::Messages(request) => Ready {
                ask: request.ask,
                stream: request.stream,
                shape: Box::new(Messages::new(0)),
            },
        })
    }

    /// What ends a stream that failed.
    pub(super) fn error_event(self, error: &ClientError) -> String {
        let mut object = error_object(error);
        match self {
            Api::Embeddings | Api::Rerank | Api::Chat | Api::Completions => {
                format!("data: {object}\n\n")
            }
            Api::Responses => {
                let fields =
                    ["code", "message", "param"].map(|name| (name, object["error"][name].clone()));
                object["type"] = "error".into();
                for (name, value) in fields {
                    object[name] = value;
                }
                format!("event: error\ndata: {object}\n\n")
            }
            Api::Messages => {
                let object = message_error(error.status(), &object);
                format!("event: error\ndata: {object}\n\n")
            }
        }
    }
}

/// Bytes of JSON that named items may stand for: a whole conversation, with room for escapes and arguments.
const ITEMS_BYTES_MAX: usize = 2 * CONVERSATION_BYTES_MAX;

/// Puts the items of kept responses where a request only names them. Vercel's AI SDK does so unless told otherwise.
pub(super) fn resolved(
    api: Api,
    mut body: Value,
    stored: &Stored,
    spender: &Spender,
) -> Result<Value, ClientError> {
    let items = match api {
        Api::Responses => body.get_mut("input").and_then(Value::as_array_mut),
        _ => None,
    };
    // More items than one conversation has are refused unread, and what names stand for is no longer than one, either.
    let items = items.filter(|items| items.len() <= MESSAGES_MAX);
    let mut bytes = 0;
    for (index, item) in items.into_iter().flatten().enumerate() {
        if item["type"] != "item_reference" {
            continue;
        }
        let refuse = |why: &str| {
            let param = format!("input[{index}].id");
            openai::refuse(Some(&param), &format!("`{param}` {why}"))
        };
        let id = item["id"].as_str().unwrap_or_default();
        let shown = crate::error::shown(id);
        let kept = stored.item(id, spender);
        let kept = kept.ok_or_else(|| {
            refuse(&format!(
                "is {shown}, which is not kept here; send the item itself"
            ))
        })?;
        bytes += kept.to_string().len();
        if bytes > ITEMS_BYTES_MAX {
            return Err(refuse(
                "makes the input longer than one conversation may be",
            ));
        }
        *item = kept;
    }
    Ok(body)
}

/// The texts that the cache of embeddings does not have, and what it has. Without a cache, or without such a model (or with another
/// digest than a request pins), all of them.
pub(super) fn looked(
    client: &Client,
    spender: &Spender,
    mut texts: Texts,
) -> (Texts, Option<(Looked, String)>) {
    let model = pinned(&texts.model).and_then(|(name, root)| {
        let model = client.models().get(name)?;
        root.is_none_or(|root| root == model.root).then_some(model)
    });
    let (Some(vectors), Some(model)) = (&client.vectors, model) else {
        return (texts, None);
    };
    let looked = vectors.look(spender, &model.root, &texts.inputs);
    let places = looked.missing();
    texts.inputs = { places.iter() }
        .map(|place| std::mem::take(&mut texts.inputs[*place]))
        .collect();
    texts.places = Some(places);
    (texts, Some((looked, model.id.clone())))
}

/// Whether the configuration lets vectors of a model be cut so.
fn can_be_cut(client: &Client, model: &str, dimensions: Option<u32>) -> Result<(), ClientError> {
    let name = pinned(model).map_or(model, |(name, _)| name);
    let listed = client.models().get(name).map(|model| &model.dimensions[..]);
    match (dimensions, listed.unwrap_or_default()) {
        (None, _) => Ok(()),
        (Some(asked), listed) if listed.contains(&asked) => Ok(()),
        (Some(asked), listed) => {
            let message = format!(
                "`dimensions` is {asked}; the configuration lists {listed:?} for `{name}`: only some models are trained for \
                 vectors that are cut"
            );
            Err(openai::refuse(Some("dimensions"), &message))
        }
    }
}

/// The fields of a body.
pub(super) fn fields(body: &Value) -> Result<&Map<String, Value>, ClientError> {
    let fields = body.as_object();
    fields.ok_or_else(|| openai::refuse(None, "the body is not a JSON object"))
}

fn not_kept(id: &str) -> ClientError {
    let param = "previous_response_id";
    let id = crate::error::shown(id);
    let message = format!(
        "`{param}` is {id}, which is not kept here (any more, or under this key); send the whole conversation as `input`"
    );
    openai::refuse(Some(param), &message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::sync::Arc;

    /// A body with much of what each API knows.
    fn sample(api: Api) -> Value {
        let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let function = json!({"name": "f", "description": "d", "parameters": schema});
        match api {
            Api::Embeddings => {
                json!({"model": "m", "input": ["a", "b"], "encoding_format": "float"})
            }
            Api::Rerank => {
                json!({"model": "m", "query": "q", "documents": ["a", {"text": "b"}], "top_n": 1})
            }
            Api::Chat => {
                json!({"model": "m", "stop": ["x"], "tools": [{"type": "function", "function": function}],
                "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
                    {"role": "assistant", "content": null, "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
                    {"role": "tool", "tool_call_id": "c", "content": "b"}]})
            }
            Api::Completions => {
                json!({"model": "m", "prompt": ["a"], "stop": "x", "max_tokens": 3})
            }
            Api::Responses => json!({"model": "m", "instructions": "i", "metadata": {"a": "b"},
                "tools": [{"type": "function", "name": "f", "parameters": schema}],
                "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
                "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}},
                "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content"],
                "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]},
                    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "hm"}]},
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
                    {"type": "function_call_output", "call_id": "c", "output": "b"}]}),
            Api::Messages => {
                json!({"model": "m", "max_tokens": 3, "system": [{"type": "text", "text": "s"}],
                "tools": [{"name": "f", "input_schema": schema}], "tool_choice": {"type": "tool", "name": "f"},
                "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]},
                    {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "b"}]}]})
            }
        }
    }

    fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
        all.push(at.to_owned());
        match value {
            Value::Array(list) => {
                let list = list.iter().enumerate();
                list.for_each(|(index, value)| pointers(value, &format!("{at}/{index}"), all));
            }
            Value::Object(fields) => {
                let fields = fields.iter();
                fields.for_each(|(name, value)| pointers(value, &format!("{at}/{name}"), all));
            }
            _ => {}
        }
    }

    #[test]
    fn named_items_stand_for_no_more_than_a_conversation() {
        let stored = Arc::new(Stored::default());
        let one = Spender::named("one");
        let kept = json!({"id": "resp_a", "output": [
            {"id": "msg_a_0", "type": "message", "role": "assistant", "content": "x".repeat(ITEMS_BYTES_MAX / 4)}]});
        let place = stored.place(&one, Vec::new());
        place.keep(
            &kept,
            crate::ask::Turn::says(crate::ask::Role::Assistant, "x"),
        );
        let ask = |times: usize, api, spender: &Spender| {
            let items = vec![json!({"type": "item_reference", "id": "msg_a_0"}); times];
            resolved(api, json!({"input": items}), &stored, spender)
        };
        let body = ask(3, Api::Responses, &one).unwrap();
        assert_eq!(body["input"][2], kept["output"][0]);
        let long = ask(4, Api::Responses, &one).unwrap_err();
        assert_eq!(long.param(), Some("input[3].id"));
        let other = ask(1, Api::Responses, &Spender::named("two")).unwrap_err();
        assert_eq!(other.param(), Some("input[0].id"));
        // Too many are left as they are, for the reader to refuse.
        let many = ask(MESSAGES_MAX + 1, Api::Responses, &one).unwrap();
        assert!(Api::Responses.read(&many).is_err());
        assert_eq!(many["input"][0]["type"], "item_reference");
    }

    #[test]
    fn whatever_stands_in_a_body_it_is_read_or_refused_as_the_callers_fault() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        let others = [
            json!(null),
            json!(true),
            json!(-1),
            json!(1e300),
            json!(""),
            json!("x".repeat(300)),
            json!([]),
            json!([null]),
            json!({}),
            json!({"type": "function"}),
            json!({"type": "allowed_tools", "tools": 1}),
            deep,
        ];
        for api in APIS {
            let good = sample(api);
            assert!(api.read(&good).is_ok(), "{api:?}");
            let mut all = Vec::new();
            pointers(&good, "", &mut all);
            for (pointer, other) in all
                .iter()
                .flat_map(|at| others.iter().map(move |other| (at, other)))
            {
                let mut body = good.clone();
                *body.pointer_mut(pointer).unwrap() = other.clone();
                if let Err(error) = api.read(&body) {
                    assert_eq!(error.status(), 400, "{api:?} {pointer} {other}: {error}");
                    assert_eq!(error.fault(), crate::error::Fault::Caller);
                }
            }
            let mut unknown = good;
            unknown["not_a_field"] = json!(1);
            let Err(error) = api.read(&unknown) else {
                panic!("{api:?} takes any field");
            };
            assert_eq!(error.param(), Some("not_a_field"));
        }
    }
}
