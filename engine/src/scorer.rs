//! A cross-encoder: the tokens of two texts in, one score out. The larger it is, the better the second answers the first; no sigmoid
//! is applied. `model::text` makes the tokens.

use std::sync::{Arc, Mutex, PoisonError};

use kernels::Kernels;
use model::bert::Config;
use model::{ModelError, ModelFiles, Vocabulary};

use crate::encoder::{Encoder, Text};
use crate::error::{EngineError, RequestError};
use crate::memory::Memory;
use crate::packed::Packing;
use crate::weights;

/// A model that scores pairs, ready. It can be shared between threads; a call blocks until it is done.
pub struct Scorer {
    positions: usize,
    vocabulary: Vocabulary,
    encoder: Mutex<Encoder>,
}

impl Scorer {
    /// Builds the model from its files on these kernels, with weights kept so. `memory` is asked before they are read.
    pub fn load_on(
        files: &ModelFiles,
        kernels: Arc<Kernels>,
        packing: Packing,
        memory: &Memory,
    ) -> Result<Self, EngineError> {
        let config = Config::parse(files.config())?;
        if !config.scores_pairs {
            let what = "a model without a classifier of one label as a cross-encoder".to_owned();
            return Err(ModelError::Unsupported(what).into());
        }
        let vocabulary = Vocabulary::parse(files.tokenizer(), config.vocabulary)?;
        let weights = weights::of_files(files)?;
        memory.take(&Encoder::needs(&config, &weights, packing))?;
        Ok(Scorer {
            positions: config.positions,
            vocabulary,
            encoder: Mutex::new(Encoder::load(&config, weights, kernels, packing)?),
        })
    }

    /// Refuses tokens of which there are none, too many, or one that the model does not have.
    pub fn check(&self, pair: &[u32]) -> Result<(), RequestError> {
        RequestError::check_tokens(pair, self.positions, &self.vocabulary)
    }

    /// The score of a pair.
    pub fn score(&self, pair: Text<'_>) -> Result<f32, EngineError> {
        self.check(pair.tokens)?;
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let scores = encoder.scores(&[pair])?;
        let score = scores.into_iter().next();
        score.ok_or(EngineError::Computation("a pair has no score"))
    }
}
