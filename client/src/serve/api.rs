//! The APIs whose requests become jobs: where they are asked, how they are read, and in which shape they are answered.

use super::Sidecar;
use crate::anthropic;
use crate::ask::Ask;
use crate::budget::Spender;
use crate::error::ClientError;
use crate::openai::{self, completions, error_object, responses};
use crate::shape::{Chat, Completions, Embeddings, Messages, Responses, Shape, message_error};
use serde_json::{Map, Value};
use wire::Endpoint;

/// An API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Embeddings,
    Chat,
    Completions,
    Responses,
    Messages,
}

/// A request that was read, and what its answer looks like.
pub(super) enum Read {
    OpenAi(openai::Request),
    Responses(Box<responses::Request>),
    Messages(anthropic::Request),
}

/// A request that can be asked.
pub(super) struct Ready {
    pub(super) ask: Ask,
    pub(super) stream: bool,
    pub(super) shape: Box<dyn Shape>,
}

pub(super) const APIS: [Api; 5] = [
    Api::Embeddings,
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
            Read::OpenAi(request) => Ready {
                ask: request.ask,
                stream: request.delivery.stream,
                shape: match self {
                    Api::Embeddings => Box::new(Embeddings(request.delivery)),
                    Api::Completions => Box::new(Completions(request.delivery)),
                    _ => Box::new(Chat(request.delivery)),
                },
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
            Api::Embeddings | Api::Chat | Api::Completions => format!("data: {object}\n\n"),
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

/// Puts the items of kept responses where a request only names them. Vercel's AI SDK does so unless told otherwise.
pub(super) fn resolved(
    api: Api,
    mut body: Value,
    sidecar: &Sidecar,
    spender: &Spender,
) -> Result<Value, ClientError> {
    let items = match api {
        Api::Responses => body.get_mut("input").and_then(Value::as_array_mut),
        _ => None,
    };
    for (index, item) in items.into_iter().flatten().enumerate() {
        if item["type"] != "item_reference" {
            continue;
        }
        let id = item["id"].as_str().unwrap_or_default();
        let kept = sidecar.stored.item(id, spender);
        *item = kept.ok_or_else(|| {
            let (param, id) = (format!("input[{index}].id"), crate::error::shown(id));
            let message =
                format!("`{param}` is {id}, which is not kept here; send the item itself");
            openai::refuse(Some(&param), &message)
        })?;
    }
    Ok(body)
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
