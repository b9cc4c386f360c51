//! What can go wrong, sorted by whose fault it is.

use thiserror::Error;

use crate::weights::WeightsError;

/// An error of this crate. The variant says whose fault it is.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EngineError {
    /// The files could not be read or are not the ones expected.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The files were read, but they do not describe a model that this crate runs.
    #[error("the model is not usable: {0}")]
    Model(#[from] ModelError),
    /// The caller asked for something the model cannot or must not do.
    #[error("the request is refused: {0}")]
    Request(#[from] RequestError),
    /// The computation failed although model and request were accepted: a defect of this crate or of the machine.
    #[error("the computation failed: {0}")]
    Computation(ComputationError),
}

/// The model's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ModelError {
    /// `config.json` is not JSON of the right form, or has a value out of bounds.
    #[error("config.json: {0}")]
    Config(String),
    /// `config.json` asks for a feature that this crate does not have.
    #[error("config.json asks for {0}, which is not supported")]
    Unsupported(String),
    /// The header of `model.safetensors` is malformed.
    #[error("model.safetensors: {0}")]
    Header(String),
    /// A tensor that the configuration calls for is not in `model.safetensors`.
    #[error("model.safetensors has no tensor {0}")]
    TensorMissing(String),
    /// A tensor has another shape than the configuration calls for.
    #[error("tensor {name} has shape {found:?}, config.json calls for {expected:?}")]
    TensorShape {
        /// The tensor's name.
        name: String,
        /// What the header says.
        found: Vec<usize>,
        /// What the configuration calls for.
        expected: Vec<usize>,
    },
    /// A tensor is not stored as 32-bit floats.
    #[error("tensor {name} is stored as {found}, only F32 is supported")]
    TensorType {
        /// The tensor's name.
        name: String,
        /// What the header says.
        found: String,
    },
    /// A tensor holds an infinity or a NaN.
    #[error("tensor {0} holds a number that is not finite")]
    TensorNotFinite(String),
    /// `tokenizer.json` is malformed or does not fit the model.
    #[error("tokenizer.json: {0}")]
    Tokenizer(String),
    /// `tokenizer_config.json` is malformed, or its chat template does not compile.
    #[error("tokenizer_config.json: {0}")]
    Template(String),
}

/// The caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A text is over its limit.
    #[error("a text of {bytes} bytes is over the limit of {bytes_max}")]
    TextTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// A conversation has no message.
    #[error("a conversation needs at least one message")]
    NoMessages,
    /// A conversation has too many messages.
    #[error("{messages} messages are over the limit of {messages_max}")]
    TooManyMessages {
        /// How many there are.
        messages: usize,
        /// How many there may be.
        messages_max: usize,
    },
    /// A message spells out one of the model's control tokens, which would let it speak in another role.
    #[error("message {message} contains the control token {token}")]
    ControlToken {
        /// Index of the message.
        message: usize,
        /// The control token it spells out.
        token: String,
    },
    /// A message and the template around it would together form a control token.
    #[error("a message and the template around it form a control token")]
    ControlTokenAcross,
    /// The chat template refused the conversation.
    #[error("the chat template refused the conversation: {0}")]
    Template(String),
    /// A prompt has no token.
    #[error("a prompt needs at least one token")]
    PromptEmpty,
    /// The prompt leaves no room for a single completion token.
    #[error("a prompt of {tokens} tokens leaves no room in a context of {context_max}")]
    PromptTooLong {
        /// How many tokens the prompt has.
        tokens: usize,
        /// How many the model can hold, completion included.
        context_max: usize,
    },
    /// A prompt names a token that the model does not have.
    #[error("the model has no token {token}: its vocabulary has {vocabulary} entries")]
    TokenUnknown {
        /// The token.
        token: u32,
        /// The number of entries.
        vocabulary: usize,
    },
    /// A sampling parameter is out of bounds.
    #[error("{0} is out of bounds")]
    Sampling(&'static str),
}

/// Nobody's fault that we know of.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ComputationError {
    /// A result holds an infinity or a NaN.
    #[error("a result is not finite")]
    NotFinite,
    /// The backend could not hand over a result.
    #[error("the backend gave no result")]
    Backend,
    /// The tokenizer failed on text that it should take.
    #[error("the tokenizer failed")]
    Tokenizer,
}

impl From<ComputationError> for EngineError {
    fn from(error: ComputationError) -> Self {
        EngineError::Computation(error)
    }
}
