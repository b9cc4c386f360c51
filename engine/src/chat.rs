//! A chat model: a conversation in, tokens out.
//!
//! # The exact rule from messages to tokens
//!
//! A client that holds only `tokenizer.json` and `tokenizer_config.json` gets the same tokens, hence the same count, by
//! these steps with the `minijinja` and `tokenizers` crates:
//!
//! 1. Refuse a content that the tokenizer, with `encode(content, false)`, turns into any token that `tokenizer.json`
//!    lists in `added_tokens` with `"special": true`. (A text that spells out `<|im_end|>` would end its own message and
//!    could speak in another role. It is refused, not escaped: escaping differs between programs.)
//! 2. Render `chat_template` in an `Environment` whose syntax has `trim_blocks` and `lstrip_blocks` on, with
//!    `messages` (a list of `{role, content}`; roles `system`, `user`, `assistant`), `add_generation_prompt = true` and
//!    `eos_token`; nothing is escaped.
//! 3. The prompt is `encode(rendered, false)`, without truncation and padding. As a second line it is refused if it has
//!    another number of special tokens than the same conversation with every content replaced by `x`.
//!
//! Completion tokens are counted as they were generated, the end token included. Encoding the text again may give
//! fewer: a model can spell one text in several ways. Who must recount needs the tokens.
//!
//! # What is computed
//!
//! The prompt in chunks of [`CHUNK`] tokens, then one token at a time over a cache. A row computed in a chunk and the
//! same row computed alone differ in the last bits (the CPU backend takes another matrix kernel), so the split is fixed.

use std::collections::HashSet;
use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use tokenizers::Tokenizer;

use crate::backend::{Cpu, cpu};
use crate::error::{ComputationError, EngineError, ModelError, RequestError};
use crate::limits;
use crate::llama::{Cache, Config, Llama};
use crate::sampler::Sampling;
use crate::template::{Message, Template};
use crate::tensors::Stored;
use crate::text::{self, Detokeniser, Spelling};
use crate::weights::ModelFiles;

/// Prompt tokens computed together.
pub const CHUNK: usize = 128;

/// A chat model, ready to answer. It can be shared between threads; a call blocks until it is done.
pub struct Chat {
    config: Config,
    model: Llama<Cpu>,
    tokenizer: Tokenizer,
    control: HashSet<u32>,
    spelling: Spelling,
    template: Template,
}

/// One completion token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The token.
    pub token: u32,
    /// The text it completes: whole characters only, perhaps none.
    pub text: String,
}

/// A completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
    /// The texts of all steps.
    pub text: String,
    /// The tokens of all steps; the end token, if there is one, is the last and counts.
    pub tokens: Vec<u32>,
    /// Why it ended.
    pub finish: Finish,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model said so.
    Stop,
    /// The request's or the context's limit was reached.
    Length,
    /// The caller broke it off.
    Cancelled,
}

impl Chat {
    /// Builds the model from its files.
    pub fn load(files: &ModelFiles) -> Result<Self, EngineError> {
        let config = Config::parse(files.config())?;
        let tokenizer = text::tokenizer(files.tokenizer(), config.vocabulary)?;
        let template = files.tokenizer_config().ok_or_else(|| {
            ModelError::Template("it is absent, and a chat model needs a template".into())
        })?;
        let template = Template::parse(template)?;
        let model = Llama::build(&config, &mut Stored::parse(files.weights())?, &cpu())?;
        let control = tokenizer.get_added_tokens_decoder();
        let control = control.into_iter().filter(|(_, token)| token.special);
        Ok(Chat {
            control: control.map(|(id, _)| id).collect(),
            spelling: Spelling::of(&tokenizer, config.vocabulary)?,
            config,
            model,
            tokenizer,
            template,
        })
    }

    /// How many tokens the model can hold at once, prompt and completion together.
    pub fn context_max(&self) -> usize {
        self.config.context
    }

    /// The tokens of a conversation, by the rule in this module's description.
    pub fn prompt_tokens(&self, messages: &[Message]) -> Result<Vec<u32>, EngineError> {
        check_sizes(messages)?;
        for (index, message) in messages.iter().enumerate() {
            let tokens = text::encode(&self.tokenizer, &message.content)?;
            if let Some(token) = tokens.iter().find(|token| self.control.contains(token)) {
                let token = self.tokenizer.id_to_token(*token).unwrap_or_default();
                return Err(RequestError::ControlToken {
                    message: index,
                    token,
                }
                .into());
            }
        }
        let prompt = text::encode(&self.tokenizer, &self.template.render(messages)?)?;
        let harmless: Vec<Message> = messages
            .iter()
            .map(|message| Message {
                role: message.role,
                content: "x".into(),
            })
            .collect();
        let pattern = text::encode(&self.tokenizer, &self.template.render(&harmless)?)?;
        let controls = |tokens: &[u32]| tokens.iter().filter(|t| self.control.contains(t)).count();
        if controls(&prompt) != controls(&pattern) {
            return Err(RequestError::ControlTokenAcross.into());
        }
        self.check_prompt(&prompt)?;
        Ok(prompt)
    }

