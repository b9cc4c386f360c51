//! Packed encoders on [`Flex`]: the tensors of the ops are computed in place by `kernels`.

use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::{DType, Shape};
use burn_flex::FlexTensor;
use kernels::{AttendShape, Kernels, Packed};
use model::ModelError;
use model::bert::Config;

use super::{EncoderBackend, ROWS_MAX, Text};
use crate::EngineError;
use crate::packed::{Linear, project};

/// The weights and buffers of one encoder.
pub struct PackedEncoder {
    pub(super) config: Config,
    pub(super) kernels: Arc<Kernels>,
    pub(super) words: Packed,
    /// Rows of the width of a layer; which are read is public.
    pub(super) positions: Vec<f32>,
    pub(super) segments: Vec<f32>,
    pub(super) norm: Norm,
    pub(super) layers: Vec<Layer>,
    pub(super) classifier: Option<Classifier>,
    pub(super) buffers: Buffers,
}

pub(super) struct Norm {
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

pub(super) struct Layer {
    pub query: Linear,
    pub key: Linear,
    pub value: Linear,
    pub attention_out: Linear,
    pub attention_norm: Norm,
    pub up: Linear,
    pub down: Linear,
    pub feed_norm: Norm,
}

/// What makes a score of a pair.
pub(super) struct Classifier {
    pub pooler: Linear,
    pub output: Linear,
}

pub(super) struct Buffers {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    mixed: Vec<f32>,
    out: Vec<f32>,
    up: Vec<f32>,
}

impl EncoderBackend for Flex {
    type Encoder = PackedEncoder;

    fn embed(
        encoder: &mut PackedEncoder,
        texts: &[Text<'_>],
        reused: Option<FlexTensor>,
    ) -> Result<FlexTensor, EngineError> {
        let width = encoder.config.hidden;
        let mut hidden = reused.unwrap_or_else(|| {
            let shape = Shape::new([ROWS_MAX, width]);
            FlexTensor::zeros(shape, DType::F32)
        });
        let x = hidden.storage_mut::<f32>();
        let out = &mut encoder.buffers.out;
        let tokens = texts.iter().flat_map(|text| text.tokens.iter().copied());
        let tokens: Vec<u32> = tokens.collect();
        let count = tokens.len() * width;
        encoder
            .kernels
            .embed(&encoder.words, &tokens, &mut out[..count])?;
        let mut rows = out.chunks_exact_mut(width);
        for text in texts {
            for (position, row) in rows.by_ref().take(text.tokens.len()).enumerate() {
                let segment = usize::from(position >= text.first);
                let added = encoder.positions[position * width..].iter();
                let added = added.zip(&encoder.segments[segment * width..]);
                for (x, (position, segment)) in row.iter_mut().zip(added) {
                    *x += position + segment;
                }
            }
        }
        encoder
            .norm
            .apply(encoder, &encoder.buffers.out[..count], &mut x[..count])?;
        Ok(hidden)
    }

    fn layer(
        encoder: &mut PackedEncoder,
        index: usize,
        mut hidden: FlexTensor,
        texts: &[Text<'_>],
    ) -> Result<FlexTensor, EngineError> {
        let lengths: Vec<usize> = texts.iter().map(|text| text.tokens.len()).collect();
        let count = lengths.iter().sum::<usize>() * encoder.config.hidden;
        encoder.run(index, &mut hidden.storage_mut::<f32>()[..count], &lengths)?;
        Ok(hidden)
    }

    fn rows(hidden: &FlexTensor, rows: usize) -> Vec<f32> {
        let [_, width] = hidden.layout().shape().dims();
        hidden.storage::<f32>()[..rows * width].to_vec()
    }

    fn score(encoder: &PackedEncoder, first: &[f32]) -> Result<f32, EngineError> {
        let missing = || ModelError::TensorMissing("classifier.weight".into());
        let classifier = encoder.classifier.as_ref().ok_or_else(missing)?;
        let mut pooled = vec![0.0; encoder.config.hidden];
        project(
            &encoder.kernels,
            first,
            &mut [(&classifier.pooler, &mut pooled)],
        )?;
        pooled.iter_mut().for_each(|x| *x = tanh(*x));
        let mut score = [0.0];
        project(
            &encoder.kernels,
            &pooled,
            &mut [(&classifier.output, &mut score)],
        )?;
        Ok(score[0])
    }
}

impl PackedEncoder {
    fn run(&mut self, index: usize, x: &mut [f32], lengths: &[usize]) -> Result<(), EngineError> {
        let Self {
            config,
            kernels,
            layers,
            buffers,
            ..
        } = self;
        let (layer, count) = (&layers[index], x.len());
        let rows = count / config.hidden;
        let epsilon = config.norm_epsilon as f32;
        let width = config.hidden / config.heads;
        let [queries, keys, values, mixed, out] = [
            &mut buffers.queries,
            &mut buffers.keys,
            &mut buffers.values,
            &mut buffers.mixed,
            &mut buffers.out,
        ]
        .map(|buffer| &mut buffer[..count]);
        let mut projected = [
            (&layer.query, &mut *queries),
            (&layer.key, &mut *keys),
            (&layer.value, &mut *values),
        ];
        project(kernels, x, &mut projected)?;
        let shape = AttendShape {
            heads: config.heads,
            scale: 1.0 / (width as f32).sqrt(),
            window: None,
            cap: None,
        };
        kernels.attend_all(queries, keys, values, lengths, &shape, width, mixed)?;
        project(kernels, mixed, &mut [(&layer.attention_out, &mut *out)])?;
        kernels.add(out, x)?;
        let Norm { gamma, beta } = &layer.attention_norm;
        kernels.layer_norm(out, gamma, beta, epsilon, x)?;
        let up = &mut buffers.up[..rows * config.intermediate];
        project(kernels, x, &mut [(&layer.up, &mut *up)])?;
        kernels.gelu(up)?;
        project(kernels, up, &mut [(&layer.down, &mut *out)])?;
        kernels.add(out, x)?;
        let Norm { gamma, beta } = &layer.feed_norm;
        Ok(kernels.layer_norm(out, gamma, beta, epsilon, x)?)
    }
}

impl Norm {
    fn apply(
        &self,
        encoder: &PackedEncoder,
        x: &[f32],
        out: &mut [f32],
    ) -> Result<(), EngineError> {
        let epsilon = encoder.config.norm_epsilon as f32;
        Ok(encoder
            .kernels
            .layer_norm(x, &self.gamma, &self.beta, epsilon, out)?)
    }
}

impl Buffers {
    /// Numbers in all of them.
    pub fn numbers(config: &Config) -> usize {
        ROWS_MAX * (5 * config.hidden + config.intermediate)
    }

    pub fn new(config: &Config) -> Self {
        let rows = |width: usize| vec![0.0; ROWS_MAX * width];
        Buffers {
            queries: rows(config.hidden),
            keys: rows(config.hidden),
            values: rows(config.hidden),
            mixed: rows(config.hidden),
            out: rows(config.hidden),
            up: rows(config.intermediate),
        }
    }
}

fn tanh(x: f32) -> f32 {
    1.0 - 2.0 / (1.0 + kernels::exp((2.0 * x).clamp(-80.0, 80.0)))
}
