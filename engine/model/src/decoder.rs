//! What a decoder computes, in numbers: one configuration for all families that read token after token.
//!
//! Made from `config.json` ([`Config::parse`]) or from the metadata of a GGUF file, which says the same in other words
//! ([`crate::gguf::config`]). What differs between families stands in [`crate::families`], one file each.

mod plan;
pub mod rope;
pub mod written;

pub use rope::{Rope, Scaling};

use crate::families::Family;
use crate::weights::Plan;
use crate::{ModelError, ModelFiles, json, limits};

/// A decoder, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its family.
    pub family: Family,
    /// Rows of the table of embeddings.
    pub vocabulary: usize,
    /// Width of a layer.
    pub hidden: usize,
    /// Width of the feed-forward part.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub key_value_heads: usize,
    /// Width of a head; even. `heads * head_width` need not be `hidden`.
    pub head_width: usize,
    /// Tokens that the model was made for. What fits in memory may be less.
    pub context: usize,
    /// Added to the mean square before its root is taken.
    pub norm_epsilon: f64,
    /// Whether a norm multiplies by one more than its weight (Gemma). Weights from GGUF are handed over as such too.
    pub norm_plus_one: bool,
    /// Whether attention and feed-forward part have a norm behind them too, before they are added (Gemma).
    pub post_norms: bool,
    /// Whether each head of queries and keys has a norm, before it is rotated.
    pub query_key_norm: bool,
    /// Which linear layers have a bias.
    pub bias: Bias,
    /// Of the gate.
    pub activation: Activation,
    /// What embeddings are multiplied by.
    pub embedding_scale: f32,
    /// What products of queries and keys are multiplied by.
    pub attention_scale: f32,
    /// Scores of tokens are `cap * tanh(score / cap)`.
    pub score_cap: Option<f32>,
    /// Whether the output layer is the table of embeddings.
    pub tied: bool,
    /// Rotations that layers refer to.
    pub ropes: Vec<Rope>,
    /// The layers, in order.
    pub layers: Vec<Layer>,
    /// Tokens that end a completion.
    pub end_tokens: Vec<u32>,
}

/// What differs from layer to layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layer {
    /// Index into [`Config::ropes`]; `None`: positions are not told (NoPE).
    pub rope: Option<usize>,
    /// A token sees this many positions, itself included; `None`: all before it.
    pub window: Option<usize>,
}

/// Which linear layers have a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bias {
    /// Queries, keys and values.
    pub query_key_value: bool,
    /// What follows the attention.
    pub out: bool,
    /// Gate, up and down.
    pub feed_forward: bool,
}

/// What the gate of a feed-forward part goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(x)`
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`
    GeluTanh,
}

impl Config {
    /// Reads `config.json` and, where there is one, `generation_config.json`, whose end tokens count in place of the other's.
    pub fn parse(config: &[u8], generation: Option<&[u8]>) -> Result<Self, ModelError> {
        let wrong = |why: String| ModelError::Config(why);
        json::check_object(config).map_err(|flaw| wrong(flaw.to_string()))?;
        let written: written::Written =
            serde_json::from_slice(config).map_err(|error| wrong(error.to_string()))?;
        let family = Family::of_decoder(&written)?;
        let mut config = family.decoder(&written)?;
        config.end_tokens = written.end_tokens(generation)?;
        config.check()
    }

    /// Of a model's files.
    pub fn of(files: &ModelFiles) -> Result<Self, ModelError> {
        Config::parse(files.config(), files.generation_config())
    }

    /// Numbers in all of its tensors together.
    pub fn parameters(&self) -> u64 {
        self.plan().parameters()
    }

    /// Bytes of keys and values of one token, at so many bytes a number.
    pub fn key_value_bytes(&self, number_bytes: usize) -> usize {
        2 * self.layers.len() * self.key_value_heads * self.head_width * number_bytes
    }

    /// The tensors it needs, by name and shape.
    pub fn plan(&self) -> Plan {
        plan::of(self)
    }

    /// The conditions that tie several values together.
    fn check(self) -> Result<Self, ModelError> {
        let refuse = |why: String| Err(ModelError::Config(why));
        let (heads, key_value_heads) = (self.heads, self.key_value_heads);
        if !heads.is_multiple_of(key_value_heads) {
            return refuse(format!(
                "num_key_value_heads is {key_value_heads}, which does not divide num_attention_heads, {heads}"
            ));
        }
        if !self.head_width.is_multiple_of(2) {
            return refuse(format!("head_dim is {}, must be even", self.head_width));
        }
        if heads * self.head_width > limits::WIDTH_MAX {
            return refuse(format!(
                "{heads} heads of {} are wider than {} together",
                self.head_width,
                limits::WIDTH_MAX
            ));
        }
        let epsilon = self.norm_epsilon;
        if !(epsilon > 0.0 && epsilon < 1.0) {
            return refuse(format!(
                "rms_norm_eps is {epsilon}, must be above 0 and below 1"
            ));
        }
        for (name, value) in [
            ("query_pre_attn_scalar", self.attention_scale),
            ("final_logit_softcapping", self.score_cap.unwrap_or(1.0)),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return refuse(format!("{name} is out of bounds"));
            }
        }
        for rope in &self.ropes {
            rope.check()?;
        }
        let vocabulary = self.vocabulary;
        match self
            .end_tokens
            .iter()
            .find(|token| **token as usize >= vocabulary)
        {
            Some(token) => refuse(format!(
                "eos_token_id names token {token}; the vocabulary has {vocabulary} entries"
            )),
            None => Ok(self),
        }
    }
}

/// `value` if it lies in `1..=max`.
pub(crate) fn bounded(name: &str, value: usize, max: usize) -> Result<usize, ModelError> {
    match (1..=max).contains(&value) {
        true => Ok(value),
        false => Err(ModelError::Config(format!(
            "{name} is {value}, must be 1 to {max}"
        ))),
    }
}