    /// Completes `prompt`. `on_token` sees every token as it comes and may break off.
    pub fn generate(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        on_token: &mut dyn FnMut(&Step) -> ControlFlow<()>,
    ) -> Result<Generated, EngineError> {
        self.check_prompt(prompt)?;
        sampling.check()?;
        let room = self.config.context - prompt.len();
        let tokens_max = room.min(sampling.tokens_max as usize);
        let mut cache = Cache::new(&self.config, prompt.len() + tokens_max, &cpu());
        let mut scores = Vec::new();
        for chunk in prompt.chunks(CHUNK) {
            scores = self.advance(chunk, &mut cache)?;
        }
        let mut detokeniser = Detokeniser::new(&self.spelling);
        let mut out = Generated {
            text: String::new(),
            tokens: Vec::new(),
            finish: Finish::Length,
        };
        while out.tokens.len() < tokens_max {
            let token = sampling
                .choose(&scores, out.tokens.len() as u64)
                .ok_or(ComputationError::NotFinite)?;
            let ends = self.config.end_tokens.contains(&token);
            out.tokens.push(token);
            let last = ends || out.tokens.len() == tokens_max;
            let text = detokeniser.push(token, last);
            out.text += &text;
            let flow = on_token(&Step { token, text });
            if ends {
                out.finish = Finish::Stop;
                break;
            }
            if flow.is_break() {
                out.finish = Finish::Cancelled;
                break;
            }
            if !last {
                scores = self.advance(&[token], &mut cache)?;
            }
        }
        Ok(out)
    }

    /// The model's scores for each next token, `prompt.len()` rows: all at once, and token by token over the cache.
    /// For tests and for comparing with other implementations.
    pub fn scores(&self, prompt: &[u32]) -> Result<[Vec<Vec<f32>>; 2], EngineError> {
        self.check_prompt(prompt)?;
        let hidden = self.model.forward(tokens(prompt));
        let [_, rows, width] = hidden.dims();
        let whole = numbers(self.model.scores(hidden.reshape([rows, width])))?;
        let whole = whole
            .chunks(self.config.vocabulary)
            .map(<[f32]>::to_vec)
            .collect();
        let mut cache = Cache::new(&self.config, prompt.len(), &cpu());
        let stepped = prompt
            .iter()
            .map(|token| self.advance(&[*token], &mut cache));
        Ok([whole, stepped.collect::<Result<_, _>>()?])
    }

    /// Feeds tokens and returns the scores for the one that follows them.
    fn advance(&self, fed: &[u32], cache: &mut Cache<Cpu>) -> Result<Vec<f32>, EngineError> {
        let hidden = self.model.forward_cached(tokens(fed), cache);
        let [_, rows, width] = hidden.dims();
        let last = hidden
            .slice([0..1, rows - 1..rows, 0..width])
            .reshape([1, width]);
        numbers(self.model.scores(last))
    }

    fn check_prompt(&self, prompt: &[u32]) -> Result<(), RequestError> {
        let vocabulary = self.config.vocabulary;
        if prompt.is_empty() {
            return Err(RequestError::PromptEmpty);
        }
        if prompt.len() >= self.config.context {
            return Err(RequestError::PromptTooLong {
                tokens: prompt.len(),
                context_max: self.config.context,
            });
        }
        match prompt.iter().find(|token| **token as usize >= vocabulary) {
            Some(token) => Err(RequestError::TokenUnknown {
                token: *token,
                vocabulary,
            }),
            None => Ok(()),
        }
    }
}

fn check_sizes(messages: &[Message]) -> Result<(), RequestError> {
    if messages.is_empty() {
        return Err(RequestError::NoMessages);
    }
    if messages.len() > limits::MESSAGES_MAX {
        return Err(RequestError::TooManyMessages {
            messages: messages.len(),
            messages_max: limits::MESSAGES_MAX,
        });
    }
    let too_long = |bytes, bytes_max| Err(RequestError::TextTooLong { bytes, bytes_max });
    for message in messages {
        if message.content.len() > limits::TEXT_BYTES_MAX {
            return too_long(message.content.len(), limits::TEXT_BYTES_MAX);
        }
    }
    let all = messages.iter().map(|message| message.content.len()).sum();
    if all > limits::CONVERSATION_BYTES_MAX {
        return too_long(all, limits::CONVERSATION_BYTES_MAX);
    }
    Ok(())
}

/// One row of tokens for the backend. They are below `VOCABULARY_MAX`, so they fit its integers.
fn tokens(tokens: &[u32]) -> Tensor<Cpu, 2, Int> {
    let values: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    Tensor::from_data(TensorData::new(values, [1, tokens.len()]), &cpu())
}

fn numbers(tensor: Tensor<Cpu, 2>) -> Result<Vec<f32>, EngineError> {
    let data = tensor
        .try_into_data()
        .map_err(|_| ComputationError::Backend)?;
    let values = data
        .into_vec::<f32>()
        .map_err(|_| ComputationError::Backend)?;
    Ok(values)
}
