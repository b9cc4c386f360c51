//! The training loop.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, anyhow, ensure};
use burn::backend::Autodiff;
use burn::grad_clipping::GradientClippingConfig;
use burn::optim::{AdamWConfig, GradientsParams, Optimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::{ElementConversion, Int, Tensor, TensorData};
use engine::backend::Cpu;
use engine::error::ModelError;
use engine::llama::{Config, Llama};
use engine::sampler::Chance;
use engine::tensors::Source;
use safetensors::tensor::{Dtype, TensorView};
use tokenizers::Tokenizer;

use crate::corpus::{self, Pair};
use crate::tokenizer;

type Learning = Autodiff<Cpu>;

/// Everything that decides the result, beside the text.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub seed: u64,
    pub steps: usize,
    pub batch: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub hidden: usize,
    pub intermediate: usize,
    pub layers: usize,
    pub heads: usize,
    pub key_value_heads: usize,
    pub learning_rate: f64,
}

impl Plan {
    /// What the stored model was trained with.
    pub const STORED: Plan = Plan {
        seed: 20_241,
        steps: 1400,
        batch: 16,
        vocabulary: 900,
        context: 512,
        hidden: 192,
        intermediate: 512,
        layers: 4,
        heads: 6,
        key_value_heads: 2,
        learning_rate: 2.5e-3,
    };
}

/// The finished model.
pub struct Trained {
    /// Name and bytes of each file.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// Mean loss per answer token over the last tenth of the steps.
    pub loss: f32,
}

/// Trains on `pairs` as `plan` says; `report` gets a line now and then.
pub fn train(pairs: &[Pair], plan: &Plan, report: &mut dyn FnMut(&str)) -> anyhow::Result<Trained> {
    let tokenizer = tokenizer::learn(&texts(pairs), plan.vocabulary)?;
    let json = config_json(plan, &tokenizer)?;
    let config = Config::parse(&json).context("the plan's own configuration")?;
    let device = Default::default();
    let mut start = RandomStart {
        chance: Chance::new(plan.seed),
        drawn: 0,
        layers: plan.layers,
        parameters: 0,
    };
    let mut model: Llama<Learning> = Llama::build(&config, &mut start, &device)?;
    report(&format!(
        "{} pairs, {} vocabulary entries, {} parameters, {} steps",
        pairs.len(),
        config.vocabulary,
        start.parameters,
        plan.steps
    ));
    let mut optimizer = AdamWConfig::new()
        .with_beta_2(0.98)
        .with_epsilon(1e-8)
        .with_weight_decay(0.01)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init::<Learning, Llama<Learning>>();
    let mut batches = Batches::new(pairs, &tokenizer, plan)?;
    let (began, mut recent, mut tokens) = (Instant::now(), Vec::new(), 0);
    for step in 0..plan.steps {
        let batch = batches.next()?;
        tokens += batch.rows * batch.width;
        let loss = batch.loss(&model, &device);
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(learning_rate(plan, step), model, gradients);
        recent.push(loss.into_scalar().elem::<f32>());
        if (step + 1) % 25 == 0 || step + 1 == plan.steps {
            let mean = mean(&recent[recent.len().saturating_sub(25)..]);
            let seconds = began.elapsed().as_secs_f64();
            let speed = tokens as f64 / seconds;
            report(&format!(
                "step {:5}  loss {mean:.4}  {seconds:6.1} s  {speed:.0} tokens/s",
                step + 1
            ));
        }
    }
    let tail = &recent[recent.len() - recent.len().div_ceil(10)..];
    Ok(Trained {
        loss: mean(tail),
        files: files(&model, &tokenizer, json, plan)?,
    })
}

fn mean(values: &[f32]) -> f32 {
    values.iter().sum::<f32>() / values.len().max(1) as f32
}

