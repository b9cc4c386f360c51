//! Packed decoders on [`Flex`]: the tensors of the ops are computed in place by `kernels`.

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;
use kernels::{AttendShape, BLOCK_TOKENS, Kernels, KvCache, Packed};
use model::decoder::{Activation, Config};

use super::carry::Carry;
use super::packed::{PackedBackend, Step};
use crate::EngineError;
use crate::forward::Row;
use crate::packed::{Linear, finite, project};

/// The weights, keys and values, and buffers of one decoder.
pub struct PackedDecoder {
    pub(super) config: Config,
    pub(super) kernels: Arc<Kernels>,
    pub(super) embedding: Packed,
    pub(super) layers: Vec<Layer>,
    pub(super) norm: Vec<f32>,
    /// None if it is the embedding.
    pub(super) output: Option<Packed>,
    pub(super) cache: KvCache,
    /// Those of a pass.
    pub(super) tokens: Vec<u32>,
    #[cfg(feature = "plain-rows")]
    pub(super) plain_rows: bool,
    pub(super) buffers: Buffers,
    /// Where the embedding is the output, too.
    pub(super) carry: Option<Carry>,
}

/// The weights of one layer. A vector that the family lacks is empty.
pub(super) struct Layer {
    pub attention_norm: Vec<f32>,
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub query_norm: Vec<f32>,
    pub key_norm: Vec<f32>,
    pub out: Linear,
    pub after_attention_norm: Vec<f32>,
    pub feed_norm: Vec<f32>,
    pub gate: Linear,
    pub up: Linear,
    pub down: Linear,
    pub after_feed_norm: Vec<f32>,
}

/// Buffers for as many rows as one pass may have.
pub(super) struct Buffers {
    pub rows_max: usize,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    out: Vec<f32>,
}

impl PackedBackend for Flex {
    type Decoder = PackedDecoder;

    fn embed(
        decoder: &mut PackedDecoder,
        step: &Step<'_>,
        reused: Option<FlexTensor>,
    ) -> Result<FlexTensor, EngineError> {
        let (width, scale) = (decoder.config.hidden, decoder.config.embedding_scale);
        let mut x = reused.unwrap_or_else(|| {
            let shape = Shape::new([decoder.buffers.rows_max, width]);
            FlexTensor::zeros(shape, DType::F32)
        });
        let out = &mut x.storage_mut::<f32>()[..step.rows.len() * width];
        decoder.tokens.clear();
        decoder.tokens.extend(step.rows.iter().map(|row| row.token));
        match decoder
            .carry
            .as_mut()
            .and_then(|carry| carry.kept_for(step))
        {
            Some(kept) => out.copy_from_slice(kept?),
            None => rows_of(decoder, out)?,
        }
        if scale != 1.0 {
            out.iter_mut().for_each(|x| *x *= scale);
        }
        Ok(x)
    }

    fn layer(
        decoder: &mut PackedDecoder,
        index: usize,
        mut hidden: FlexTensor,
        step: &Step<'_>,
    ) -> Result<FlexTensor, EngineError> {
        let x = &mut hidden.storage_mut::<f32>()[..step.rows.len() * decoder.config.hidden];
        decoder.attend(index, x, step)?;
        decoder.feed(index, x)?;
        Ok(hidden)
    }

    fn scores(
        decoder: &mut PackedDecoder,
        hidden: &FlexTensor,
        step: &Step<'_>,
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let Config {
            hidden: width,
            vocabulary,
            ..
        } = decoder.config;
        let rows = hidden.storage::<f32>().chunks_exact(width);
        let mut count = 0;
        for (_, x) in step.rows.iter().zip(rows).filter(|(row, _)| row.scored) {
            let normed = &mut decoder.buffers.normed[count * width..][..width];
            let epsilon = decoder.config.norm_epsilon as f32;
            decoder
                .kernels
                .rms_norm(x, &decoder.norm, epsilon, normed)?;
            count += 1;
        }
        let normed = &decoder.buffers.normed[..count * width];
        if !finite(normed) {
            return Err(EngineError::Computation("a result is not finite"));
        }
        scores.resize(count * vocabulary, 0.0);
        let (kernels, embedding) = (&decoder.kernels, &decoder.embedding);
        match (decoder.carry.as_mut(), single(step)) {
            (Some(carry), Some(row)) => carry.scores(kernels, embedding, row, normed, scores)?,
            _ => {
                let output = decoder.output.as_ref().unwrap_or(embedding);
                kernels.linear(output, normed, scores)?;
            }
        }
        if let Some(cap) = decoder.config.score_cap {
            scores
                .iter_mut()
                .for_each(|score| *score = capped(*score, cap));
        }
        Ok(())
    }
}

