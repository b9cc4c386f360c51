//! Text to tokens and back: the exact rule, for everybody who makes, counts or pays for tokens.
//!
//! # A conversation
//!
//! 1. A content is refused that `encode(content, false)` turns into any token that `tokenizer.json` lists in
//!    `added_tokens` with `"special": true`. (A text that spells out `<|im_end|>` would end its own message and could
//!    speak in another role. It is refused, not escaped: escaping differs between programs.)
//! 2. `chat_template` is rendered with `messages` (a list of `{role, content}`; roles `system`, `user`, `assistant`),
//!    `add_generation_prompt = true` and `eos_token`; blocks are trimmed and stripped, nothing is escaped, and its steps
//!    are limited.
//! 3. The prompt is `encode(rendered, false)`, without truncation and padding. As a second line it is refused if it has
//!    another number of special tokens than the same conversation with every content replaced by `x`.
//!
//! Completion tokens are counted as they were generated, the end token included. Encoding the text again may give
//! fewer: a model can spell one text in several ways. Whoever recounts needs the tokens, and they must decode to the
//! text that was delivered.
//!
//! # A text to embed
//!
//! Its tokens with the model's special ones around them, cut at [`limits::EMBEDDING_TOKENS_MAX`], no padding: the
//! promise of sentence-transformers for all-MiniLM-L6-v2.

mod detokeniser;
mod template;

use std::collections::HashSet;

use thiserror::Error;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

use crate::{ModelError, ModelFiles, bert, limits, llama};

use detokeniser::Spelling;
use template::Template;

pub use detokeniser::Detokeniser;

/// A model's tokenizer and chat template.
pub struct Text {
    tokenizer: Tokenizer,
    embedding_tokens_max: usize,
    chat: Result<Chat, ModelError>,
}

struct Chat {
    control: HashSet<u32>,
    spelling: Spelling,
    template: Template,
}

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// One of [`ROLES`].
    pub role: &'a str,
    /// What is said.
    pub content: &'a str,
}

/// Who may speak.
pub const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// Why a text does not become tokens.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(missing_docs)]
pub enum TextError {
    #[error("a text has {bytes} bytes; at most {bytes_max} are allowed")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("a conversation has {messages} messages; 1 to {messages_max} are allowed")]
    Messages {
        messages: usize,
        messages_max: usize,
    },
    #[error("message {message} has none of the roles system, user and assistant")]
    Role { message: usize },
    #[error("message {message} contains the control token {token}")]
    ControlToken { message: usize, token: String },
    #[error("a message and the template around it form a control token")]
    ControlTokenAcross,
    #[error("the chat template refused the conversation: {0}")]
    Template(String),
    #[error("the model does not chat: {0}")]
    NotForChat(ModelError),
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
}