/// Rises for a short while, then falls along a cosine to a twentieth.
fn learning_rate(plan: &Plan, step: usize) -> f64 {
    let warm = (plan.steps / 20).max(1);
    if step < warm {
        return plan.learning_rate * (step + 1) as f64 / warm as f64;
    }
    let done = (step - warm) as f64 / (plan.steps - warm).max(1) as f64;
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * done).cos());
    plan.learning_rate * (0.05 + 0.95 * cosine)
}

/// All text the vocabulary is learned from, the template's words included.
fn texts(pairs: &[Pair]) -> Vec<String> {
    let mut texts: Vec<String> = corpus::SYSTEM
        .iter()
        .map(|text| (*text).to_owned())
        .collect();
    for pair in pairs {
        for question in &pair.questions {
            texts.push(question.clone());
            texts.push("user\n".into());
            texts.push("assistant\n".into());
        }
        texts.push(pair.answer.clone());
    }
    texts
}

/// One batch, as numbers.
struct Batch {
    rows: usize,
    width: usize,
    tokens: Vec<i32>,
    /// Places (row-major) whose next token belongs to an answer, and that token.
    places: Vec<i32>,
    targets: Vec<i32>,
}

impl Batch {
    fn loss(
        &self,
        model: &Llama<Learning>,
        device: &burn::tensor::Device<Learning>,
    ) -> Tensor<Learning, 1> {
        let ints = |values: &[i32]| {
            Tensor::<Learning, 1, Int>::from_data(
                TensorData::new(values.to_vec(), [values.len()]),
                device,
            )
        };
        let tokens = ints(&self.tokens).reshape([self.rows, self.width]);
        let hidden = model.forward(tokens);
        let [rows, width, features] = hidden.dims();
        let answers = hidden
            .reshape([rows * width, features])
            .select(0, ints(&self.places));
        let scores = log_softmax(model.scores(answers), 1);
        let targets = ints(&self.targets).reshape([self.targets.len(), 1]);
        scores.gather(1, targets).mean().neg()
    }
}

/// A conversation as tokens, and where its answers lie.
struct Conversation {
    tokens: Vec<u32>,
    answers: Vec<std::ops::Range<usize>>,
}

/// Draws conversations in a seeded order, every question once per round.
struct Batches<'a> {
    pairs: &'a [Pair],
    tokenizer: &'a Tokenizer,
    batch: usize,
    padding: u32,
    chance: Chance,
    drawn: u64,
    ready: Vec<Vec<Conversation>>,
}

impl<'a> Batches<'a> {
    /// How many batches are sorted by length together, so that little is padding.
    const POOL: usize = 8;

    fn new(pairs: &'a [Pair], tokenizer: &'a Tokenizer, plan: &Plan) -> anyhow::Result<Self> {
        Ok(Batches {
            pairs,
            tokenizer,
            batch: plan.batch,
            padding: id(tokenizer, tokenizer::END_OF_TEXT)?,
            chance: Chance::new(plan.seed ^ 0x5eed_ba7c_4e55_0001),
            drawn: 0,
            ready: Vec::new(),
        })
    }

    fn next(&mut self) -> anyhow::Result<Batch> {
        if self.ready.is_empty() {
            self.ready = self.round()?;
        }
        let conversations = self.ready.pop().context("the text has no questions")?;
        let width = conversations
            .iter()
            .map(|c| c.tokens.len() - 1)
            .max()
            .unwrap_or(1);
        let mut batch = Batch {
            rows: conversations.len(),
            width,
            tokens: Vec::with_capacity(conversations.len() * width),
            places: Vec::new(),
            targets: Vec::new(),
        };
        for (row, conversation) in conversations.iter().enumerate() {
            let seen = &conversation.tokens[..conversation.tokens.len() - 1];
            batch.tokens.extend(seen.iter().map(|token| *token as i32));
            let padding = std::iter::repeat_n(self.padding as i32, width - seen.len());
            batch.tokens.extend(padding);
            for place in conversation.answers.iter().cloned().flatten() {
                batch.places.push((row * width + place - 1) as i32);
                batch.targets.push(conversation.tokens[place] as i32);
            }
        }
        Ok(batch)
    }