impl PackedDecoder {
    /// Adds to `x` what the attention of a layer makes of it.
    fn attend(&mut self, index: usize, x: &mut [f32], step: &Step<'_>) -> Result<(), EngineError> {
        let Self {
            config,
            kernels,
            layers,
            cache,
            buffers,
            ..
        } = self;
        let (layer, rows) = (&layers[index], step.rows.len());
        let (width, epsilon) = (config.head_width, config.norm_epsilon as f32);
        let (query_width, key_width) = (config.heads * width, config.key_value_heads * width);
        let normed = &mut buffers.normed[..x.len()];
        let queries = &mut buffers.queries[..rows * query_width];
        let keys = &mut buffers.keys[..rows * key_width];
        let values = &mut buffers.values[..rows * key_width];
        let mixed = &mut buffers.mixed[..rows * query_width];
        kernels.rms_norm(x, &layer.attention_norm, epsilon, normed)?;
        let mut projected = [
            (&layer.query, &mut *queries),
            (&layer.key, &mut *keys),
            (&layer.value, &mut *values),
        ];
        project(kernels, normed, &mut projected)?;
        head_norm(kernels, queries, &layer.query_norm, epsilon, mixed)?;
        head_norm(kernels, keys, &layer.key_norm, epsilon, mixed)?;
        if let Some(rope) = config.layers[index].rope {
            let turns = &step.turns[rope];
            let (cosines, sines) = (turns.cosines(), turns.sines());
            kernels.rope(queries, cosines, sines, config.heads, width)?;
            kernels.rope(keys, cosines, sines, config.key_value_heads, width)?;
        }
        let pairs = keys
            .chunks_exact(key_width)
            .zip(values.chunks_exact(key_width));
        for (row, (keys, values)) in step.rows.iter().zip(pairs) {
            let position = row.position as usize;
            let block = step.tables[row.sequence].0[position / BLOCK_TOKENS];
            cache.write(index, block, position % BLOCK_TOKENS, keys, values)?;
        }
        let shape = AttendShape {
            heads: config.heads,
            scale: config.attention_scale,
            window: config.layers[index].window,
            cap: None,
        };
        kernels.attend(cache, index, &shape, step.runs, queries, mixed)?;
        let out = &mut buffers.out[..x.len()];
        project(kernels, mixed, &mut [(&layer.out, &mut *out)])?;
        add_normed(
            kernels,
            x,
            out,
            &layer.after_attention_norm,
            epsilon,
            normed,
        )
    }

    /// Adds to `x` what the feed-forward part of a layer makes of it.
    fn feed(&mut self, index: usize, x: &mut [f32]) -> Result<(), EngineError> {
        let Self {
            config,
            kernels,
            layers,
            buffers,
            ..
        } = self;
        let (layer, rows) = (&layers[index], x.len() / config.hidden);
        let epsilon = config.norm_epsilon as f32;
        let normed = &mut buffers.normed[..x.len()];
        let gate = &mut buffers.gate[..rows * config.intermediate];
        let up = &mut buffers.up[..rows * config.intermediate];
        kernels.rms_norm(x, &layer.feed_norm, epsilon, normed)?;
        let mut projected = [(&layer.gate, &mut *gate), (&layer.up, &mut *up)];
        project(kernels, normed, &mut projected)?;
        match config.activation {
            Activation::Silu => kernels.silu_mul(gate, up)?,
            Activation::GeluTanh => kernels.gelu_tanh_mul(gate, up)?,
        }
        let out = &mut buffers.out[..x.len()];
        project(kernels, gate, &mut [(&layer.down, &mut *out)])?;
        add_normed(kernels, x, out, &layer.after_feed_norm, epsilon, normed)
    }

    /// Reads embeddings where they lie, so that addresses show the tokens: for measuring what the passes over the table cost.
    #[cfg(feature = "plain-rows")]
    pub fn read_rows_plainly(&mut self, plainly: bool) {
        self.plain_rows = plainly;
    }

