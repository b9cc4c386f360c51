//! The BERT architecture, encoder only: absolute positions, norms after each part, biases everywhere. Names and shapes
//! are those of Hugging Face's `BertModel`.

use burn::module::{Module, Param};
use burn::nn;
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use serde::Deserialize;

use crate::error::ModelError;
use crate::limits;
use crate::llama::bounded;
use crate::tensors::{Source, linear, table, vector};

/// The parts of `config.json` that shape the model, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Entries of the vocabulary.
    pub vocabulary: usize,
    /// Width of a layer.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads; divides `hidden`.
    pub heads: usize,
    /// Positions the model knows.
    pub positions: usize,
    /// Kinds of segment the model knows.
    pub segments: usize,
    /// Added to the variance before its root is taken.
    pub norm_epsilon: f64,
}

impl Config {
    /// Parses and checks `config.json`.
    pub fn parse(json: &[u8]) -> Result<Self, ModelError> {
        let file: ConfigFile =
            serde_json::from_slice(json).map_err(|error| ModelError::Config(error.to_string()))?;
        file.check()
    }
}

/// A BERT encoder on backend `B`.
#[derive(Module, Debug)]
pub struct Bert<B: Backend> {
    words: Param<Tensor<B, 2>>,
    positions: Param<Tensor<B, 2>>,
    segments: Param<Tensor<B, 2>>,
    norm: nn::LayerNorm<B>,
    layers: Vec<Layer<B>>,
}

#[derive(Module, Debug)]
struct Layer<B: Backend> {
    query: nn::Linear<B>,
    key: nn::Linear<B>,
    value: nn::Linear<B>,
    attention_out: nn::Linear<B>,
    attention_norm: nn::LayerNorm<B>,
    up: nn::Linear<B>,
    down: nn::Linear<B>,
    feed_norm: nn::LayerNorm<B>,
    heads: usize,
}