    /// Every question once, shuffled, in batches of conversations of like length.
    fn round(&mut self) -> anyhow::Result<Vec<Vec<Conversation>>> {
        let mut order: Vec<(usize, usize)> = (0..self.pairs.len())
            .flat_map(|pair| (0..self.pairs[pair].questions.len()).map(move |q| (pair, q)))
            .collect();
        self.shuffle(&mut order);
        let mut conversations = order
            .into_iter()
            .map(|(pair, question)| self.conversation(pair, question))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut batches = Vec::new();
        for pool in conversations.chunks_mut(self.batch * Self::POOL) {
            pool.sort_by_key(|conversation| conversation.tokens.len());
        }
        while !conversations.is_empty() {
            let rest = conversations.split_off(self.batch.min(conversations.len()));
            batches.push(std::mem::replace(&mut conversations, rest));
        }
        self.shuffle(&mut batches);
        Ok(batches)
    }

    /// One conversation that ends with this question and its answer; some have a system message or an earlier turn.
    fn conversation(&mut self, pair: usize, question: usize) -> anyhow::Result<Conversation> {
        let mut conversation = Conversation {
            tokens: Vec::new(),
            answers: Vec::new(),
        };
        if self.unit() < 0.2 {
            let text = corpus::SYSTEM[self.below(corpus::SYSTEM.len())];
            self.message(&mut conversation, "system", text)?;
        }
        let pairs = self.pairs;
        if self.unit() < 0.15 {
            let earlier = &pairs[self.below(pairs.len())];
            let asked = self.below(earlier.questions.len());
            self.turn(
                &mut conversation,
                &earlier.questions[asked],
                &earlier.answer,
            )?;
        }
        self.turn(
            &mut conversation,
            &pairs[pair].questions[question],
            &pairs[pair].answer,
        )?;
        Ok(conversation)
    }

    fn turn(&mut self, to: &mut Conversation, question: &str, answer: &str) -> anyhow::Result<()> {
        let question = corpus::typed(question, self.chance, self.drawn);
        self.drawn += 2;
        self.message(to, "user", &question)?;
        self.message(to, "assistant", answer)
    }

    /// Appends a message exactly as the chat template renders it.
    fn message(&self, to: &mut Conversation, role: &str, content: &str) -> anyhow::Result<()> {
        let head = format!("{}{role}\n", tokenizer::MESSAGE_START);
        to.tokens.extend(self.encode(&head)?);
        let from = to.tokens.len();
        to.tokens
            .extend(self.encode(&format!("{content}{}", tokenizer::MESSAGE_END))?);
        if role == "assistant" {
            to.answers.push(from..to.tokens.len());
        }
        to.tokens.extend(self.encode("\n")?);
        Ok(())
    }

    fn encode(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        let encoding = self.tokenizer.encode_fast(text, false);
        Ok(encoding
            .map_err(|error| anyhow!("encoding: {error}"))?
            .get_ids()
            .to_vec())
    }