    /// Bytes of all weights, as they are held.
    pub fn weight_bytes(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::bytes).sum();
        let output = self.output.as_ref().map_or(0, Packed::bytes);
        self.embedding.bytes() + output + size_of_val(&self.norm[..]) + layers
    }

    /// Bytes of the memory of keys and values.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// The numbers of the weights called `name`, dequantised, row-major: for tests against the reference.
    pub fn numbers(&mut self, name: &str) -> Option<Vec<f32>> {
        let plus = self.norm_plus();
        let part = super::parts::part(&self.config, name)?;
        self.place(part).numbers(plus)
    }
}

impl Layer {
    fn bytes(&self) -> usize {
        let linears = [
            &self.query,
            &self.key,
            &self.value,
            &self.out,
            &self.gate,
            &self.up,
            &self.down,
        ];
        let linears = linears.map(Linear::bytes);
        let norms = [
            &self.attention_norm,
            &self.query_norm,
            &self.key_norm,
            &self.after_attention_norm,
            &self.feed_norm,
            &self.after_feed_norm,
        ];
        let norms = norms.map(|norm| size_of_val(&norm[..]));
        linears.into_iter().chain(norms).sum()
    }
}

impl Buffers {
    /// Numbers in all of them.
    pub fn numbers(config: &Config, rows_max: usize, scored_max: usize) -> usize {
        let (queries, keys) = (config.heads, config.key_value_heads);
        let row = 2 * (queries + keys) * config.head_width + 2 * config.intermediate;
        let normed = rows_max.max(scored_max).saturating_mul(config.hidden);
        let rows = rows_max.saturating_mul(row + config.hidden);
        rows.saturating_add(normed)
    }

    pub fn new(config: &Config, rows_max: usize, scored_max: usize) -> Self {
        let rows = |width: usize| vec![0.0; rows_max * width];
        let queries = config.heads * config.head_width;
        let keys = config.key_value_heads * config.head_width;
        Buffers {
            rows_max,
            normed: vec![0.0; rows_max.max(scored_max) * config.hidden],
            queries: rows(queries),
            keys: rows(keys),
            values: rows(keys),
            mixed: rows(queries),
            gate: rows(config.intermediate),
            up: rows(config.intermediate),
            out: rows(config.hidden),
        }
    }
}

/// The only scored row of a step, if its best token's embedding is to be kept.
fn single<'a>(step: &Step<'a>) -> Option<&'a Row> {
    let mut scored = step.rows.iter().filter(|row| row.scored);
    let row = scored.next().filter(|row| row.keeps);
    row.filter(|_| scored.next().is_none())
}

/// The embeddings of the decoder's tokens, by passes over the whole table.
fn rows_of(decoder: &PackedDecoder, out: &mut [f32]) -> Result<(), EngineError> {
    #[cfg(feature = "plain-rows")]
    if decoder.plain_rows {
        let rows = out.chunks_exact_mut(decoder.config.hidden);
        for (token, out) in decoder.tokens.iter().zip(rows) {
            decoder.embedding.row(*token as usize, out)?;
        }
        return Ok(());
    }
    Ok(decoder
        .kernels
        .embed(&decoder.embedding, &decoder.tokens, out)?)
}

/// The norm of each head, if there is one.
fn head_norm(
    kernels: &Kernels,
    heads: &mut [f32],
    gamma: &[f32],
    epsilon: f32,
    buffer: &mut [f32],
) -> Result<(), EngineError> {
    if !gamma.is_empty() {
        let normed = &mut buffer[..heads.len()];
        kernels.rms_norm(heads, gamma, epsilon, normed)?;
        heads.copy_from_slice(normed);
    }
    Ok(())
}

/// Adds `out` to `x`, normed if there is a norm.
fn add_normed(
    kernels: &Kernels,
    x: &mut [f32],
    out: &[f32],
    gamma: &[f32],
    epsilon: f32,
    buffer: &mut [f32],
) -> Result<(), EngineError> {
    if gamma.is_empty() {
        return Ok(kernels.add(x, out)?);
    }
    kernels.rms_norm(out, gamma, epsilon, buffer)?;
    Ok(kernels.add(x, buffer)?)
}

/// `cap * tanh(score / cap)`
fn capped(score: f32, cap: f32) -> f32 {
    let twice = (2.0 * score / cap).clamp(-80.0, 80.0);
    cap * (1.0 - 2.0 / (1.0 + kernels::exp(twice)))
}
