//! From a stream of rows to packed weights: each row goes to where it stays, so that nothing but the packed weights and one buffer
//! of the reader is held.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::{BLOCK_TOKENS, Kernels, Kind, KvCache, KvKind, KvShape, Packed};
use model::ModelError;
use model::decoder::Config;
use model::weights::{Rows, Tensor, Weights};

use super::Decoder;
use super::flex::{Buffers, Layer, PackedDecoder};
use super::parts::{LayerPart, Part, part};
use crate::EngineError;
use crate::backend::Cpu;
use crate::forward::ForwardShape;
use crate::memory::{Needs, wide};
use crate::packed::{Linear, Packing, Place};

/// How a decoder is loaded and how much it can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How weights are kept.
    pub packing: Packing,
    /// How keys and values are kept.
    pub cache: KvKind,
    /// Blocks of keys and values.
    pub blocks: usize,
    /// Tokens of one sequence at most; the model's own limit holds too.
    pub context_max: usize,
    /// Rows of one pass at most.
    pub rows_max: usize,
    /// Rows of one pass whose scores may be wanted at most.
    pub scored_max: usize,
}

impl Decoder<Cpu> {
    /// Reads all weights.
    ///
    /// # Errors
    /// A tensor is missing, extra, of another shape or type or not finite; there is no memory.
    pub fn load(
        config: &Config,
        weights: Weights,
        kernels: Arc<Kernels>,
        options: &Options,
    ) -> Result<Self, EngineError> {
        let plan = config.plan();
        weights.check(&plan)?;
        let mut packed = zeroed(
            config,
            &kinds(config, &weights, options.packing),
            kernels,
            options,
        )?;
        let mut numbers = Vec::new();
        let sources = weights.read(&plan, |tensor, rows| {
            packed.take(tensor, rows, &mut numbers)
        })?;
        let mut decoder = Decoder::of_packed(config, options, packed);
        decoder.sources = sources;
        Ok(decoder)
    }

    /// The memory that [`Decoder::load`] takes.
    pub fn needs(config: &Config, weights: &Weights, options: &Options) -> Needs {
        needs(config, &kinds(config, weights, options.packing), options)
    }

    /// A decoder whose weights are in place.
    pub(super) fn of_packed(config: &Config, options: &Options, packed: PackedDecoder) -> Self {
        let shape = ForwardShape {
            context: config.context.min(options.context_max),
            vocabulary: config.vocabulary,
            kv_token_bytes: packed.cache.bytes() / (options.blocks * BLOCK_TOKENS),
            blocks: options.blocks,
            rows_max: options.rows_max,
            scored_max: options.scored_max,
        };
        Decoder::new(config, shape, packed)
    }
}

/// The kinds that the matrices' tensors call for.
fn kinds(config: &Config, weights: &Weights, packing: Packing) -> BTreeMap<Part, Kind> {
    let mut kinds = BTreeMap::new();
    for tensor in weights.tensors() {
        if let (Some(part), Ok(stored)) = (part(config, &tensor.name), &tensor.dtype) {
            let table = matches!(part, Part::Embedding | Part::Output);
            kinds.insert(part, packing.kind(*stored, table));
        }
    }
    kinds
}

/// The memory of a decoder whose matrices have these kinds.
pub(super) fn needs(config: &Config, kinds: &BTreeMap<Part, Kind>, options: &Options) -> Needs {
    let mut needs = Needs::default();
    for (name, shape) in config.plan().wanted() {
        let kind = part(config, name).and_then(|part| kinds.get(&part));
        needs.add(shape, kind.copied().unwrap_or(Kind::F32));
    }
    let block = cache_shape(config, options).block_bytes();
    needs.keys_values = wide(block.and_then(|block| block.checked_mul(options.blocks)));
    needs.add_work(Buffers::numbers(
        config,
        options.rows_max,
        options.scored_max,
    ));
    // What enters a layer, and the scores.
    needs.add_work(options.rows_max.saturating_mul(config.hidden));
    needs.add_work(options.scored_max.saturating_mul(config.vocabulary));
    if config.tied {
        // Which tokens a greedy completion chooses from, and the embedding that is kept for the next one.
        needs.add_work(config.vocabulary.saturating_add(config.hidden));
    }
    needs
}

fn cache_shape(config: &Config, options: &Options) -> KvShape {
    KvShape {
        kind: options.cache,
        layers: config.layers.len(),
        heads: config.key_value_heads,
        width: config.head_width,
    }
}

