//! What an application asks, in its words. It goes no further than this program: what is sealed is made of token ids.

use wire::Endpoint;

/// A request of either endpoint.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// `POST /v1/embeddings`
    Embeddings(Texts),
    /// `POST /v1/chat/completions`
    Chat(Conversation),
}

/// Texts to embed.
#[derive(Debug, Clone, PartialEq)]
pub struct Texts {
    /// The model's name.
    pub model: String,
    /// At least one text.
    pub inputs: Vec<String>,
}

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The model's name.
    pub model: String,
    /// At least one message.
    pub messages: Vec<Message>,
    /// Completion tokens at most.
    pub tokens_max: u32,
    /// From 0, which always takes the likeliest token, to 2.
    pub temperature: f32,
    /// The share of probability that is sampled from, 0 to 1.
    pub top_p: f32,
    /// The sampling seed; the guest draws one where it is absent.
    pub seed: Option<u64>,
    /// Texts that end the completion and are no part of it.
    pub stops: Vec<String>,
    /// What else changes which tokens are chosen.
    pub preferences: Preferences,
}

/// What changes which tokens are chosen, besides temperature and top-p. The default changes nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Preferences {
    /// The likeliest tokens that are considered, 0 for all.
    pub top_k: u32,
    /// The share of the likeliest token's probability that another must have, from 0, for all, to below 1.
    pub min_p: f32,
    /// What divides the score of a token that occurred, 1 for none.
    pub repetition: f32,
    /// What is taken off the score of a token that the completion has.
    pub presence: f32,
    /// What is taken off for each time that the completion has it.
    pub frequency: f32,
    /// What is added to the scores of tokens.
    pub bias: Vec<(u32, f32)>,
    /// How many alternatives come with each token's log probability, if that is asked for.
    pub logprobs: Option<u8>,
}

impl Default for Preferences {
    fn default() -> Self {
        Preferences {
            top_k: 0,
            min_p: 0.0,
            repetition: 1.0,
            presence: 0.0,
            frequency: 0.0,
            bias: Vec::new(),
            logprobs: None,
        }
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who says it.
    pub role: Role,
    /// What is said.
    pub content: String,
}

/// Who says a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs)]
pub enum Role {
    System,
    User,
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

impl Ask {
    /// The model's name.
    pub fn model(&self) -> &str {
        match self {
            Ask::Embeddings(texts) => &texts.model,
            Ask::Chat(conversation) => &conversation.model,
        }
    }

    /// What is asked for.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Ask::Embeddings(_) => Endpoint::Embeddings,
            Ask::Chat(_) => Endpoint::Chat,
        }
    }
}
