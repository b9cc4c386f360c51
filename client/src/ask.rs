//! What an application asks, in its words. It goes no further than this program: what is sealed is made of token ids.

use crate::limits::COMPLETION_TOKENS_DEFAULT;
use crate::tokens::TokensError;
use model::text::form::Grammar;
use std::sync::{Arc, OnceLock};
use wire::Endpoint;

/// A message is a [`Turn`], with the calls that it makes or answers.
pub use model::text::{Call, Json, Role, Turn};

/// A request, whichever API it came through.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Vectors of texts.
    Embeddings(Texts),
    /// Scores of documents for a query.
    Rerank(Ranking),
    /// A conversation that the model's chat template writes out.
    Chat(Conversation),
    /// A prompt that no template touches. Of the conversation everything but messages and tools counts, and it has neither.
    Raw(Prompt, Conversation),
}

/// A prompt as the application wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prompt {
    /// Control tokens that it spells out are control tokens.
    Text(String),
    /// Ids of this model's tokenizer.
    Ids(Vec<u32>),
}

/// Texts to embed.
#[derive(Debug, Clone, PartialEq)]
pub struct Texts {
    /// The model's name.
    pub model: String,
    /// At least one text.
    pub inputs: Vec<String>,
    /// Where each stood in the request, if others of it are not asked for. Errors name that place.
    pub places: Option<Vec<usize>>,
}

impl Texts {
    /// All texts of a request.
    pub fn of(model: String, inputs: Vec<String>) -> Self {
        Texts {
            model,
            inputs,
            places: None,
        }
    }

    pub(crate) fn place(&self, index: usize) -> usize {
        let places = self.places.as_ref();
        { places.and_then(|places| places.get(index)) }.map_or(index, |place| *place)
    }
}

/// Documents to rank by how well they answer a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking {
    /// The model's name.
    pub model: String,
    /// What is looked for.
    pub query: String,
    /// At least one text.
    pub documents: Vec<String>,
}

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    /// The model's name.
    pub model: String,
    /// At least one message.
    pub messages: Vec<Turn>,
    /// Functions that the model may ask the application to call.
    pub tools: Vec<Tool>,
    /// Whether it may, or must.
    pub tool_choice: ToolChoice,
    /// Whether one answer may have several calls.
    pub parallel_calls: bool,
    /// What the text of the answer must be.
    pub form: Form,
    /// The path of the form in the request, which errors name.
    pub form_at: &'static str,
    /// The automaton of the form and of tools that must be called.
    pub compiled: Compiled,
    /// `enable_thinking`, for templates that ask; `None` leaves it to the template.
    pub thinking: Option<bool>,
    /// Answers, from 1 to [`crate::limits::CHOICES_MAX`]: each is a job of its own.
    pub choices: u32,
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

/// An automaton, compiled by the first job that needs it and shared by all of one request: its answers, its retries. No part of
/// what is asked, so all are equal.
#[derive(Debug, Clone, Default)]
pub struct Compiled(Arc<OnceLock<Result<Option<Arc<Grammar>>, TokensError>>>);

impl Compiled {
    /// What `compile` makes, the first time.
    pub(crate) fn or_else(
        &self,
        compile: impl FnOnce() -> Result<Option<Grammar>, TokensError>,
    ) -> Result<Option<Arc<Grammar>>, TokensError> {
        let made = || Ok(compile()?.map(Arc::new));
        self.0.get_or_init(made).clone()
    }
}

impl PartialEq for Compiled {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Conversation {
    /// A conversation with the OpenAI API's defaults for everything else.
    pub fn new(model: String, messages: Vec<Turn>) -> Self {
        Conversation {
            model,
            messages,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_calls: true,
            form: Form::Text,
            form_at: "",
            compiled: Compiled::default(),
            thinking: None,
            choices: 1,
            tokens_max: COMPLETION_TOKENS_DEFAULT,
            temperature: 1.0,
            top_p: 1.0,
            seed: None,
            stops: Vec::new(),
            preferences: Preferences::default(),
        }
    }
}

/// A function that an application offers to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// The path of its parameters in the request, which errors name, such as `tools[2].input_schema`.
    pub schema_at: String,
    /// 1 to 64 letters, digits and `_-.:`.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// A JSON Schema of its arguments, an object.
    pub parameters: Option<Json>,
}

impl Tool {
    /// As chat templates get it.
    pub(crate) fn json(&self) -> Json {
        let mut function = vec![("name", Json::from(self.name.as_str()))];
        let described = self.description.as_deref();
        function.extend(described.map(|text| ("description", Json::from(text))));
        let parameters = self.parameters.clone();
        function.extend(parameters.map(|schema| ("parameters", schema)));
        Json::object([
            ("type", Json::from("function")),
            ("function", Json::object(function)),
        ])
    }
}

/// Whether the model calls tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// It is not told of any.
    None,
    /// If it likes.
    Auto,
    /// At least one of them.
    Required,
    /// This one.
    Named(String),
}

/// What the text of an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub enum Form {
    /// Anything.
    Text,
    /// A JSON object.
    Object,
    /// JSON that satisfies this schema.
    Schema(Json),
    /// A text that all of this regular expression matches.
    Regex(String),
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

impl Ask {
    /// The model's name.
    pub fn model(&self) -> &str {
        match self {
            Ask::Embeddings(texts) => &texts.model,
            Ask::Rerank(ranking) => &ranking.model,
            Ask::Chat(conversation) | Ask::Raw(_, conversation) => &conversation.model,
        }
    }

    /// What is asked for.
    pub fn endpoint(&self) -> Endpoint {
        match self {
            Ask::Embeddings(_) => Endpoint::Embeddings,
            Ask::Rerank(_) => Endpoint::Rerank,
            Ask::Chat(_) | Ask::Raw(..) => Endpoint::Chat,
        }
    }

    /// How many answers are wanted, of which each is a job of its own.
    pub fn choices(&self) -> u32 {
        match self {
            Ask::Embeddings(_) | Ask::Rerank(_) => 1,
            Ask::Chat(conversation) | Ask::Raw(_, conversation) => conversation.choices,
        }
    }

    /// A request for each answer. With a seed, each has the one after that of the answer before.
    pub(crate) fn each(&self) -> Vec<Ask> {
        let each = (0..self.choices()).map(|index| {
            let mut one = self.clone();
            if let Ask::Chat(asked) | Ask::Raw(_, asked) = &mut one {
                asked.choices = 1;
                asked.seed = asked.seed.map(|seed| seed.wrapping_add(index.into()));
            }
            one
        });
        each.collect()
    }
}
