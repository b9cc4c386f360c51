//! An embeddings model: the tokens of a text in, one unit vector out.
//!
//! The promise is that of sentence-transformers for all-MiniLM-L6-v2: no padding, the mean over all tokens of the last
//! layer, divided by its length. `model::text` makes the tokens.

use model::bert::Config;
use model::{ModelFiles, Vocabulary};

use crate::backend::{Cpu, cpu};
use crate::bert::Bert;
use crate::chat::{numbers, tokens};
use crate::error::{EngineError, RequestError};
use crate::tensors::Stored;

/// An embeddings model, ready. It can be shared between threads; a call blocks until it is done.
pub struct Embedder {
    config: Config,
    vocabulary: Vocabulary,
    model: Bert<Cpu>,
}

impl Embedder {
    /// Builds the model from its files.
    pub fn load(files: &ModelFiles) -> Result<Self, EngineError> {
        let config = Config::parse(files.config())?;
        let vocabulary = Vocabulary::parse(files.tokenizer(), config.vocabulary)?;
        let model = Bert::build(&config, &Stored::parse(files.weights())?, &cpu())?;
        Ok(Embedder {
            config,
            vocabulary,
            model,
        })
    }

    /// Refuses tokens of which there are none, too many, or one that the model does not have.
    pub fn check(&self, text: &[u32]) -> Result<(), RequestError> {
        RequestError::check_tokens(text, self.config.positions, &self.vocabulary)
    }

    /// The vector of the tokens of one text, the special ones included. Its length is 1, and it has as many numbers as
    /// the model is wide: 384 for all-MiniLM-L6-v2.
    pub fn embed(&self, text: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.check(text)?;
        let mean = self.model.forward(tokens(text)).mean_dim(1);
        let [_, _, width] = mean.dims();
        let mean = numbers(mean.reshape([1, width]))?;
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(EngineError::Computation("a result is not finite"));
        }
        Ok(mean.into_iter().map(|x| x / length).collect())
    }
}
