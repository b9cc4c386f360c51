//! The Llama architecture: root-mean-square norms, rotary positions (rotate-half), grouped-query attention, a gated
//! feed-forward part, tied or untied output. Names and shapes are those of Hugging Face's `LlamaForCausalLM`.

use burn::module::{Module, Param};
use burn::nn;
use burn::tensor::activation::{silu, softmax};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use model::ModelError;
use model::llama::Config;

use crate::tensors::{Stored, linear, table, vector};

/// A Llama model on backend `B`.
#[derive(Module, Debug)]
pub struct Llama<B: Backend> {
    embedding: Param<Tensor<B, 2>>,
    layers: Vec<Layer<B>>,
    norm: nn::RmsNorm<B>,
    output: Option<nn::Linear<B>>,
    cosines: Tensor<B, 2>,
    sines: Tensor<B, 2>,
}

#[derive(Module, Debug)]
struct Layer<B: Backend> {
    attention_norm: nn::RmsNorm<B>,
    query: nn::Linear<B>,
    key: nn::Linear<B>,
    value: nn::Linear<B>,
    out: nn::Linear<B>,
    feed_norm: nn::RmsNorm<B>,
    gate: nn::Linear<B>,
    up: nn::Linear<B>,
    down: nn::Linear<B>,
    heads: usize,
    key_value_heads: usize,
    head_width: usize,
}

/// Keys and values of the tokens seen so far, one pair of preallocated tensors per layer.
pub struct Cache<B: Backend> {
    // `None` only while a layer holds the pair: the backend writes in place when it owns the tensor alone.
    layers: Vec<Option<[Tensor<B, 4>; 2]>>,
    capacity: usize,
    length: usize,
}

impl<B: Backend> Cache<B> {
    /// An empty cache for at most `capacity` tokens.
    pub fn new(config: &Config, capacity: usize, device: &B::Device) -> Self {
        let capacity = capacity.min(config.context);
        let shape = [1, config.key_value_heads, capacity, config.head_width];
        let layers = (0..config.layers)
            .map(|_| Some([Tensor::zeros(shape, device), Tensor::zeros(shape, device)]))
            .collect();
        Cache {
            layers,
            capacity,
            length: 0,
        }
    }

    /// How many more tokens fit.
    pub fn room(&self) -> usize {
        self.capacity - self.length
    }
}

impl<B: Backend> Llama<B> {
    /// Builds the model from the numbers of `stored`.
    pub fn build(
        config: &Config,
        stored: &Stored<'_>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let shape = [config.vocabulary, config.hidden];
        let embedding = table(stored, "model.embed_tokens.weight", shape, device)?;
        let layers = (0..config.layers)
            .map(|index| Layer::build(config, &format!("model.layers.{index}"), stored, device))
            .collect::<Result<_, _>>()?;
        let norm = norm(config, stored, "model.norm.weight", device)?;
        let output = match config.tied {
            true => None,
            false => {
                let shape = [config.hidden, config.vocabulary];
                Some(linear(stored, "lm_head", shape, false, device)?)
            }
        };
        let (cosines, sines) = rotations(config, device);
        Ok(Llama {
            embedding,
            layers,
            norm,
            output,
            cosines,
            sines,
        })
    }

