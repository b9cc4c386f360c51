//! The request inside the seal, for both endpoints: what a client may ask and a guest answers.
//!
//! It is the same deterministic CBOR as everything else here, so a request has one encoding and an unknown field is
//! refused. Nothing is optional but the seed: the client writes each default out ([`ChatRequest::new`]), so the two
//! sides cannot differ about one.

use crate::cbor::{self, Malformed};
use crate::limits::{
    COMPLETION_TOKENS_DEFAULT, COMPLETION_TOKENS_MAX, CONVERSATION_BYTES_MAX, INPUTS_MAX,
    MESSAGES_MAX, NAME_BYTES_MAX, REQUEST_BYTES_MAX, TEMPERATURE_MAX, TEXT_BYTES_MAX, TOP_P_MAX,
};
use crate::{Endpoint, JobRequest};
use minicbor::{Decode, Encode};
use zeroize::Zeroizing;

const WHAT: &str = "sealed request";

/// A request of either endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// `POST /v1/embeddings`
    Embeddings(EmbeddingsRequest),
    /// `POST /v1/chat/completions`
    Chat(ChatRequest),
}

/// Texts to embed.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct EmbeddingsRequest {
    /// The model's name, as in the envelope.
    #[n(0)]
    pub model: String,
    /// 1 to [`INPUTS_MAX`] texts.
    #[n(1)]
    pub inputs: Vec<String>,
}

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
#[cbor(map)]
pub struct ChatRequest {
    /// The model's name, as in the envelope.
    #[n(0)]
    pub model: String,
    /// 1 to [`MESSAGES_MAX`] messages.
    #[n(1)]
    pub messages: Vec<Message>,
    /// Completion tokens at most.
    #[n(2)]
    pub tokens_max: u32,
    /// From 0, which always takes the likeliest token, to [`TEMPERATURE_MAX`].
    #[n(3)]
    pub temperature: f32,
    /// The share of probability that is sampled from, 0 to 1.
    #[n(4)]
    pub top_p: f32,
    /// The sampling seed; the guest draws one where it is absent.
    #[n(5)]
    pub seed: Option<u64>,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Message {
    /// Who says it.
    #[n(0)]
    pub role: Role,
    /// What is said.
    #[n(1)]
    pub content: String,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
#[expect(missing_docs)]
pub enum Role {
    #[n(0)]
    System,
    #[n(1)]
    User,
    #[n(2)]
    Assistant,
}

impl Role {
    /// As the OpenAI API and chat templates write it.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }
}

impl ChatRequest {
    /// A request with the default of everything that an application may leave out.
    pub fn new(model: String, messages: Vec<Message>) -> Self {
        ChatRequest {
            model,
            messages,
            tokens_max: COMPLETION_TOKENS_DEFAULT,
            temperature: 1.0,
            top_p: 1.0,
            seed: None,
        }
    }
}

impl Request {
    /// What is asked for.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Request::Embeddings(_) => Endpoint::Embeddings,
            Request::Chat(_) => Endpoint::Chat,
        }
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        match self {
            Request::Embeddings(request) => &request.model,
            Request::Chat(request) => &request.model,
        }
    }

