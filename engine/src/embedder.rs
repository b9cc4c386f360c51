//! An embeddings model: a text in, one unit vector out.
//!
//! The promise is that of sentence-transformers for all-MiniLM-L6-v2: at most 256 tokens with `[CLS]` and `[SEP]` (what
//! follows in the text is ignored), no padding, the mean over all tokens of the last layer, divided by its length.

use burn::tensor::{Tensor, TensorData};
use tokenizers::{Tokenizer, TruncationParams};

use crate::backend::{Cpu, cpu};
use crate::bert::{Bert, Config};
use crate::error::{ComputationError, EngineError, ModelError, RequestError};
use crate::limits;
use crate::tensors::Stored;
use crate::text;
use crate::weights::ModelFiles;

/// An embeddings model, ready. It can be shared between threads; a call blocks until it is done.
pub struct Embedder {
    model: Bert<Cpu>,
    tokenizer: Tokenizer,
}

/// What a text becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// The vector, of length 1. As many numbers as the model is wide: 384 for all-MiniLM-L6-v2.
    pub vector: Vec<f32>,
    /// The tokens that were computed: `[CLS]` and `[SEP]` included, what was cut off not.
    pub tokens: u32,
}

impl Embedder {
    /// Builds the model from its files.
    pub fn load(files: &ModelFiles) -> Result<Self, EngineError> {
        let config = Config::parse(files.config())?;
        let mut tokenizer = text::tokenizer(files.tokenizer(), config.vocabulary)?;
        let truncation = TruncationParams {
            max_length: limits::EMBEDDING_TOKENS_MAX.min(config.positions),
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(truncation))
            .map_err(|error| ModelError::Tokenizer(error.to_string()))?;
        let model = Bert::build(&config, &mut Stored::parse(files.weights())?, &cpu())?;
        Ok(Embedder { model, tokenizer })
    }

    /// The embedding of `text`.
    pub fn embed(&self, text: &str) -> Result<Embedding, EngineError> {
        if text.len() > limits::TEXT_BYTES_MAX {
            return Err(RequestError::TextTooLong {
                bytes: text.len(),
                bytes_max: limits::TEXT_BYTES_MAX,
            }
            .into());
        }
        let encoding = self
            .tokenizer
            .encode_fast(text, true)
            .map_err(|_| ComputationError::Tokenizer)?;
        let ids: Vec<i32> = encoding.get_ids().iter().map(|id| *id as i32).collect();
        let count = ids.len();
        if count == 0 {
            return Err(RequestError::PromptEmpty.into());
        }
        let tokens = Tensor::from_data(TensorData::new(ids, [1, count]), &cpu());
        let mean = self.model.forward(tokens).mean_dim(1);
        let data = mean
            .try_into_data()
            .map_err(|_| ComputationError::Backend)?;
        let mean = data
            .into_vec::<f32>()
            .map_err(|_| ComputationError::Backend)?;
        let length = mean.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(ComputationError::NotFinite.into());
        }
        Ok(Embedding {
            vector: mean.into_iter().map(|x| x / length).collect(),
            tokens: count as u32,
        })
    }
}
