//! Every decoder family, by its [`Config`]: norms by the root mean square, rotary positions (the first half of a head pairs with its
//! second), grouped queries, a gated feed-forward part.

use burn::module::{Module, Param};
use burn::nn;
use burn::tensor::activation::{gelu_approximate, silu, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};
use model::ModelError;

use super::{Tensors, linear, tensor};
use crate::decoder::rotary::Rotation;
use model::decoder::{Activation, Config};

/// A decoder on backend `B`, for whole sequences that begin at position 0.
pub struct Decoder<B: Backend> {
    config: Config,
    rotations: Vec<Rotation>,
    modules: Modules<B>,
}

#[derive(Module, Debug)]
struct Modules<B: Backend> {
    embedding: Param<Tensor<B, 2>>,
    layers: Vec<Layer<B>>,
    norm: nn::RmsNorm<B>,
    output: Option<nn::Linear<B>>,
}

#[derive(Module, Debug)]
struct Layer<B: Backend> {
    attention_norm: nn::RmsNorm<B>,
    query: nn::Linear<B>,
    key: nn::Linear<B>,
    value: nn::Linear<B>,
    query_norm: Option<nn::RmsNorm<B>>,
    key_norm: Option<nn::RmsNorm<B>>,
    out: nn::Linear<B>,
    after_attention_norm: Option<nn::RmsNorm<B>>,
    feed_norm: nn::RmsNorm<B>,
    gate: nn::Linear<B>,
    up: nn::Linear<B>,
    down: nn::Linear<B>,
    after_feed_norm: Option<nn::RmsNorm<B>>,
}

impl<B: Backend> Decoder<B> {
    /// Builds the modules of `plan`.
    pub fn build(
        config: &Config,
        tensors: &mut dyn Tensors,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let table = [config.vocabulary, config.hidden];
        let embedding = tensor(tensors, "model.embed_tokens.weight", table, device)?;
        let mut build = Build {
            config,
            tensors,
            device,
        };
        let layers = (0..config.layers.len()).map(|index| build.layer(index));
        let layers = layers.collect::<Result<_, _>>()?;
        let output = match config.tied {
            true => None,
            false => Some(build.linear("lm_head", [config.hidden, config.vocabulary], false)?),
        };
        let rotation = |rope| Rotation::new(rope, config.head_width);
        Ok(Decoder {
            modules: Modules {
                embedding: Param::from_tensor(embedding),
                layers,
                norm: build.norm("model.norm", config.hidden)?,
                output,
            },
            rotations: config.ropes.iter().map(rotation).collect(),
            config: config.clone(),
        })
    }

    /// What enters the first layer and what each layer gives, `[tokens, hidden]` each.
    pub fn hidden(&self, tokens: &[u32]) -> Vec<Tensor<B, 2>> {
        let device = self.modules.embedding.val().device();
        let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
        let ids = TensorData::new(ids, [1, tokens.len()]);
        let ids = Tensor::<B, 2, Int>::from_data(ids, &device);
        let x = burn::tensor::module::embedding(self.modules.embedding.val(), ids);
        let [_, rows, width] = x.dims();
        let x = x.reshape([rows, width]);
        let mut all = vec![x.mul_scalar(self.config.embedding_scale)];
        for (index, layer) in self.modules.layers.iter().enumerate() {
            let x = all[index].clone();
            all.push(layer.forward(&self.config, index, &self.rotations, x));
        }
        all
    }

    /// The scores for what follows each row of the last layer's output, `[rows, vocabulary]`.
    pub fn scores(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        let normed = self.modules.norm.forward(hidden);
        let scores = match &self.modules.output {
            Some(output) => output.forward(normed),
            None => normed.matmul(self.modules.embedding.val().transpose()),
        };
        match self.config.score_cap {
            Some(cap) => scores.div_scalar(cap).tanh().mul_scalar(cap),
            None => scores,
        }
    }
}

impl<B: Backend> Layer<B> {
    fn forward(
        &self,
        config: &Config,
        index: usize,
        rotations: &[Rotation],
        x: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let after = |norm: &Option<nn::RmsNorm<B>>, y| match norm {
            Some(norm) => norm.forward(y),
            None => y,
        };
        let attended = self.attend(
            config,
            index,
            rotations,
            self.attention_norm.forward(x.clone()),
        );
        let x = x + after(&self.after_attention_norm, attended);
        let normed = self.feed_norm.forward(x.clone());
        let gate = self.gate.forward(normed.clone());
        let gate = match config.activation {
            Activation::Silu => silu(gate),
            Activation::GeluTanh => gelu_approximate(gate),
        };
        let fed = self.down.forward(gate * self.up.forward(normed));
        x + after(&self.after_feed_norm, fed)
    }

