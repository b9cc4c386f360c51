//! Text to tokens and back: the exact rule, for everybody who makes, counts or pays for tokens.
//!
//! # A conversation
//!
//! 1. What somebody said is text and nothing else: contents, thoughts, definitions of tools with their names and keys, arguments
//!    and ids of calls. One that spells out a token that `tokenizer.json` lists in `added_tokens` with
//!    `"special": true` would end its own message and could speak in another role. Such a spelling is broken by a character
//!    that no text has ([`GUARDS`]) before step 2; in step 3 only the template's own special tokens are found as such, and the
//!    text between them is encoded without that character and with special tokens off.
//! 2. `chat_template` is rendered with what `transformers` gives it (`template`); blocks are trimmed and stripped, nothing is
//!    escaped, and its steps are limited.
//! 3. The prompt is `encode(rendered, false)`, without truncation and padding. As a second line it is refused if it has
//!    another number of special tokens than the same conversation with every text replaced by `x`.
//!
//! Completion tokens are counted as they were generated, the end token included. Encoding the text again may give
//! fewer: a model can spell one text in several ways. A special token may only end a completion, unless it is one of the marks of
//! [`crate::vocabulary::MARKS`].
//!
//! # A text to embed
//!
//! Its tokens with the model's special ones around them, cut at [`limits::EMBEDDING_TOKENS_MAX`], no padding: the
//! promise of sentence-transformers for all-MiniLM-L6-v2.

mod chat;
pub mod conversation;
mod detokeniser;
pub mod form;
pub mod gguf;
mod json;
mod pair;
mod python;
mod template;
pub mod thoughts;
pub mod tools;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

use crate::{File, ModelError, ModelFiles, Vocabulary, bert, decoder, limits};

use detokeniser::Spelling;
use template::Template;
use thoughts::Thoughts;

pub use conversation::{Call, Conversation, Date, Role, Turn};
pub use detokeniser::Detokeniser;
pub use json::Json;
pub use template::TemplateFiles;

/// A model's tokenizer and chat template.
pub struct Text {
    tokenizer: Tokenizer,
    /// The same with special tokens off, made when a content spells one out.
    plain: OnceLock<Tokenizer>,
    /// Made with the first form.
    form_tokens: OnceLock<form::FormTokens>,
    vocabulary: Vocabulary,
    embedding_tokens_max: usize,
    chat: Result<Chat, ModelError>,
}

struct Chat {
    spelling: Arc<Spelling>,
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
pub const ROLES: [&str; 5] = ["system", "developer", "user", "assistant", "tool"];

/// Characters that Unicode keeps out of texts ("noncharacters"), one of which breaks the spelling of a special token.
pub const GUARDS: [char; 4] = ['\u{fdd0}', '\u{fdd1}', '\u{fdd2}', '\u{fdd3}'];

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
    #[error("message {message} has none of the roles system, developer, user, assistant and tool")]
    Role { message: usize },
    #[error("message {message} has a tool's {what} that is not 1 to 64 letters, digits and `_-.:`")]
    ToolWord { message: usize, what: &'static str },
    #[error(
        "`tools` must be at most {tools_max} functions, each with a name of letters, digits and `_-.:`, and parameters that are an object"
    )]
    Tools { tools_max: usize },
    #[error("the conversation contains a control token that cannot be told from text")]
    ControlToken,
    #[error("a message and the template around it form a control token")]
    ControlTokenAcross,
    #[error("the chat template refused the conversation: {0}")]
    Template(String),
    #[error("the model does not chat: {0}")]
    NotForChat(ModelError),
    #[error(
        "the chat template asks for no calls in the form of Hermes and Qwen, Llama 3 or Mistral"
    )]
    NoCalls,
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    #[error("completion token {place} is one that the tokenizer does not have")]
    ForeignToken { place: usize },
    #[error("completion token {place} is a control token, which may only end a completion")]
    ControlTokenInside { place: usize },
}

