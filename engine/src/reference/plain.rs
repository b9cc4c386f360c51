//! A decoder of plain modules as a [`Forward`]: for backends without packed weights, such as CUDA's.
//!
//! It remembers tokens, not keys and values, and computes a sequence from its beginning for each score: right and slow. Rows of
//! the table of embeddings are gathered by the backend, so addresses show tokens: it is for machines that keep no secrets, and no
//! guest links it.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use model::decoder::Config;
use model::weights::Weights;
use model::{FileDigest, ModelError};

use super::Decoder;
use crate::EngineError;
use crate::decoder::Options;
use crate::forward::{BLOCK_TOKENS, BlockTable, Forward, ForwardShape, Row};

/// A decoder on any backend, in single precision.
pub struct Plain<B: Backend> {
    decoder: Decoder<B>,
    shape: ForwardShape,
    blocks: Vec<[u32; BLOCK_TOKENS]>,
    sources: BTreeMap<String, FileDigest>,
}

impl<B: Backend> Plain<B> {
    /// Reads all weights. Of `options` the numbers of blocks, rows and tokens count.
    ///
    /// # Errors
    /// A tensor is missing, extra, of another shape or type or not finite.
    pub fn load(
        config: &Config,
        weights: Weights,
        device: &B::Device,
        options: &Options,
    ) -> Result<Self, EngineError> {
        let plan = config.plan();
        weights.check(&plan)?;
        let mut read = BTreeMap::new();
        let sources = weights.read(&plan, |tensor, rows| {
            read.insert(tensor.name.clone(), rows.to_vec()?);
            Ok::<_, EngineError>(())
        })?;
        let mut take = |name: &str, _: &[usize]| {
            let missing = || ModelError::TensorMissing(name.to_owned());
            read.remove(name).ok_or_else(missing)
        };
        let decoder = Decoder::build(config, &mut take, device)?;
        Ok(Plain {
            decoder,
            shape: ForwardShape {
                context: config.context.min(options.context_max),
                vocabulary: config.vocabulary,
                kv_token_bytes: size_of::<u32>(),
                blocks: options.blocks,
                rows_max: options.rows_max,
                scored_max: options.scored_max,
            },
            blocks: vec![[0; BLOCK_TOKENS]; options.blocks],
            sources,
        })
    }

    /// The files that its weights came from, as they were read.
    pub fn sources(&self) -> &BTreeMap<String, FileDigest> {
        &self.sources
    }

    /// Remembers the token of a row.
    fn remember(&mut self, row: &Row, tables: &[BlockTable]) -> Result<(), EngineError> {
        let refuse = |why| Err(EngineError::Computation(why));
        if row.position as usize >= self.shape.context {
            return refuse("a row lies outside the context");
        }
        if row.token as usize >= self.shape.vocabulary {
            return refuse("a token is outside the vocabulary");
        }
        let Some(block) = block(row.position as usize, row.sequence, tables) else {
            return refuse("a sequence has no table or too few blocks");
        };
        let Some(tokens) = self.blocks.get_mut(block) else {
            return refuse("a sequence has a block that does not exist");
        };
        tokens[row.position as usize % BLOCK_TOKENS] = row.token;
        Ok(())
    }

    /// The tokens of a row's sequence up to its own.
    fn history(&self, row: &Row, tables: &[BlockTable]) -> Vec<u32> {
        let positions = 0..=row.position as usize;
        let token = |position: usize| {
            let block = block(position, row.sequence, tables)?;
            let tokens = self.blocks.get(block)?;
            Some(tokens[position % BLOCK_TOKENS])
        };
        positions.filter_map(token).collect()
    }
}

/// The number of the block that holds a position.
fn block(position: usize, sequence: usize, tables: &[BlockTable]) -> Option<usize> {
    let table = tables.get(sequence)?;
    table
        .0
        .get(position / BLOCK_TOKENS)
        .map(|block| *block as usize)
}

impl<B: Backend> Forward for Plain<B>
where
    Decoder<B>: Send,
{
    fn shape(&self) -> &ForwardShape {
        &self.shape
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        for row in rows {
            self.remember(row, tables)?;
        }
        scores.clear();
        for row in rows.iter().filter(|row| row.scored) {
            let tokens = self.history(row, tables);
            let hidden = self.decoder.hidden(&tokens).pop();
            let hidden = hidden.ok_or(EngineError::Computation("a decoder without layers"))?;
            let [count, width] = hidden.dims();
            let last = hidden.slice([count - 1..count, 0..width]);
            let numbers = self.decoder.scores(last).into_data().to_vec::<f32>();
            let numbers =
                numbers.map_err(|_| EngineError::Computation("scores of another type"))?;
            if !numbers.iter().all(|score| score.is_finite()) {
                return Err(EngineError::Computation("a score is not finite"));
            }
            scores.extend(numbers);
        }
        Ok(())
    }
}