    fn attend(
        &self,
        config: &Config,
        index: usize,
        rotations: &[Rotation],
        x: Tensor<B, 2>,
    ) -> Tensor<B, 2> {
        let [rows, _] = x.dims();
        let (heads, pairs, width) = (config.heads, config.key_value_heads, config.head_width);
        let split = |y: Tensor<B, 2>, heads, norm: Option<&nn::RmsNorm<B>>| {
            let y: Tensor<B, 3> = y.reshape([rows, heads, width]);
            norm.map_or(y.clone(), |norm| norm.forward(y))
        };
        let queries = split(
            self.query.forward(x.clone()),
            heads,
            self.query_norm.as_ref(),
        );
        let keys = split(self.key.forward(x.clone()), pairs, self.key_norm.as_ref());
        let values = split(self.value.forward(x), pairs, None).swap_dims(0, 1);
        let turned = |y: Tensor<B, 3>| match config.layers[index].rope {
            Some(rope) => rotated(&rotations[rope], y),
            None => y,
        };
        let (queries, keys) = (
            turned(queries).swap_dims(0, 1),
            turned(keys).swap_dims(0, 1),
        );
        let group = heads / pairs;
        // Query heads that share a key head become further rows of one product.
        let queries = queries.reshape([pairs, group * rows, width]);
        let scores = queries.matmul(keys.swap_dims(1, 2));
        let scores = scores.mul_scalar(config.attention_scale);
        let mask = mask(rows, group, config.layers[index].window, &scores.device());
        let mixed = softmax(scores + mask, 2).matmul(values);
        let mixed = mixed.reshape([heads, rows, width]).swap_dims(0, 1);
        self.out.forward(mixed.reshape([rows, heads * width]))
    }
}

struct Build<'a, B: Backend> {
    config: &'a Config,
    tensors: &'a mut dyn Tensors,
    device: &'a B::Device,
}

impl<B: Backend> Build<'_, B> {
    fn layer(&mut self, index: usize) -> Result<Layer<B>, ModelError> {
        let config = self.config;
        let (hidden, feed, width) = (config.hidden, config.intermediate, config.head_width);
        let (queries, keys) = (config.heads * width, config.key_value_heads * width);
        let (attention, feed_bias) = (config.bias.query_key_value, config.bias.feed_forward);
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let mut linear = |part: &str, shape, bias| self.linear(&name(part), shape, bias);
        let query = linear("self_attn.q_proj", [hidden, queries], attention)?;
        let key = linear("self_attn.k_proj", [hidden, keys], attention)?;
        let value = linear("self_attn.v_proj", [hidden, keys], attention)?;
        let out = linear("self_attn.o_proj", [queries, hidden], config.bias.out)?;
        let gate = linear("mlp.gate_proj", [hidden, feed], feed_bias)?;
        let up = linear("mlp.up_proj", [hidden, feed], feed_bias)?;
        let down = linear("mlp.down_proj", [feed, hidden], feed_bias)?;
        let mut norm = |part: &str, width| self.norm(&name(part), width);
        let (query_norm, key_norm) = match config.query_key_norm {
            true => (
                Some(norm("self_attn.q_norm", width)?),
                Some(norm("self_attn.k_norm", width)?),
            ),
            false => (None, None),
        };
        let attention_norm = norm("input_layernorm", hidden)?;
        let second = norm("post_attention_layernorm", hidden)?;
        // Gemma uses the name of the norm before the feed-forward part for the one behind attention.
        let (after_attention_norm, feed_norm, after_feed_norm) = match config.post_norms {
            true => (
                Some(second),
                norm("pre_feedforward_layernorm", hidden)?,
                Some(norm("post_feedforward_layernorm", hidden)?),
            ),
            false => (None, second, None),
        };
        Ok(Layer {
            attention_norm,
            query,
            key,
            value,
            query_norm,
            key_norm,
            out,
            after_attention_norm,
            feed_norm,
            gate,
            up,
            down,
            after_feed_norm,
        })
    }

    fn norm(&mut self, name: &str, width: usize) -> Result<nn::RmsNorm<B>, ModelError> {
        let name = format!("{name}.weight");
        let weight: Tensor<B, 1> = tensor(self.tensors, &name, [width], self.device)?;
        let gamma = match self.config.norm_plus_one {
            true => weight + 1.0,
            false => weight,
        };
        Ok(nn::RmsNorm {
            gamma: Param::from_tensor(gamma),
            epsilon: self.config.norm_epsilon,
        })
    }

    fn linear(
        &mut self,
        name: &str,
        shape: [usize; 2],
        bias: bool,
    ) -> Result<nn::Linear<B>, ModelError> {
        linear(self.tensors, name, shape, bias, self.device)
    }
}

/// Turns `[rows, heads, width]`, row `r` by position `r`.
fn rotated<B: Backend>(rotation: &Rotation, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let [rows, heads, width] = x.dims();
    let half = width / 2;
    let (mut cosines, mut sines) = (vec![0.0; rows * half], vec![0.0; rows * half]);
    for row in 0..rows {
        let at = row * half..(row + 1) * half;
        rotation.at(row as u32, &mut cosines[at.clone()], &mut sines[at]);
    }
    let table =
        |values| Tensor::<B, 3>::from_data(TensorData::new(values, [rows, 1, half]), &x.device());
    let (cosines, sines) = (table(cosines), table(sines));
    let part = |range| x.clone().slice([0..rows, 0..heads, range]);
    let (first, second) = (part(0..half), part(half..width));
    let turned_first = first.clone() * cosines.clone() - second.clone() * sines.clone();
    let turned_second = second * cosines + first * sines;
    Tensor::cat(vec![turned_first, turned_second], 2)
}

/// Added to the scores: a token sees itself and what came before, as far as its window reaches.
fn mask<B: Backend>(
    rows: usize,
    group: usize,
    window: Option<usize>,
    device: &B::Device,
) -> Tensor<B, 3> {
    const HIDDEN: f32 = -1e9;
    let mut values = vec![HIDDEN; group * rows * rows];
    for (row, scores) in values.chunks_exact_mut(rows).enumerate() {
        let row = row % rows;
        let first = window.map_or(0, |window| (row + 1).saturating_sub(window));
        scores[first..=row].fill(0.0);
    }
    Tensor::from_data(TensorData::new(values, [1, group * rows, rows]), device)
}