/// A decoder of zeros whose matrices have these kinds.
pub(super) fn zeroed(
    config: &Config,
    kinds: &BTreeMap<Part, Kind>,
    kernels: Arc<Kernels>,
    options: &Options,
) -> Result<PackedDecoder, EngineError> {
    let kind = |part| kinds.get(&part).copied().unwrap_or(Kind::F32);
    let table = |part| Packed::zeroed(kind(part), config.vocabulary, config.hidden);
    let layers = (0..config.layers.len())
        .map(|index| Layer::zeroed(config, &|part| kind(Part::Layer(index, part))))
        .collect::<Result<_, _>>()?;
    let cache = cache_shape(config, options);
    Ok(PackedDecoder {
        embedding: table(Part::Embedding)?,
        output: match config.tied {
            true => None,
            false => Some(table(Part::Output)?),
        },
        norm: vec![0.0; config.hidden],
        layers,
        cache: KvCache::zeroed(cache, options.blocks)?,
        buffers: Buffers::new(config, options.rows_max, options.scored_max),
        tokens: Vec::with_capacity(options.rows_max),
        carry: None,
        #[cfg(feature = "plain-rows")]
        plain_rows: false,
        config: config.clone(),
        kernels,
    })
}

impl Layer {
    fn zeroed(config: &Config, kind: &dyn Fn(LayerPart) -> Kind) -> Result<Self, EngineError> {
        use LayerPart as P;
        let (hidden, feed, width) = (config.hidden, config.intermediate, config.head_width);
        let (queries, pairs) = (config.heads * width, config.key_value_heads * width);
        let norm = |has: bool, width: usize| vec![0.0; if has { width } else { 0 }];
        let linear = |part, rows, columns, bias| Linear::zeroed(kind(part), rows, columns, bias);
        let attention = config.bias.query_key_value;
        let feed_bias = config.bias.feed_forward;
        Ok(Layer {
            attention_norm: norm(true, hidden),
            query: linear(P::Query, queries, hidden, attention)?,
            key: linear(P::Key, pairs, hidden, attention)?,
            value: linear(P::Value, pairs, hidden, attention)?,
            query_norm: norm(config.query_key_norm, width),
            key_norm: norm(config.query_key_norm, width),
            out: linear(P::Out, hidden, queries, config.bias.out)?,
            after_attention_norm: norm(config.post_norms, hidden),
            feed_norm: norm(true, hidden),
            gate: linear(P::Gate, feed, hidden, feed_bias)?,
            up: linear(P::Up, feed, hidden, feed_bias)?,
            down: linear(P::Down, hidden, feed, feed_bias)?,
            after_feed_norm: norm(config.post_norms, hidden),
        })
    }
}

impl PackedDecoder {
    fn take(
        &mut self,
        tensor: &Tensor,
        rows: &mut Rows<'_>,
        numbers: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        let part = part(&self.config, &tensor.name);
        let part = part.ok_or_else(|| ModelError::TensorExtra(tensor.name.clone()))?;
        let plus = self.norm_plus();
        self.place(part).take(tensor, rows, plus, numbers)
    }

    /// What is added to the weights of norms.
    pub(super) fn norm_plus(&self) -> f32 {
        if self.config.norm_plus_one { 1.0 } else { 0.0 }
    }

    /// Where the numbers of a tensor are kept.
    pub(super) fn place(&mut self, part: Part) -> Place<'_> {
        use LayerPart as P;
        let (index, part) = match part {
            Part::Embedding => return Place::Matrix(&mut self.embedding),
            Part::Norm => return Place::Norm(&mut self.norm),
            Part::Output => {
                let output = self.output.as_mut().unwrap_or(&mut self.embedding);
                return Place::Matrix(output);
            }
            Part::Layer(index, part) => (index, part),
        };
        let layer = &mut self.layers[index];
        match part {
            P::AttentionNorm => Place::Norm(&mut layer.attention_norm),
            P::QueryNorm => Place::Norm(&mut layer.query_norm),
            P::KeyNorm => Place::Norm(&mut layer.key_norm),
            P::AfterAttentionNorm => Place::Norm(&mut layer.after_attention_norm),
            P::FeedNorm => Place::Norm(&mut layer.feed_norm),
            P::AfterFeedNorm => Place::Norm(&mut layer.after_feed_norm),
            P::Query => Place::Matrix(&mut layer.query.weights),
            P::Key => Place::Matrix(&mut layer.key.weights),
            P::Value => Place::Matrix(&mut layer.value.weights),
            P::Out => Place::Matrix(&mut layer.out.weights),
            P::Gate => Place::Matrix(&mut layer.gate.weights),
            P::Up => Place::Matrix(&mut layer.up.weights),
            P::Down => Place::Matrix(&mut layer.down.weights),
            P::QueryBias => Place::Plain(&mut layer.query.bias),
            P::KeyBias => Place::Plain(&mut layer.key.bias),
            P::ValueBias => Place::Plain(&mut layer.value.bias),
            P::OutBias => Place::Plain(&mut layer.out.bias),
            P::GateBias => Place::Plain(&mut layer.gate.bias),
            P::UpBias => Place::Plain(&mut layer.up.bias),
            P::DownBias => Place::Plain(&mut layer.down.bias),
        }
    }
}

/// Blocks that hold `sequences` sequences of `tokens` tokens.
pub fn blocks_for(sequences: usize, tokens: usize) -> usize {
    sequences * tokens.div_ceil(BLOCK_TOKENS)
}