impl Text {
    /// Reads `tokenizer.json` and the files of the chat template, as far as there are some.
    ///
    /// Truncation and padding that the tokenizer may carry are switched off: they belong to whoever stored the file, and
    /// silently change what is computed.
    pub fn parse<'a>(
        tokenizer: &[u8],
        template: impl Into<TemplateFiles<'a>>,
    ) -> Result<Self, ModelError> {
        Self::of(tokenizer, template, limits::VOCABULARY_MAX)
    }

    /// The same for a model whose table of embeddings has `rows` rows: no larger a tokenizer is its own.
    pub fn of<'a>(
        tokenizer: &[u8],
        template: impl Into<TemplateFiles<'a>>,
        rows: usize,
    ) -> Result<Self, ModelError> {
        let broken = |error: tokenizers::Error| ModelError::Tokenizer(error.to_string());
        let vocabulary = Vocabulary::parse(tokenizer, rows)?;
        let mut tokenizer = Tokenizer::from_bytes(tokenizer).map_err(broken)?;
        tokenizer.with_truncation(None).map_err(broken)?;
        tokenizer.with_padding(None);
        let template = Template::parse(template.into())?;
        let template = template.ok_or_else(|| ModelError::Template("no chat_template".into()));
        let chat = template.and_then(|template| {
            Ok(Chat {
                spelling: Arc::new(Spelling::of(&tokenizer)?),
                template,
            })
        });
        Ok(Text {
            tokenizer,
            plain: OnceLock::new(),
            form_tokens: OnceLock::new(),
            vocabulary,
            embedding_tokens_max: limits::EMBEDDING_TOKENS_MAX,
            chat,
        })
    }

    /// The text side of a chat model, which must have a template and fit its configuration.
    pub fn of_chat(files: &ModelFiles) -> Result<Self, ModelError> {
        let config = decoder::Config::parse(files.config(), None)?;
        let template = TemplateFiles {
            config: files.tokenizer_config(),
            chat: files.small(File::ChatTemplate),
            tools: files.small(File::ToolTemplate),
        };
        let text = Self::of(files.tokenizer(), template, config.vocabulary)?;
        match &text.chat {
            Ok(_) => Ok(text),
            Err(error) => Err(error.clone()),
        }
    }

    /// The text side of an embeddings model, which must fit its configuration.
    pub fn of_embedder(files: &ModelFiles) -> Result<Self, ModelError> {
        let config = bert::Config::parse(files.config())?;
        let (tokenizer, template) = (files.tokenizer(), files.tokenizer_config());
        let mut text = Self::of(tokenizer, template, config.vocabulary)?;
        text.embedding_tokens_max = text.embedding_tokens_max.min(config.positions);
        Ok(text)
    }

    /// The tokens of a bare text, with special tokens where it spells them out and nothing around it: for prompts that the caller
    /// wrote whole. Never for what somebody else said.
    pub fn to_tokens(&self, text: &str) -> Result<Vec<u32>, TextError> {
        check_bytes(text.len(), limits::CONVERSATION_BYTES_MAX)?;
        self.encode(text)
    }

    /// The tokens of a text to embed.
    pub fn to_embed(&self, text: &str) -> Result<Vec<u32>, TextError> {
        Ok(self.to_embed_within(text, usize::MAX)?.0)
    }

    /// The tokens of a text to embed, at most `tokens_max`, and how many were cut off to make them fit.
    pub fn to_embed_within(
        &self,
        text: &str,
        tokens_max: usize,
    ) -> Result<(Vec<u32>, usize), TextError> {
        let failed = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
        check_bytes(text.len(), limits::TEXT_BYTES_MAX)?;
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(failed)?;
        // Cut before the special tokens are added, as the tokenizer's own truncation does.
        let processor = self.tokenizer.get_post_processor();
        let added = processor.map_or(0, |processor| processor.added_tokens(false));
        let kept = self
            .embedding_tokens_max
            .min(tokens_max)
            .saturating_sub(added);
        let cut = encoding.len().saturating_sub(kept);
        encoding.truncate(kept, 0, TruncationDirection::Right);
        let encoding = self.tokenizer.post_process(encoding, None, true);
        Ok((encoding.map_err(failed)?.get_ids().to_vec(), cut))
    }

    /// How many token ids there are: each is below this.
    pub fn vocabulary_size(&self) -> usize {
        self.vocabulary.size()
    }

    /// How the model writes calls of tools, if it is a form that [`tools`] reads.
    pub fn calls(&self) -> Result<tools::Format, TextError> {
        self.chat()?.template.calls.ok_or(TextError::NoCalls)
    }

    /// What tells thoughts from the answer to a conversation of these tokens, if the chat template has its model think.
    pub fn thoughts(&self, prompt: &[u32]) -> Result<Option<Thoughts>, TextError> {
        if !self.chat()?.template.thinks {
            return Ok(None);
        }
        // A mark may be spelled by several tokens, and white space follows it.
        let end = prompt.len().saturating_sub(thoughts::BEGIN.len() + 8);
        let end = self.decode(&prompt[end..])?;
        Ok(Some(Thoughts::new(
            end.trim_end().ends_with(thoughts::BEGIN),
        )))
    }

    /// The tokens of a text that ends a completion, if they spell that text and nothing else.
    pub fn to_stop(&self, stop: &str) -> Result<Option<Vec<u32>>, TextError> {
        let tokens = self.encode(stop)?;
        let spelled: Vec<u8> = { tokens.iter() }
            .flat_map(|token| self.chat().map(|chat| chat.spelling.bytes(*token)))
            .flatten()
            .copied()
            .collect();
        Ok((spelled == stop.as_bytes()).then_some(tokens))
    }

    /// Refuses a completion that no guest makes: with a token that the tokenizer does not have, or a control token that does
    /// not end it.
    pub fn check_completion(&self, tokens: &[u32]) -> Result<(), TextError> {
        let foreign = |token: &u32| *token as usize >= self.vocabulary.size();
        if let Some(place) = tokens.iter().position(foreign) {
            return Err(TextError::ForeignToken { place });
        }
        let inside = tokens.split_last().map_or(&[][..], |(_, inside)| inside);
        match inside
            .iter()
            .position(|token| self.vocabulary.control().contains(token))
        {
            Some(place) => Err(TextError::ControlTokenInside { place }),
            None => Ok(()),
        }
    }

    /// Turns a completion's tokens into text as they come.
    pub fn detokeniser(&self) -> Result<Detokeniser, TextError> {
        Ok(Detokeniser::new(Arc::clone(&self.chat()?.spelling)))
    }

    /// The text of a whole completion.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, TextError> {
        let mut detokeniser = self.detokeniser()?;
        let mut text: String = tokens
            .iter()
            .map(|token| detokeniser.push(*token))
            .collect();
        text += &detokeniser.finish();
        Ok(text)
    }

    fn control(&self) -> &BTreeSet<u32> {
        self.vocabulary.special()
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

fn check_bytes(bytes: usize, bytes_max: usize) -> Result<(), TextError> {
    match bytes <= bytes_max {
        true => Ok(()),
        false => Err(TextError::TooLong { bytes, bytes_max }),
    }
}
