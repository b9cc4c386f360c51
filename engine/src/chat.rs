//! A chat model: a prompt's tokens in, a completion's tokens out. `model::text` has the rule from messages to tokens.
//!
//! # What is computed
//!
//! The prompt in chunks of [`CHUNK`] tokens, then one token at a time over a cache. A row computed in a chunk and the
//! same row computed alone differ in the last bits (the CPU backend takes another matrix kernel), so the split is fixed.

use std::ops::ControlFlow;

use burn::tensor::{Int, Tensor, TensorData};
use model::llama::Config;
use model::{ModelFiles, Vocabulary};

use crate::backend::{Cpu, cpu};
use crate::error::{EngineError, RequestError};
use crate::llama::{Cache, Llama};
use crate::sampler::Sampling;
use crate::tensors::Stored;

/// Prompt tokens computed together.
pub const CHUNK: usize = 128;

/// A chat model, ready to answer. It can be shared between threads; a call blocks until it is done.
pub struct Chat {
    config: Config,
    vocabulary: Vocabulary,
    model: Llama<Cpu>,
}

/// One completion token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// The token.
    pub token: u32,
    /// Whether it ends the completion.
    pub last: bool,
}

/// A completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generated {
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
        let vocabulary = Vocabulary::parse(files.tokenizer(), config.vocabulary)?;
        let model = Llama::build(&config, &Stored::parse(files.weights())?, &cpu())?;
        Ok(Chat {
            config,
            vocabulary,
            model,
        })
    }

    /// How many tokens the model can hold at once, prompt and completion together.
    pub fn context_max(&self) -> usize {
        self.config.context
    }

    /// Whether the model has all of these tokens.
    pub fn has(&self, tokens: &[u32]) -> bool {
        self.vocabulary.has(tokens)
    }

    /// Refuses a prompt that is empty, leaves no room for a completion, or names a token that the model does not have.
    pub fn check_prompt(&self, prompt: &[u32]) -> Result<(), RequestError> {
        let tokens_max = self.config.context - 1;
        RequestError::check_tokens(prompt, tokens_max, &self.vocabulary)
    }

    /// Completes `prompt`. `on_token` sees every token as it comes and may break off.
    pub fn generate(
        &self,
        prompt: &[u32],
        sampling: &Sampling,
        on_token: &mut dyn FnMut(Step) -> ControlFlow<()>,
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
        let mut out = Generated {
            tokens: Vec::new(),
            finish: Finish::Length,
        };
        while out.tokens.len() < tokens_max {
            self.forbid(&mut scores);
            let token = sampling
                .choose(&scores, out.tokens.len() as u64)
                .ok_or(EngineError::Computation("a result is not finite"))?;
            let ends = self.config.end_tokens.contains(&token);
            out.tokens.push(token);
            let last = ends || out.tokens.len() == tokens_max;
            let flow = on_token(Step { token, last });
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

    /// Takes out of the choice what no completion holds: rows of the table that are no token, and special tokens that do not
    /// end it.
    fn forbid(&self, scores: &mut Vec<f32>) {
        scores.truncate(self.vocabulary.size());
        let special = self.vocabulary.special().iter();
        for token in special.filter(|token| !self.config.end_tokens.contains(token)) {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score = f32::MIN;
            }
        }
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
}

/// One row of tokens for the backend. They are below `VOCABULARY_MAX`, so they fit its integers.
pub(crate) fn tokens(tokens: &[u32]) -> Tensor<Cpu, 2, Int> {
    let values: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    Tensor::from_data(TensorData::new(values, [1, tokens.len()]), &cpu())
}

pub(crate) fn numbers(tensor: Tensor<Cpu, 2>) -> Result<Vec<f32>, EngineError> {
    let data = tensor.try_into_data().ok();
    data.and_then(|data| data.into_vec::<f32>().ok())
        .ok_or(EngineError::Computation("the backend gave no result"))
}