    /// The last layer's output, `[batch, sequence, hidden]`, for whole sequences that begin at position 0.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        self.run(tokens, 0, |layer, x, rope, mask, _| {
            layer.forward(x, rope, mask, |keys, values| (keys, values))
        })
    }

    /// The last layer's output, `[1, sequence, hidden]`, for the tokens that follow those in `cache`, which must have
    /// room for them.
    pub fn forward_cached(&self, tokens: Tensor<B, 2, Int>, cache: &mut Cache<B>) -> Tensor<B, 3> {
        let [_, sequence] = tokens.dims();
        let start = cache.length;
        let end = start + sequence;
        let hidden = self.run(tokens, start, |layer, x, rope, mask, index| {
            layer.forward(x, rope, mask, |new_keys, new_values| {
                let Some([keys, values]) = cache.layers[index].take() else {
                    unreachable!("the pair was put back after the last step, see below");
                };
                let [_, heads, _, width] = keys.dims();
                let place = [0..1, 0..heads, start..end, 0..width];
                let keys = keys.slice_assign(place.clone(), new_keys);
                let values = values.slice_assign(place, new_values);
                let seen = [0..1, 0..heads, 0..end, 0..width];
                let visible = (keys.clone().slice(seen.clone()), values.clone().slice(seen));
                cache.layers[index] = Some([keys, values]);
                visible
            })
        });
        cache.length = end;
        hidden
    }

    /// A score for every vocabulary entry, `[rows, vocabulary]`, from rows of the last layer's output.
    pub fn scores(&self, hidden: Tensor<B, 2>) -> Tensor<B, 2> {
        match &self.output {
            Some(output) => output.forward(hidden),
            None => hidden.matmul(self.embedding.val().transpose()),
        }
    }

    fn run(
        &self,
        tokens: Tensor<B, 2, Int>,
        start: usize,
        mut step: impl FnMut(
            &Layer<B>,
            Tensor<B, 3>,
            &Rope<B>,
            Option<&Tensor<B, 4>>,
            usize,
        ) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let [_, sequence] = tokens.dims();
        let device = tokens.device();
        let rope = Rope::at(&self.cosines, &self.sines, start, sequence);
        let group = self
            .layers
            .first()
            .map_or(1, |l| l.heads / l.key_value_heads);
        let mask = (sequence > 1).then(|| causal_mask(start, sequence, group, &device));
        let mut x = burn::tensor::module::embedding(self.embedding.val(), tokens);
        for (index, layer) in self.layers.iter().enumerate() {
            x = step(layer, x, &rope, mask.as_ref(), index);
        }
        self.norm.forward(x)
    }
}

impl<B: Backend> Layer<B> {
    fn build(
        config: &Config,
        name: &str,
        stored: &Stored<'_>,
        device: &B::Device,
    ) -> Result<Self, ModelError> {
        let hidden = config.hidden;
        let queries = config.heads * config.head_width;
        let keys = config.key_value_heads * config.head_width;
        let feed = config.intermediate;
        let layer =
            |part: &str, shape| linear(stored, &format!("{name}.{part}"), shape, false, device);
        let query = layer("self_attn.q_proj", [hidden, queries])?;
        let key = layer("self_attn.k_proj", [hidden, keys])?;
        let value = layer("self_attn.v_proj", [hidden, keys])?;
        let out = layer("self_attn.o_proj", [queries, hidden])?;
        let gate = layer("mlp.gate_proj", [hidden, feed])?;
        let up = layer("mlp.up_proj", [hidden, feed])?;
        let down = layer("mlp.down_proj", [feed, hidden])?;
        let scale = |part: &str| norm(config, stored, &format!("{name}.{part}.weight"), device);
        Ok(Layer {
            attention_norm: scale("input_layernorm")?,
            feed_norm: scale("post_attention_layernorm")?,
            query,
            key,
            value,
            out,
            gate,
            up,
            down,
            heads: config.heads,
            key_value_heads: config.key_value_heads,
            head_width: config.head_width,
        })
    }

    fn forward(
        &self,
        x: Tensor<B, 3>,
        rope: &Rope<B>,
        mask: Option<&Tensor<B, 4>>,
        remember: impl FnOnce(Tensor<B, 4>, Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>),
    ) -> Tensor<B, 3> {
        let attended = self.attend(self.attention_norm.forward(x.clone()), rope, mask, remember);
        let x = x + attended;
        let normed = self.feed_norm.forward(x.clone());
        let gated = silu(self.gate.forward(normed.clone())) * self.up.forward(normed);
        x + self.down.forward(gated)
    }

