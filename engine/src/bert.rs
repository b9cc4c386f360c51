//! The BERT architecture, encoder only: absolute positions, norms after each part, biases everywhere. Names and shapes
//! are those of Hugging Face's `BertModel`.

use burn::module::{Module, Param};
use burn::nn;
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use model::ModelError;
use model::bert::Config;

use crate::tensors::{Stored, linear, table, vector};

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
    /// Builds the model from the numbers of `stored`.
    pub fn build(
        config: &Config,
        stored: &Stored<'_>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let rows = |part: &str, rows| {
            let name = format!("embeddings.{part}_embeddings.weight");
            table(stored, &name, [rows, config.hidden], device)
        };
        Ok(Bert {
            words: rows("word", config.vocabulary)?,
            positions: rows("position", config.positions)?,
            segments: rows("token_type", config.segments)?,
            norm: norm(config, stored, "embeddings.LayerNorm", device)?,
            layers: (0..config.layers)
                .map(|index| {
                    Layer::build(config, &format!("encoder.layer.{index}"), stored, device)
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
        stored: &Stored<'_>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let (hidden, feed) = (config.hidden, config.intermediate);
        let layer =
            |part: &str, shape| linear(stored, &format!("{name}.{part}"), shape, true, device);
        let query = layer("attention.self.query", [hidden, hidden])?;
        let key = layer("attention.self.key", [hidden, hidden])?;
        let value = layer("attention.self.value", [hidden, hidden])?;
        let attention_out = layer("attention.output.dense", [hidden, hidden])?;
        let up = layer("intermediate.dense", [hidden, feed])?;
        let down = layer("output.dense", [feed, hidden])?;
        let scale = |part: &str| norm(config, stored, &format!("{name}.{part}.LayerNorm"), device);
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
    stored: &Stored<'_>,
    name: &str,
    device: &B::Device,
) -> Result<nn::LayerNorm<B>, ModelError> {
    let mut norm = nn::LayerNormConfig::new(config.hidden)
        .with_epsilon(config.norm_epsilon)
        .init(device);
    norm.gamma = vector(stored, &format!("{name}.weight"), config.hidden, device)?;
    norm.beta = Some(vector(
        stored,
        &format!("{name}.bias"),
        config.hidden,
        device,
    )?);
    Ok(norm)
}
