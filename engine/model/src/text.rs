//! Text to tokens and back: the exact rule, for everybody who makes, counts or pays for tokens.
//!
//! # A conversation
//!
//! 1. A content is text and nothing else. One that spells out a token that `tokenizer.json` lists in `added_tokens` with
//!    `"special": true` would end its own message and could speak in another role. Such a spelling is broken by a character
//!    that no text has ([`GUARDS`]) before step 2; in step 3 only the template's own special tokens are found as such, and the
//!    text between them is encoded without that character and with special tokens off.
//! 2. `chat_template` is rendered with `messages` (a list of `{role, content}`; roles `system`, `user`, `assistant`),
//!    `add_generation_prompt = true` and `eos_token`; blocks are trimmed and stripped, nothing is escaped, and its steps
//!    are limited.
//! 3. The prompt is `encode(rendered, false)`, without truncation and padding. As a second line it is refused if it has
//!    another number of special tokens than the same conversation with every content replaced by `x`.
//!
//! Completion tokens are counted as they were generated, the end token included. Encoding the text again may give
//! fewer: a model can spell one text in several ways. A special token may only end a completion.
//!
//! # A text to embed
//!
//! Its tokens with the model's special ones around them, cut at [`limits::EMBEDDING_TOKENS_MAX`], no padding: the
//! promise of sentence-transformers for all-MiniLM-L6-v2.

mod detokeniser;
mod template;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use thiserror::Error;
use tokenizers::{PostProcessor, Tokenizer, TruncationDirection};

use crate::{ModelError, ModelFiles, Vocabulary, bert, limits, llama};

use detokeniser::Spelling;
use template::Template;

pub use detokeniser::Detokeniser;

/// A model's tokenizer and chat template.
pub struct Text {
    tokenizer: Tokenizer,
    /// The same with special tokens off, made when a content spells one out.
    plain: OnceLock<Tokenizer>,
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
pub const ROLES: [&str; 3] = ["system", "user", "assistant"];

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
    #[error("message {message} has none of the roles system, user and assistant")]
    Role { message: usize },
    #[error("message {message} contains the control token {token}, which cannot be told from text")]
    ControlToken { message: usize, token: String },
    #[error("a message and the template around it form a control token")]
    ControlTokenAcross,
    #[error("the chat template refused the conversation: {0}")]
    Template(String),
    #[error("the model does not chat: {0}")]
    NotForChat(ModelError),
    #[error("the tokenizer failed: {0}")]
    Tokenizer(String),
    #[error("completion token {place} is one that the tokenizer does not have")]
    ForeignToken { place: usize },
    #[error("completion token {place} is a control token, which may only end a completion")]
    ControlTokenInside { place: usize },
}

impl Text {
    /// Reads `tokenizer.json` and, where there is one, `tokenizer_config.json`.
    ///
    /// Truncation and padding that the tokenizer may carry are switched off: they belong to whoever stored the file, and
    /// silently change what is computed.
    pub fn parse(tokenizer: &[u8], tokenizer_config: Option<&[u8]>) -> Result<Self, ModelError> {
        Self::of(tokenizer, tokenizer_config, limits::VOCABULARY_MAX)
    }