impl Text {
    /// Reads `tokenizer.json` and, where there is one, `tokenizer_config.json`.
    ///
    /// Truncation and padding that the tokenizer may carry are switched off: they belong to whoever stored the file, and
    /// silently change what is computed.
    pub fn parse(tokenizer: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Self, ModelError> {
        let broken = |error: tokenizers::Error| ModelError::Tokenizer(error.to_string());
        let mut tokenizer = Tokenizer::from_bytes(tokenizer).map_err(broken)?;
        tokenizer.with_truncation(None).map_err(broken)?;
        tokenizer.with_padding(None);
        fits(&tokenizer, limits::VOCABULARY_MAX)?;
        let template = tokenizer_config.map(Template::parse).transpose()?.flatten();
        let template = template.ok_or_else(|| ModelError::Template("no chat_template".into()));
        let chat = template.and_then(|template| {
            let added = tokenizer.get_added_tokens_decoder().into_iter();
            let control = added.filter(|(_, token)| token.special);
            Ok(Chat {
                control: control.map(|(id, _)| id).collect(),
                spelling: Spelling::of(&tokenizer)?,
                template,
            })
        });
        Ok(Text {
            tokenizer,
            embedding_tokens_max: limits::EMBEDDING_TOKENS_MAX,
            chat,
        })
    }

    /// The text side of a chat model, which must have a template and fit its configuration.
    pub fn of_chat(files: &ModelFiles) -> Result<Self, ModelError> {
        let config = llama::Config::parse(files.config())?;
        let text = Self::of(files, config.vocabulary)?;
        match &text.chat {
            Ok(_) => Ok(text),
            Err(error) => Err(error.clone()),
        }
    }

    /// The text side of an embeddings model, which must fit its configuration.
    pub fn of_embedder(files: &ModelFiles) -> Result<Self, ModelError> {
        let config = bert::Config::parse(files.config())?;
        let mut text = Self::of(files, config.vocabulary)?;
        text.embedding_tokens_max = text.embedding_tokens_max.min(config.positions);
        Ok(text)
    }

    fn of(files: &ModelFiles, vocabulary: usize) -> Result<Self, ModelError> {
        let text = Self::parse(files.tokenizer(), files.tokenizer_config())?;
        fits(&text.tokenizer, vocabulary)?;
        Ok(text)
    }

    /// The tokens of a conversation.
    pub fn prompt(&self, messages: &[Message<'_>]) -> Result<Vec<u32>, TextError> {
        let chat = self.chat()?;
        check(messages)?;
        for (message, Message { content, .. }) in messages.iter().enumerate() {
            let tokens = self.encode(content)?;
            if let Some(token) = tokens.iter().find(|token| chat.control.contains(token)) {
                let token = self.tokenizer.id_to_token(*token).unwrap_or_default();
                return Err(TextError::ControlToken { message, token });
            }
        }
        let prompt = self.encode(&chat.template.render(messages)?)?;
        let harmless = messages.iter().map(|message| Message {
            content: "x",
            ..*message
        });
        let harmless = chat.template.render(&harmless.collect::<Vec<_>>())?;
        let controls = |tokens: &[u32]| tokens.iter().filter(|t| chat.control.contains(t)).count();
        match controls(&prompt) == controls(&self.encode(&harmless)?) {
            true => Ok(prompt),
            false => Err(TextError::ControlTokenAcross),
        }
    }

    /// The tokens of a text to embed.
    pub fn to_embed(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let failed = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
        check_bytes(text.len(), limits::TEXT_BYTES_MAX)?;
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(failed)?;
        // Cut before the special tokens are added, as the tokenizer's own truncation does.
        let processor = self.tokenizer.get_post_processor();
        let added = processor.map_or(0, |processor| processor.added_tokens(false));
        let kept = self.embedding_tokens_max.saturating_sub(added);
        encoding.truncate(kept, 0, TruncationDirection::Right);
        let encoding = self.tokenizer.post_process(encoding, None, true);
        Ok(encoding.map_err(failed)?.get_ids().to_vec())
    }

    /// Turns a completion's tokens into text as they come.
    pub fn detokeniser(&self) -> Result<Detokeniser<'_>, TextError> {
        Ok(Detokeniser::new(&self.chat()?.spelling))
    }

    /// The text of a whole completion.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        let mut detokeniser = self.detokeniser()?;
        let last = tokens.len().saturating_sub(1);
        let steps = tokens.iter().enumerate();
        Ok(steps
            .map(|(at, t)| detokeniser.push(*t, at == last))
            .collect())
    }

    fn chat(&self) -> Result<&Chat, TextError> {
        let chat = self.chat.as_ref();
        chat.map_err(|error| TextError::NotForChat(error.clone()))
    }

    /// The tokens of `text`, and only those: nothing is put before or after.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TextError> {
        let encoding = self.tokenizer.encode_fast(text, false);
        let encoding = encoding.map_err(|error| TextError::Tokenizer(error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn fits(tokenizer: &Tokenizer, vocabulary: usize) -> Result<(), ModelError> {
    match tokenizer.get_vocab(true).into_values().max() {
        Some(token) if token as usize >= vocabulary => Err(ModelError::Tokenizer(format!(
            "it has a token {token}; the model's vocabulary has {vocabulary} entries"
        ))),
        _ => Ok(()),
    }
}

fn check(messages: &[Message<'_>]) -> Result<(), TextError> {
    let messages_max = limits::MESSAGES_MAX;
    if !(1..=messages_max).contains(&messages.len()) {
        return Err(TextError::Messages {
            messages: messages.len(),
            messages_max,
        });
    }
    for (message, Message { role, content }) in messages.iter().enumerate() {
        check_bytes(content.len(), limits::TEXT_BYTES_MAX)?;
        if !ROLES.contains(role) {
            return Err(TextError::Role { message });
        }
    }
    let all = messages.iter().map(|message| message.content.len()).sum();
    check_bytes(all, limits::CONVERSATION_BYTES_MAX)
}

fn check_bytes(bytes: usize, bytes_max: usize) -> Result<(), TextError> {
    match bytes <= bytes_max {
        true => Ok(()),
        false => Err(TextError::TooLong { bytes, bytes_max }),
    }
}