    fn unit(&mut self) -> f32 {
        self.drawn += 1;
        self.chance.unit(self.drawn - 1)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        (self.chance.bits(self.drawn - 1) % bound as u64) as usize
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

fn id(tokenizer: &Tokenizer, token: &str) -> anyhow::Result<u32> {
    tokenizer
        .token_to_id(token)
        .with_context(|| format!("the vocabulary lacks {token}"))
}

/// Where a model begins: small normal numbers, ones for the norms.
struct RandomStart {
    chance: Chance,
    drawn: u64,
    layers: usize,
    parameters: usize,
}

impl RandomStart {
    /// A normal number, by Box and Muller.
    fn normal(&mut self) -> f32 {
        let (a, b) = (
            self.chance.unit(self.drawn),
            self.chance.unit(self.drawn + 1),
        );
        self.drawn += 2;
        let radius = (-2.0 * (1.0 - f64::from(a)).ln()).sqrt();
        (radius * (std::f64::consts::TAU * f64::from(b)).cos()) as f32
    }
}

impl Source for RandomStart {
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        let length = shape.iter().product();
        self.parameters += length;
        if shape.len() == 1 {
            return Ok(vec![1.0; length]);
        }
        // What writes into the residual stream starts smaller, so that its sum over layers does not grow.
        let writes = name.contains("o_proj") || name.contains("down_proj");
        let depth = if writes {
            (2.0 * self.layers as f32).sqrt()
        } else {
            1.0
        };
        let deviation = match name.contains("embed_tokens") {
            true => 0.02,
            false => (1.0 / shape[1] as f32).sqrt() / depth,
        };
        Ok((0..length).map(|_| self.normal() * deviation).collect())
    }
}

fn config_json(plan: &Plan, tokenizer: &Tokenizer) -> anyhow::Result<Vec<u8>> {
    let json = serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(true),
        "hidden_size": plan.hidden,
        "intermediate_size": plan.intermediate,
        "num_hidden_layers": plan.layers,
        "num_attention_heads": plan.heads,
        "num_key_value_heads": plan.key_value_heads,
        "head_dim": plan.hidden / plan.heads,
        "max_position_embeddings": plan.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "torch_dtype": "float32",
        "bos_token_id": null,
        "eos_token_id": [id(tokenizer, tokenizer::MESSAGE_END)?, id(tokenizer, tokenizer::END_OF_TEXT)?],
        "pad_token_id": id(tokenizer, tokenizer::END_OF_TEXT)?,
    });
    Ok(pretty(&json))
}

/// Keys sorted: whether `serde_json` itself sorts them depends on a feature that any other crate of a build may switch on,
/// and the files must come out the same from every build.
fn pretty(json: &serde_json::Value) -> Vec<u8> {
    let sorted: BTreeMap<_, _> = json.as_object().into_iter().flatten().collect();
    let text = serde_json::to_string_pretty(&sorted).expect("strings and numbers have a text");
    format!("{text}\n").into_bytes()
}

fn files(
    model: &Llama<Learning>,
    tokenizer: &Tokenizer,
    config: Vec<u8>,
    plan: &Plan,
) -> anyhow::Result<Vec<(&'static str, Vec<u8>)>> {
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = model
        .export()
        .into_iter()
        .map(|(name, shape, values)| {
            let bytes = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            (name, shape, bytes)
        })
        .collect();
    let views = stored
        .iter()
        .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    // Hugging Face's loader wants to be told the framework.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let weights = safetensors::serialize(views, Some(metadata))?;
    ensure!(weights.len() <= 8_000_000, "the model outgrew 8 MB");
    let tokenizer_json = tokenizer
        .to_string(true)
        .map_err(|error| anyhow!("writing the tokenizer: {error}"))?;
    Ok(vec![
        ("config.json", config),
        ("tokenizer.json", tokenizer_json.into_bytes()),
        (
            "tokenizer_config.json",
            pretty(&tokenizer::config(plan.context)),
        ),
        ("model.safetensors", weights),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_write_the_same_bytes_and_another_seed_writes_others() {
        let pairs = corpus::pairs().expect("the shipped text is well formed");
        let plan = Plan {
            steps: 4,
            batch: 8,
            hidden: 48,
            intermediate: 64,
            layers: 2,
            heads: 4,
            ..Plan::STORED
        };
        let run = |plan: &Plan| {
            train(&pairs, plan, &mut |_| {})
                .expect("training runs")
                .files
        };
        let first = run(&plan);
        assert_eq!(first, run(&plan));
        let other = run(&Plan { seed: 1, ..plan });
        assert_eq!(
            first[1], other[1],
            "the vocabulary depends on the text alone"
        );
        assert_ne!(first[3], other[3]);
    }
}
