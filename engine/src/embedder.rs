//! An embeddings model: the tokens of a text in, one vector out.
//!
//! For all-MiniLM-L6-v2 the promise is that of sentence-transformers: no padding, the mean over all tokens of the last layer, divided
//! by its length. `model::text` makes the tokens.

use std::sync::{Arc, Mutex, PoisonError};

use kernels::{Kernels, Path};
use model::bert::Config;
use model::pooling::{Pooled, Pooling};
use model::{ModelError, ModelFiles, Vocabulary};

use crate::encoder::{Encoder, Text};
use crate::error::{EngineError, RequestError};
use crate::memory::Memory;
use crate::packed::Packing;
use crate::weights;

/// An embeddings model, ready. It can be shared between threads; a call blocks until it is done.
pub struct Embedder {
    positions: usize,
    pooling: Pooling,
    vocabulary: Vocabulary,
    encoder: Mutex<Encoder>,
}

/// The vector of a text from the `rows` of its tokens, `width` numbers each.
///
/// # Errors
/// It cannot be divided by its length, which is zero or not finite.
pub fn vector(pooling: Pooling, rows: &[f32], width: usize) -> Result<Vec<f32>, EngineError> {
    let mut vector = match pooling.of {
        Pooled::First => rows[..width].to_vec(),
        Pooled::Last => rows[rows.len() - width..].to_vec(),
        Pooled::Mean => {
            let mut sum = vec![0.0; width];
            for row in rows.chunks_exact(width) {
                sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
            }
            let count = (rows.len() / width) as f32;
            sum.iter_mut().for_each(|x| *x /= count);
            sum
        }
    };
    if pooling.normalised {
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !(length.is_finite() && length > 0.0) {
            return Err(EngineError::Computation("a result is not finite"));
        }
        vector.iter_mut().for_each(|x| *x /= length);
    }
    Ok(vector)
}

impl Embedder {
    /// Builds the model from its files, as they are stored, for all threads of this machine.
    pub fn load(files: &ModelFiles) -> Result<Self, EngineError> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let kernels = Arc::new(Kernels::new(Path::detect(), threads)?);
        Self::load_on(files, kernels, Packing::AsStored, &Memory::unlimited())
    }

    /// The same on these kernels, with weights kept so. `memory` is asked before they are read.
    pub fn load_on(
        files: &ModelFiles,
        kernels: Arc<Kernels>,
        packing: Packing,
        memory: &Memory,
    ) -> Result<Self, EngineError> {
        let config = Config::parse(files.config())?;
        if config.scores_pairs {
            let what = "a cross-encoder, which scores pairs, as an embedder".to_owned();
            return Err(ModelError::Unsupported(what).into());
        }
        let vocabulary = Vocabulary::parse(files.tokenizer(), config.vocabulary)?;
        let pooling = Pooling::of(files, config.hidden)?;
        let weights = weights::of_files(files)?;
        memory.take(&Encoder::needs(&config, &weights, packing))?;
        let encoder = Encoder::load(&config, weights, kernels, packing)?;
        Ok(Self::new(encoder, vocabulary, pooling))
    }

    /// An encoder with what makes vectors of its rows.
    pub fn new(encoder: Encoder, vocabulary: Vocabulary, pooling: Pooling) -> Self {
        Embedder {
            positions: encoder.config().positions,
            pooling,
            vocabulary,
            encoder: Mutex::new(encoder),
        }
    }

    /// Refuses tokens of which there are none, too many, or one that the model does not have.
    pub fn check(&self, text: &[u32]) -> Result<(), RequestError> {
        RequestError::check_tokens(text, self.positions, &self.vocabulary)
    }

    /// The vector of the tokens of one text, the special ones included: as many numbers as the model is wide, 384 for
    /// all-MiniLM-L6-v2.
    pub fn embed(&self, text: &[u32]) -> Result<Vec<f32>, EngineError> {
        let vectors = self.embed_all(&[text])?;
        let vector = vectors.into_iter().next();
        vector.ok_or(EngineError::Computation("a text has no vector"))
    }

    /// The vectors of several texts, each the same to the bit as alone.
    pub fn embed_all(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EngineError> {
        texts.iter().try_for_each(|text| self.check(text))?;
        let texts: Vec<Text<'_>> = texts.iter().map(|text| Text::one(text)).collect();
        let mut encoder = self.encoder.lock().unwrap_or_else(PoisonError::into_inner);
        let width = encoder.config().hidden;
        let mut vectors = Vec::with_capacity(texts.len());
        encoder.forward(&texts, &mut |_, rows| {
            vectors.push(vector(self.pooling, rows, width))
        })?;
        vectors.into_iter().collect()
    }
}