    fn attend(
        &self,
        x: Tensor<B, 3>,
        rope: &Rope<B>,
        mask: Option<&Tensor<B, 4>>,
        remember: impl FnOnce(Tensor<B, 4>, Tensor<B, 4>) -> (Tensor<B, 4>, Tensor<B, 4>),
    ) -> Tensor<B, 3> {
        let [batch, sequence, _] = x.dims();
        let (heads, pairs, width) = (self.heads, self.key_value_heads, self.head_width);
        let group = heads / pairs;
        let queries = self
            .query
            .forward(x.clone())
            .reshape([batch, sequence, heads, width]);
        let keys = self
            .key
            .forward(x.clone())
            .reshape([batch, sequence, pairs, width]);
        let values = self
            .value
            .forward(x)
            .reshape([batch, sequence, pairs, width]);
        let queries = rope.rotate(queries).swap_dims(1, 2);
        let (keys, values) = remember(rope.rotate(keys).swap_dims(1, 2), values.swap_dims(1, 2));

        // Query heads that share a key head become further rows of one product, so keys are never repeated in memory.
        let queries = queries.reshape([batch, pairs, group * sequence, width]);
        let scale = 1.0 / (width as f64).sqrt();
        let mut scores = queries.matmul(keys.swap_dims(2, 3)).mul_scalar(scale);
        if let Some(mask) = mask {
            scores = scores + mask.clone();
        }
        let mixed = softmax(scores, 3).matmul(values);
        let mixed = mixed
            .reshape([batch, heads, sequence, width])
            .swap_dims(1, 2);
        self.out
            .forward(mixed.reshape([batch, sequence, heads * width]))
    }
}

/// The rotations of one run of positions.
struct Rope<B: Backend> {
    cosines: Tensor<B, 4>,
    sines: Tensor<B, 4>,
}

impl<B: Backend> Rope<B> {
    fn at(cosines: &Tensor<B, 2>, sines: &Tensor<B, 2>, start: usize, sequence: usize) -> Self {
        let [_, half] = cosines.dims();
        let rows = |table: &Tensor<B, 2>| {
            table
                .clone()
                .slice([start..start + sequence, 0..half])
                .reshape([1, sequence, 1, half])
        };
        Rope {
            cosines: rows(cosines),
            sines: rows(sines),
        }
    }

    /// Rotates `[batch, sequence, heads, width]`: the first half of a head pairs with its second half.
    fn rotate(&self, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let [batch, sequence, heads, width] = x.dims();
        let part = |range| x.clone().slice([0..batch, 0..sequence, 0..heads, range]);
        let (first, second) = (part(0..width / 2), part(width / 2..width));
        let (cosines, sines) = (&self.cosines, &self.sines);
        let turned_first = first.clone() * cosines.clone() - second.clone() * sines.clone();
        let turned_second = second * cosines.clone() + first * sines.clone();
        Tensor::cat(vec![turned_first, turned_second], 3)
    }
}

/// Cosines and sines of every position and frequency, in the single precision that the reference uses.
fn rotations<B: Backend>(config: &Config, device: &B::Device) -> (Tensor<B, 2>, Tensor<B, 2>) {
    let half = config.head_width / 2;
    let shape = [config.context, half];
    let angles: Vec<f32> = (0..config.context)
        .flat_map(|position| {
            (0..half).map(move |index| {
                let exponent = (2 * index) as f32 / config.head_width as f32;
                position as f32 * (1.0 / config.rope_theta.powf(exponent))
            })
        })
        .collect();
    let make = |f: fn(f32) -> f32| {
        let values: Vec<f32> = angles.iter().map(|angle| f(*angle)).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    };
    (make(f32::cos), make(f32::sin))
}

/// Added to the scores: a token sees itself and what came before. The rows repeat once per query head of a group.
fn causal_mask<B: Backend>(
    start: usize,
    sequence: usize,
    group: usize,
    device: &B::Device,
) -> Tensor<B, 4> {
    const HIDDEN: f32 = -1e9;
    let total = start + sequence;
    let mut values = vec![0.0; group * sequence * total];
    for (row, scores) in values.chunks_exact_mut(total).enumerate() {
        scores[start + row % sequence + 1..].fill(HIDDEN);
    }
    Tensor::from_data(
        TensorData::new(values, [1, 1, group * sequence, total]),
        device,
    )
}

fn norm<B: Backend>(
    config: &Config,
    stored: &Stored<'_>,
    name: &str,
    device: &B::Device,
) -> Result<nn::RmsNorm<B>, ModelError> {
    Ok(nn::RmsNorm {
        gamma: vector(stored, name, config.hidden, device)?,
        epsilon: config.norm_epsilon,
    })
}
