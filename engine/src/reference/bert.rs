//! BERT, encoder only: absolute positions, norms after each part, biases everywhere. Names and shapes are those of Hugging Face's
//! `BertModel`.

use burn::module::{Module, Param};
use burn::nn;
use burn::tensor::activation::{gelu, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use model::ModelError;
use model::bert::Config;

use super::{Tensors, linear, tensor};
use crate::encoder::Text;

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
    /// Builds the modules of `config`.
    pub fn build(
        config: &Config,
        tensors: &mut dyn Tensors,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let mut table = |part: &str, rows| {
            let name = format!("embeddings.{part}_embeddings.weight");
            tensor(tensors, &name, [rows, config.hidden], device).map(Param::from_tensor)
        };
        let words = table("word", config.vocabulary)?;
        let positions = table("position", config.positions)?;
        let segments = table("token_type", config.segments)?;
        let norm = norm(config, tensors, "embeddings.LayerNorm", device)?;
        let layers = (0..config.layers).map(|index| {
            let name = format!("encoder.layer.{index}");
            Layer::build(config, &name, tensors, device)
        });
        Ok(Bert {
            words,
            positions,
            segments,
            norm,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }

    /// What enters the first layer and what each layer gives, `[tokens, hidden]` each.
    pub fn hidden(&self, text: Text<'_>) -> Vec<Tensor<B, 2>> {
        let count = text.tokens.len();
        let rows = |table: &Param<Tensor<B, 2>>, of: &dyn Fn(usize) -> i32| {
            let table = table.val();
            let ids = TensorData::new((0..count).map(of).collect(), [1, count]);
            let ids = Tensor::<B, 2, Int>::from_data(ids, &table.device());
            let [_, width] = table.dims();
            burn::tensor::module::embedding(table, ids).reshape([count, width])
        };
        let x = rows(&self.words, &|position| text.tokens[position] as i32)
            + rows(&self.positions, &|position| position as i32)
            + rows(&self.segments, &|position| {
                i32::from(position >= text.first)
            });
        let mut all = vec![self.norm.forward(x)];
        for (index, layer) in self.layers.iter().enumerate() {
            let x = all[index].clone();
            all.push(layer.forward(x));
        }
        all
    }
}

impl<B: Backend> Layer<B> {
    fn build(
        config: &Config,
        name: &str,
        tensors: &mut dyn Tensors,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let (hidden, feed) = (config.hidden, config.intermediate);
        let mut layer =
            |part: &str, shape| linear(tensors, &format!("{name}.{part}"), shape, true, device);
        let query = layer("attention.self.query", [hidden, hidden])?;
        let key = layer("attention.self.key", [hidden, hidden])?;
        let value = layer("attention.self.value", [hidden, hidden])?;
        let attention_out = layer("attention.output.dense", [hidden, hidden])?;
        let up = layer("intermediate.dense", [hidden, feed])?;
        let down = layer("output.dense", [feed, hidden])?;
        let mut scale = |part: &str| {
            let name = format!("{name}.{part}.LayerNorm");
            norm(config, tensors, &name, device)
        };
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

    fn forward(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let x = self.attention_norm.forward(x.clone() + self.attend(x));
        let fed = self.down.forward(gelu(self.up.forward(x.clone())));
        self.feed_norm.forward(x + fed)
    }

    fn attend(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        let [rows, hidden] = x.dims();
        let (heads, width) = (self.heads, hidden / self.heads);
        let split =
            |y: Tensor<B, 2>| -> Tensor<B, 3> { y.reshape([rows, heads, width]).swap_dims(0, 1) };
        let queries = split(self.query.forward(x.clone()));
        let keys = split(self.key.forward(x.clone()));
        let values = split(self.value.forward(x));
        let scale = 1.0 / (width as f64).sqrt();
        let scores = queries.matmul(keys.swap_dims(1, 2)).mul_scalar(scale);
        let mixed = softmax(scores, 2).matmul(values).swap_dims(0, 1);
        self.attention_out.forward(mixed.reshape([rows, hidden]))
    }
}

fn norm<B: Backend>(
    config: &Config,
    tensors: &mut dyn Tensors,
    name: &str,
    device: &B::Device,
) -> Result<nn::LayerNorm<B>, ModelError> {
    let width = [config.hidden];
    let norm = nn::LayerNormConfig::new(config.hidden).with_epsilon(config.norm_epsilon);
    let mut norm = norm.init(device);
    let gamma = tensor(tensors, &format!("{name}.weight"), width, device)?;
    let beta = tensor(tensors, &format!("{name}.bias"), width, device)?;
    norm.gamma = Param::from_tensor(gamma);
    norm.beta = Some(Param::from_tensor(beta));
    Ok(norm)
}