impl<B: Backend> Bert<B> {
    /// Builds the model from the numbers of `source`.
    pub fn build(
        config: &Config,
        source: &mut dyn Source,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let mut rows = |part: &str, rows| {
            let name = format!("embeddings.{part}_embeddings.weight");
            table(source, &name, [rows, config.hidden], device)
        };
        Ok(Bert {
            words: rows("word", config.vocabulary)?,
            positions: rows("position", config.positions)?,
            segments: rows("token_type", config.segments)?,
            norm: norm(config, source, "embeddings.LayerNorm", device)?,
            layers: (0..config.layers)
                .map(|index| {
                    Layer::build(config, &format!("encoder.layer.{index}"), source, device)
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// The last layer's output, `[batch, sequence, hidden]`, for sequences of one segment without padding.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        let [_, sequence] = tokens.dims();
        let [_, hidden] = self.positions.val().dims();
        let positions = self.positions.val().slice([0..sequence, 0..hidden]);
        let segment = self.segments.val().slice([0..1, 0..hidden]);
        let words = burn::tensor::module::embedding(self.words.val(), tokens);
        let x = words + (positions + segment).unsqueeze::<3>();
        let x = self.norm.forward(x);
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }
}

impl<B: Backend> Layer<B> {
    fn build(
        config: &Config,
        name: &str,
        source: &mut dyn Source,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let (hidden, feed) = (config.hidden, config.intermediate);
        let mut layer =
            |part: &str, shape| linear(source, &format!("{name}.{part}"), shape, true, device);
        let query = layer("attention.self.query", [hidden, hidden])?;
        let key = layer("attention.self.key", [hidden, hidden])?;
        let value = layer("attention.self.value", [hidden, hidden])?;
        let attention_out = layer("attention.output.dense", [hidden, hidden])?;
        let up = layer("intermediate.dense", [hidden, feed])?;
        let down = layer("output.dense", [feed, hidden])?;
        let mut scale =
            |part: &str| norm(config, source, &format!("{name}.{part}.LayerNorm"), device);
        Ok(Layer {
            attention_norm: scale("attention.output")?,
            feed_norm: scale("output")?,
            query,
            key,
            value,
            attention_out,
            up,
            down,
            heads: config.heads,
        })
    }

    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let x = self.attention_norm.forward(x.clone() + self.attend(x));
        let fed = self.down.forward(gelu(self.up.forward(x.clone())));
        self.feed_norm.forward(x + fed)
    }

    fn attend(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, sequence, hidden] = x.dims();
        let (heads, width) = (self.heads, hidden / self.heads);
        let split = |y: Tensor<B, 3>| y.reshape([batch, sequence, heads, width]).swap_dims(1, 2);
        let queries = split(self.query.forward(x.clone()));
        let keys = split(self.key.forward(x.clone()));
        let values = split(self.value.forward(x));
        let scale = 1.0 / (width as f64).sqrt();
        let scores = queries.matmul(keys.swap_dims(2, 3)).mul_scalar(scale);
        let mixed = softmax(scores, 3).matmul(values).swap_dims(1, 2);
        self.attention_out
            .forward(mixed.reshape([batch, sequence, hidden]))
    }
}

fn norm<B: Backend>(
    config: &Config,
    source: &mut dyn Source,
    name: &str,
    device: &B::Device,
) -> Result<nn::LayerNorm<B>, ModelError> {
    let mut norm = nn::LayerNormConfig::new(config.hidden)
        .with_epsilon(config.norm_epsilon)
        .init(device);
    norm.gamma = vector(source, &format!("{name}.weight"), config.hidden, device)?;
    norm.beta = Some(vector(
        source,
        &format!("{name}.bias"),
        config.hidden,
        device,
    )?);
    Ok(norm)
}

/// `config.json` as Hugging Face writes it; keys that do not change the arithmetic are ignored.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    type_vocab_size: usize,
    layer_norm_eps: f64,
    hidden_act: Option<String>,
    position_embedding_type: Option<String>,
}

impl ConfigFile {
    fn check(self) -> Result<Config, ModelError> {
        let unsupported = |what: &str| Err(ModelError::Unsupported(what.into()));
        if self.model_type != "bert" {
            return unsupported(&format!("model_type {:?}", self.model_type));
        }
        if self.hidden_act.as_deref().is_some_and(|act| act != "gelu") {
            return unsupported("an activation other than gelu");
        }
        if self
            .position_embedding_type
            .as_deref()
            .is_some_and(|kind| kind != "absolute")
        {
            return unsupported("positions other than absolute");
        }
        let config = Config {
            vocabulary: bounded("vocab_size", self.vocab_size, limits::VOCABULARY_MAX)?,
            hidden: bounded("hidden_size", self.hidden_size, limits::WIDTH_MAX)?,
            intermediate: bounded(
                "intermediate_size",
                self.intermediate_size,
                limits::WIDTH_MAX,
            )?,
            layers: bounded(
                "num_hidden_layers",
                self.num_hidden_layers,
                limits::LAYERS_MAX,
            )?,
            heads: bounded(
                "num_attention_heads",
                self.num_attention_heads,
                limits::HEADS_MAX,
            )?,
            positions: bounded(
                "max_position_embeddings",
                self.max_position_embeddings,
                limits::CONTEXT_TOKENS_MAX,
            )?,
            segments: bounded("type_vocab_size", self.type_vocab_size, 16)?,
            norm_epsilon: self.layer_norm_eps,
        };
        if !config.hidden.is_multiple_of(config.heads) {
            return Err(ModelError::Config(
                "num_attention_heads does not divide hidden_size".into(),
            ));
        }
        if !(config.norm_epsilon > 0.0 && config.norm_epsilon < 1.0) {
            return Err(ModelError::Config("layer_norm_eps is out of bounds".into()));
        }
        Ok(config)
    }
}
