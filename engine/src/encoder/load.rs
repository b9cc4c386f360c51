//! Where each tensor of BERT is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::{Kernels, Kind, Packed};
use model::ModelError;
use model::bert::{Config, Names};
use model::weights::Weights;

use super::flex::{Buffers, Classifier, Layer, Norm, PackedEncoder};
use super::{Encoder, ROWS_MAX};
use crate::EngineError;
use crate::backend::Cpu;
use crate::memory::Needs;
use crate::packed::{Linear, Packing, Place};

impl Encoder<Cpu> {
    /// Reads all weights: of `BertModel`, or of `BertForSequenceClassification` with one label.
    ///
    /// # Errors
    /// A tensor is missing, extra, of another shape or type or not finite; the model has more positions than [`ROWS_MAX`]; there is
    /// no memory.
    pub fn load(
        config: &Config,
        weights: Weights,
        kernels: Arc<Kernels>,
        packing: Packing,
    ) -> Result<Self, EngineError> {
        if config.positions > ROWS_MAX {
            let what = format!("{} positions; {ROWS_MAX} at most", config.positions);
            return Err(ModelError::Unsupported(what).into());
        }
        let names = Names::of(&weights);
        let plan = names.plan(config);
        weights.check(&plan)?;
        let kinds = kinds_of(&names, &weights, packing);
        let mut packed = zeroed(config, &kinds, kernels)?;
        let mut numbers = Vec::new();
        let sources = weights.read(&plan, |tensor, rows| {
            let place = packed.place(names.bare(&tensor.name));
            let place = place.ok_or_else(|| ModelError::TensorExtra(tensor.name.clone()))?;
            place.take(tensor, rows, 0.0, &mut numbers)
        })?;
        Ok(Encoder {
            config: config.clone(),
            packed,
            sources,
            hidden: None,
        })
    }

    /// The memory that [`Encoder::load`] takes.
    pub fn needs(config: &Config, weights: &Weights, packing: Packing) -> Needs {
        let names = Names::of(weights);
        let kinds = kinds_of(&names, weights, packing);
        let mut needs = Needs::default();
        for (name, shape) in names.plan(config).wanted() {
            let name = names.bare(name);
            // Which rows of these are read is public: they are kept as they are used.
            let plain = ["embeddings.position", "embeddings.token_type"];
            let kind = match plain.iter().any(|start| name.starts_with(start)) {
                true => Kind::F32,
                false => kinds.get(name).copied().unwrap_or(Kind::F32),
            };
            needs.add(shape, kind);
        }
        needs.add_work(Buffers::numbers(config));
        // What a layer takes, and the copy of it that is handed over.
        needs.add_work(2 * ROWS_MAX * config.hidden);
        needs
    }
}

/// How matrices are kept, by their names without a prefix.
type Kinds = BTreeMap<String, Kind>;

/// How each is kept.
fn kinds_of(names: &Names, weights: &Weights, packing: Packing) -> Kinds {
    let mut kinds = Kinds::new();
    for tensor in weights.tensors() {
        if let Ok(stored) = &tensor.dtype {
            let name = names.bare(&tensor.name);
            let table = name.starts_with("embeddings.") || name.starts_with("classifier.");
            kinds.insert(name.to_owned(), packing.kind(*stored, table));
        }
    }
    kinds
}

/// An encoder of zeros whose matrices have the kinds that their tensors call for.
fn zeroed(
    config: &Config,
    kinds: &Kinds,
    kernels: Arc<Kernels>,
) -> Result<PackedEncoder, EngineError> {
    let kind = |name: &str| kinds.get(name).copied().unwrap_or(Kind::F32);
    let (hidden, feed) = (config.hidden, config.intermediate);
    let linear = |name: String, rows, columns| {
        Linear::zeroed(kind(&format!("{name}.weight")), rows, columns, true)
    };
    let norm = || Norm {
        gamma: vec![0.0; hidden],
        beta: vec![0.0; hidden],
    };
    let layer = |index| {
        let linear = |part: &str, rows, columns| {
            linear(format!("encoder.layer.{index}.{part}"), rows, columns)
        };
        Ok::<_, EngineError>(Layer {
            query: linear("attention.self.query", hidden, hidden)?,
            key: linear("attention.self.key", hidden, hidden)?,
            value: linear("attention.self.value", hidden, hidden)?,
            attention_out: linear("attention.output.dense", hidden, hidden)?,
            attention_norm: norm(),
            up: linear("intermediate.dense", feed, hidden)?,
            down: linear("output.dense", hidden, feed)?,
            feed_norm: norm(),
        })
    };
    let classifier = match config.scores_pairs {
        true => Some(Classifier {
            pooler: linear("pooler.dense".into(), hidden, hidden)?,
            output: linear("classifier".into(), 1, hidden)?,
        }),
        false => None,
    };
    let words = kind("embeddings.word_embeddings.weight");
    Ok(PackedEncoder {
        words: Packed::zeroed(words, config.vocabulary, hidden)?,
        positions: vec![0.0; config.positions * hidden],
        segments: vec![0.0; config.segments * hidden],
        norm: norm(),
        layers: (0..config.layers).map(layer).collect::<Result<_, _>>()?,
        classifier,
        buffers: Buffers::new(config),
        config: config.clone(),
        kernels,
    })
}

impl PackedEncoder {
    /// The numbers of the weights called `name` without a prefix, dequantised, row-major: for tests against the reference.
    pub fn numbers(&mut self, name: &str) -> Option<Vec<f32>> {
        self.place(name)?.numbers(0.0)
    }

    /// Where the numbers of a tensor are kept.
    fn place(&mut self, name: &str) -> Option<Place<'_>> {
        let (name, end) = name.rsplit_once('.')?;
        let is_bias = end == "bias";
        let table = match name {
            "embeddings.word_embeddings" => return Some(Place::Matrix(&mut self.words)),
            "embeddings.position_embeddings" => Some(&mut self.positions),
            "embeddings.token_type_embeddings" => Some(&mut self.segments),
            _ => None,
        };
        if let Some(table) = table {
            return Some(Place::Plain(table));
        }
        match name {
            "embeddings.LayerNorm" => return Some(self.norm.place(is_bias)),
            "pooler.dense" => return Some(self.classifier.as_mut()?.pooler.place(is_bias)),
            "classifier" => return Some(self.classifier.as_mut()?.output.place(is_bias)),
            _ => {}
        }
        let (index, part) = name.strip_prefix("encoder.layer.")?.split_once('.')?;
        let layer = self.layers.get_mut(index.parse::<usize>().ok()?)?;
        Some(match part {
            "attention.self.query" => layer.query.place(is_bias),
            "attention.self.key" => layer.key.place(is_bias),
            "attention.self.value" => layer.value.place(is_bias),
            "attention.output.dense" => layer.attention_out.place(is_bias),
            "attention.output.LayerNorm" => layer.attention_norm.place(is_bias),
            "intermediate.dense" => layer.up.place(is_bias),
            "output.dense" => layer.down.place(is_bias),
            "output.LayerNorm" => layer.feed_norm.place(is_bias),
            _ => return None,
        })
    }
}

impl Norm {
    /// Where `weight` or `bias` is kept.
    fn place(&mut self, is_bias: bool) -> Place<'_> {
        Place::Norm(if is_bias {
            &mut self.beta
        } else {
            &mut self.gamma
        })
    }
}
