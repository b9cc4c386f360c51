//! A chat model: a prompt's tokens in, a completion's tokens out. `model::text` has the rule from messages to tokens.
//!
//! One job at a time: the prompt in chunks of [`CHUNK`] tokens, then one token after another. How it is divided changes no bit.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use kernels::{Kernels, KvKind, Path};
use model::decoder::Config;
use model::{ModelFiles, Vocabulary};

use crate::decoder::{Decoder, Options, blocks_for};
use crate::error::{EngineError, RequestError};
use crate::forward::{BlockTable, Forward, Row};
use crate::packed::Packing;
use crate::sampler::Sampling;
use crate::weights;

/// Prompt tokens computed together.
pub const CHUNK: usize = 128;

/// A chat model, ready to answer. It can be shared between threads; a call blocks until it is done.
pub struct Chat {
    context: usize,
    end_tokens: Vec<u32>,
    vocabulary: Vocabulary,
    decoder: Mutex<Decoder>,
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
        let config = Config::of(files)?;
        let vocabulary = Vocabulary::parse(files.tokenizer(), config.vocabulary)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let kernels = Arc::new(Kernels::new(Path::detect(), threads)?);
        let context = config.context.min(CONTEXT_MAX);
        let options = Options {
            packing: Packing::AsStored,
            cache: KvKind::F32,
            blocks: blocks_for(1, context),
            context_max: context,
            rows_max: CHUNK,
            scored_max: CHUNK,
        };
        let weights = weights::of_files(files)?;
        let decoder = Decoder::load(&config, weights, kernels, &options)?;
        Ok(Chat {
            context,
            end_tokens: config.end_tokens,
            vocabulary,
            decoder: Mutex::new(decoder),
        })
    }

    /// How many tokens the model can hold at once, prompt and completion together.
    pub fn context_max(&self) -> usize {
        self.context
    }

    /// Whether the model has all of these tokens.
    pub fn has(&self, tokens: &[u32]) -> bool {
        self.vocabulary.has(tokens)
    }

    /// Refuses a prompt that is empty, leaves no room for a completion, or names a token that the model does not have.
    pub fn check_prompt(&self, prompt: &[u32]) -> Result<(), RequestError> {
        let tokens_max = self.context - 1;
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
        let room = self.context - prompt.len();
        let tokens_max = room.min(sampling.tokens_max as usize);
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sequence = Sequence::new(&mut decoder);
        let mut scores = Vec::new();
        for chunk in prompt.chunks(CHUNK) {
            sequence.feed(chunk, Scored::Last, &mut scores)?;
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
            let ends = self.end_tokens.contains(&token);
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
                sequence.feed(&[token], Scored::Last, &mut scores)?;
            }
        }
        Ok(out)
    }

    /// The model's scores for each next token, `prompt.len()` rows: many at once, and token by token. For tests and for comparing
    /// with other implementations.
    pub fn scores(&self, prompt: &[u32]) -> Result<[Vec<Vec<f32>>; 2], EngineError> {
        self.check_prompt(prompt)?;
        let mut decoder = self.decoder.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = decoder.shape().vocabulary;
        let mut by_chunks = |tokens: usize| {
            let mut sequence = Sequence::new(&mut decoder);
            let (mut all, mut scores) = (Vec::new(), Vec::new());
            for chunk in prompt.chunks(tokens) {
                sequence.feed(chunk, Scored::All, &mut scores)?;
                all.extend(scores.chunks_exact(entries).map(<[f32]>::to_vec));
            }
            Ok::<_, EngineError>(all)
        };
        Ok([by_chunks(CHUNK)?, by_chunks(1)?])
    }

    /// Takes out of the choice what no completion holds: rows of the table that are no token, and special tokens that do not
    /// end it.
    fn forbid(&self, scores: &mut Vec<f32>) {
        scores.truncate(self.vocabulary.size());
        let special = self.vocabulary.special().iter();
        for token in special.filter(|token| !self.end_tokens.contains(token)) {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score = f32::MIN;
            }
        }
    }
}

/// The one sequence that the memory holds.
struct Sequence<'a> {
    decoder: &'a mut Decoder,
    table: BlockTable,
    length: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scored {
    All,
    Last,
}

impl<'a> Sequence<'a> {
    fn new(decoder: &'a mut Decoder) -> Self {
        let blocks = decoder.shape().blocks as u32;
        Sequence {
            decoder,
            table: BlockTable((0..blocks).collect()),
            length: 0,
        }
    }

    /// Computes the tokens that follow, at most [`CHUNK`].
    fn feed(
        &mut self,
        tokens: &[u32],
        scored: Scored,
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let rows: Vec<Row> = (self.length..)
            .zip(tokens)
            .enumerate()
            .map(|(index, (position, token))| Row {
                sequence: 0,
                token: *token,
                position,
                scored: scored == Scored::All || index + 1 == tokens.len(),
            })
            .collect();
        self.length += tokens.len() as u32;
        let table = std::slice::from_ref(&self.table);
        self.decoder.forward(&rows, table, scores)
    }
}

/// Tokens of the only sequence at most, whatever the configuration claims: their keys and values are allocated at once.
pub const CONTEXT_MAX: usize = 8192;