    /// The deterministic encoding: the body of a [`JobRequest`].
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Request::Embeddings(request) => cbor::to_vec(request),
            Request::Chat(request) => cbor::to_vec(request),
        })
    }

    /// Decodes the body of a request to `endpoint` and checks every value against [`crate::limits`].
    pub fn decode(endpoint: Endpoint, bytes: &[u8]) -> Result<Self, Malformed> {
        let request = match endpoint {
            Endpoint::Embeddings => {
                Request::Embeddings(cbor::from_slice(WHAT, bytes, REQUEST_BYTES_MAX)?)
            }
            Endpoint::Chat => Request::Chat(cbor::from_slice(WHAT, bytes, REQUEST_BYTES_MAX)?),
        };
        request.check()?;
        Ok(request)
    }

    /// Ready to be sealed; `parent` is the job that it retries.
    pub fn job(&self, parent: Option<[u8; 16]>) -> JobRequest {
        JobRequest {
            endpoint: self.endpoint(),
            parent,
            body: self.encode(),
        }
    }

    fn check(&self) -> Result<(), Malformed> {
        let text = |text: &String| text.len() <= TEXT_BYTES_MAX;
        let mut checks = vec![("model", self.model().len() <= NAME_BYTES_MAX)];
        match self {
            Request::Embeddings(request) => checks.extend([
                ("inputs", (1..=INPUTS_MAX).contains(&request.inputs.len())),
                ("inputs", request.inputs.iter().all(text)),
            ]),
            Request::Chat(request) => checks.extend([
                (
                    "messages",
                    (1..=MESSAGES_MAX).contains(&request.messages.len()),
                ),
                (
                    "messages",
                    request.messages.iter().all(|m| text(&m.content)),
                ),
                (
                    "messages",
                    request
                        .messages
                        .iter()
                        .map(|m| m.content.len())
                        .sum::<usize>()
                        <= CONVERSATION_BYTES_MAX,
                ),
                (
                    "tokens_max",
                    (1..=COMPLETION_TOKENS_MAX).contains(&request.tokens_max),
                ),
                // NaN is in no range.
                (
                    "temperature",
                    (0.0..=TEMPERATURE_MAX).contains(&request.temperature),
                ),
                ("top_p", (0.0..=TOP_P_MAX).contains(&request.top_p)),
            ]),
        }
        // The endpoint's path is the version.
        cbor::check(WHAT, 1, &checks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chat() -> ChatRequest {
        let message = |role, content: &str| Message {
            role,
            content: content.into(),
        };
        let messages = vec![
            message(Role::System, "be brief"),
            message(Role::User, "h\u{e9}llo"),
        ];
        ChatRequest {
            seed: Some(7),
            ..ChatRequest::new("tiny-chat".into(), messages)
        }
    }

    fn embeddings(inputs: &[&str]) -> Request {
        Request::Embeddings(EmbeddingsRequest {
            model: "minilm".into(),
            inputs: inputs.iter().map(|text| text.to_string()).collect(),
        })
    }

    fn again(request: &Request) -> Result<Request, Malformed> {
        Request::decode(request.endpoint(), &request.encode())
    }

    #[test]
    fn a_request_comes_back_as_it_was_and_its_defaults_are_written_out() {
        for request in [Request::Chat(chat()), embeddings(&["a", ""])] {
            assert_eq!(again(&request), Ok(request.clone()));
        }
        let plain = ChatRequest::new("m".into(), chat().messages);
        assert_eq!(plain.tokens_max, 256);
        assert_eq!(
            (plain.temperature, plain.top_p, plain.seed),
            (1.0, 1.0, None)
        );
    }

    #[test]
    fn a_value_at_its_limit_is_taken_and_the_next_one_is_not() {
        let check = |change: fn(&mut ChatRequest)| {
            let mut request = chat();
            change(&mut request);
            match again(&Request::Chat(request)) {
                Ok(_) => None,
                Err(Malformed::Field { field, .. }) => Some(field),
                Err(other) => panic!("{other}"),
            }
        };
        let many = |request: &mut ChatRequest, count| {
            request.messages = vec![request.messages[0].clone(); count];
        };
        assert_eq!(check(|r| r.tokens_max = 1), None);
        assert_eq!(check(|r| r.tokens_max = COMPLETION_TOKENS_MAX), None);
        assert_eq!(check(|r| r.tokens_max = 0), Some("tokens_max"));
        assert_eq!(
            check(|r| r.tokens_max = COMPLETION_TOKENS_MAX + 1),
            Some("tokens_max")
        );
        assert_eq!(check(|r| r.temperature = 0.0), None);
        assert_eq!(check(|r| r.temperature = TEMPERATURE_MAX), None);
        assert_eq!(check(|r| r.temperature = -0.1), Some("temperature"));
        assert_eq!(check(|r| r.temperature = f32::NAN), Some("temperature"));
        assert_eq!(
            check(|r| r.temperature = TEMPERATURE_MAX.next_up()),
            Some("temperature")
        );
        assert_eq!(check(|r| r.top_p = 1.0f32.next_up()), Some("top_p"));
        assert_eq!(check(|r| r.top_p = f32::NAN), Some("top_p"));
        assert_eq!(check(|r| r.messages.clear()), Some("messages"));
        assert_eq!(check(|r| r.model = "m".repeat(NAME_BYTES_MAX)), None);
        assert_eq!(
            check(|r| r.model = "m".repeat(NAME_BYTES_MAX + 1)),
            Some("model")
        );
        assert_eq!(
            check(|r| r.messages[0].content = "a".repeat(TEXT_BYTES_MAX)),
            None
        );
        assert_eq!(
            check(|r| r.messages[0].content = "a".repeat(TEXT_BYTES_MAX + 1)),
            Some("messages")
        );
        for (rest, field) in [("", None), ("a", Some("messages"))] {
            // Four texts at their limit fill a conversation.
            let mut request = chat();
            many(&mut request, 5);
            for message in &mut request.messages[..4] {
                message.content = "a".repeat(CONVERSATION_BYTES_MAX / 4);
            }
            request.messages[4].content = rest.into();
            let read = again(&Request::Chat(request));
            assert_eq!(read.err().map(|_| "messages"), field, "{rest}");
        }
        for (count, good) in [(MESSAGES_MAX, true), (MESSAGES_MAX + 1, false)] {
            let mut request = chat();
            many(&mut request, count);
            assert_eq!(again(&Request::Chat(request)).is_ok(), good);
        }
        for (count, good) in [
            (0, false),
            (1, true),
            (INPUTS_MAX, true),
            (INPUTS_MAX + 1, false),
        ] {
            assert_eq!(again(&embeddings(&vec!["a"; count])).is_ok(), good);
        }
        assert!(again(&embeddings(&[&"a".repeat(TEXT_BYTES_MAX + 1)])).is_err());
    }

    #[test]
    fn an_unknown_field_another_endpoint_and_json_are_refused() {
        // {0: "m", 1: ["a"]}, and the same with a field 2.
        let good = [&[0xa2, 0x00, 0x61, b'm', 0x01, 0x81, 0x61, b'a'][..]].concat();
        assert!(Request::decode(Endpoint::Embeddings, &good).is_ok());
        let mut unknown = [&good[..], &[0x02, 0x00]].concat();
        unknown[0] = 0xa3;
        assert_eq!(
            Request::decode(Endpoint::Embeddings, &unknown),
            Err(Malformed::NotCanonical { what: WHAT })
        );
        let chat = Request::Chat(chat()).encode();
        for (endpoint, bytes) in [
            (Endpoint::Chat, &good[..]),
            (Endpoint::Embeddings, &chat),
            (Endpoint::Embeddings, br#"{"model":"m","input":"a"}"#),
            (Endpoint::Chat, b""),
        ] {
            assert!(Request::decode(endpoint, bytes).is_err(), "{endpoint:?}");
        }
    }

    #[test]
    fn a_flipped_byte_never_leaves_the_same_request() {
        for request in [Request::Chat(chat()), embeddings(&["one", "two"])] {
            let bytes = request.encode();
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= 1 << bit;
                    let read = Request::decode(request.endpoint(), &flipped);
                    assert_ne!(read.as_ref(), Ok(&request), "byte {at} bit {bit}");
                    if let Ok(read) = read {
                        assert_eq!(read.encode(), flipped, "byte {at} bit {bit}");
                    }
                }
                assert!(Request::decode(request.endpoint(), &bytes[..at]).is_err());
            }
        }
    }
}