    /// The same for a model whose table of embeddings has `rows` rows: no larger a tokenizer is its own.
    pub fn of(
        tokenizer: &[u8],
        tokenizer_config: Option<&[u8]>,
        rows: usize,
    ) -> Result<Self, ModelError> {
        let broken = |error: tokenizers::Error| ModelError::Tokenizer(error.to_string());
        let vocabulary = Vocabulary::parse(tokenizer, rows)?;
        let mut tokenizer = Tokenizer::from_bytes(tokenizer).map_err(broken)?;
        tokenizer.with_truncation(None).map_err(broken)?;
        tokenizer.with_padding(None);
        let template = tokenizer_config.map(Template::parse).transpose()?.flatten();
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
            vocabulary,
            embedding_tokens_max: limits::EMBEDDING_TOKENS_MAX,
            chat,
        })
    }

    /// The text side of a chat model, which must have a template and fit its configuration.
    pub fn of_chat(files: &ModelFiles) -> Result<Self, ModelError> {
        let config = llama::Config::parse(files.config())?;
        let text = Self::of(
            files.tokenizer(),
            files.tokenizer_config(),
            config.vocabulary,
        )?;
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

    /// The tokens of a conversation.
    pub fn prompt(&self, messages: &[Message<'_>]) -> Result<Vec<u32>, TextError> {
        let (chat, control) = (self.chat()?, self.control());
        check(messages)?;
        let mut spells_control = false;
        for Message { content, .. } in messages {
            let tokens = self.encode(content)?;
            spells_control |= tokens.iter().any(|token| control.contains(token));
        }
        let harmless = messages.iter().map(|message| Message {
            content: "x",
            ..*message
        });
        let harmless = chat.template.render(&harmless.collect::<Vec<_>>())?;
        let prompt = match spells_control {
            true => self.guarded(chat, messages)?,
            false => self.encode(&chat.template.render(messages)?)?,
        };
        let controls = |tokens: &[u32]| tokens.iter().filter(|t| control.contains(t)).count();
        match controls(&prompt) == controls(&self.encode(&harmless)?) {
            true => Ok(prompt),
            false => Err(TextError::ControlTokenAcross),
        }
    }

    /// The tokens of a conversation in which a content spells out a special token.
    fn guarded(&self, chat: &Chat, messages: &[Message<'_>]) -> Result<Vec<u32>, TextError> {
        let unused = |guard: &&char| !messages.iter().any(|m| m.content.contains(**guard));
        let guard = *GUARDS
            .iter()
            .find(unused)
            .ok_or(TextError::ControlTokenAcross)?;
        let mut contents = Vec::with_capacity(messages.len());
        for (message, Message { content, .. }) in messages.iter().enumerate() {
            let content = self.broken(content, guard);
            let tokens = self.encode(&content)?;
            if let Some(token) = tokens.iter().find(|token| self.control().contains(token)) {
                let token = self.tokenizer.id_to_token(*token).unwrap_or_default();
                return Err(TextError::ControlToken { message, token });
            }
            contents.push(content);
        }
        let guarded = messages.iter().zip(&contents);
        let guarded = guarded.map(|(Message { role, .. }, content)| Message { role, content });
        let rendered = chat.template.render(&guarded.collect::<Vec<_>>())?;
        let failed = |error: tokenizers::Error| TextError::Tokenizer(error.to_string());
        let encoding = self
            .tokenizer
            .encode(rendered.as_str(), false)
            .map_err(failed)?;
        let plain = self.plain.get_or_init(|| {
            let mut plain = self.tokenizer.clone();
            plain.set_encode_special_tokens(true);
            plain
        });
        let (mut prompt, mut from) = (Vec::new(), 0);
        let text = |out: &mut Vec<u32>, range: std::ops::Range<usize>| {
            let text = rendered.get(range).ok_or(TextError::ControlTokenAcross)?;
            let text = text.replace(guard, "");
            let encoding = plain.encode_fast(text, false).map_err(failed)?;
            out.extend(encoding.get_ids());
            Ok(())
        };
        for (token, (start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            if self.control().contains(token) {
                text(&mut prompt, from..*start)?;
                prompt.push(*token);
                from = *end;
            }
        }
        text(&mut prompt, from..rendered.len())?;
        Ok(prompt)
    }

    /// `content` with the guard behind the first character of each special token that it spells out.
    fn broken(&self, content: &str, guard: char) -> String {
        let mut content = content.to_owned();
        for token in self.tokenizer.get_added_tokens_decoder().values() {
            let mut rest = token.content.chars();
            let (true, Some(first)) = (token.special, rest.next()) else {
                continue;
            };
            let broken = format!("{first}{guard}{}", rest.as_str());
            // A spelling that overlaps the one before it is left by the first replacement.
            while !rest.as_str().is_empty() && content.contains(&token.content) {
                content = content.replace(&token.content, &broken);
            }
        }
        content
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
            .position(|token| self.control().contains(token))
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
