//! `config.json` of a Llama model, bounded and checked before anything is built from it.

use serde::Deserialize;

use crate::{ModelError, json, limits};

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
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub key_value_heads: usize,
    /// Width of a head; even.
    pub head_width: usize,
    /// Tokens the model can hold at once: what the file says, at most [`limits::CONTEXT_TOKENS_MAX`].
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f32,
    /// Added to the mean square before its root is taken.
    pub norm_epsilon: f64,
    /// Whether the output layer is the embedding table.
    pub tied: bool,
    /// Tokens that end a completion.
    pub end_tokens: Vec<u32>,
}

impl Config {
    /// Parses and checks `config.json`.
    pub fn parse(text: &[u8]) -> Result<Self, ModelError> {
        json::check_object(text).map_err(|flaw| ModelError::Config(flaw.to_string()))?;
        let file: ConfigFile =
            serde_json::from_slice(text).map_err(|error| ModelError::Config(error.to_string()))?;
        file.check()
    }

    fn group(&self) -> usize {
        self.heads / self.key_value_heads
    }
}

/// `config.json` as Hugging Face writes it, version 4 and 5 alike. It has many more keys; those that do not change the
/// arithmetic are ignored.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: String,
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    rms_norm_eps: f64,
    rope_theta: Option<f32>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    eos_token_id: Option<EndTokens>,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_theta: Option<f32>,
    rope_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum EndTokens {
    One(u32),
    Many(Vec<u32>),
}

impl ConfigFile {
    fn check(self) -> Result<Config, ModelError> {
        let unsupported = |what: &str| Err(ModelError::Unsupported(what.into()));
        if self.model_type != "llama" {
            return unsupported(&format!("model_type {:?}", self.model_type));
        }
        if self.hidden_act.as_deref().is_some_and(|act| act != "silu") {
            return unsupported("an activation other than silu");
        }
        if self.attention_bias || self.mlp_bias {
            return unsupported("biases");
        }
        let rope = self.rope_parameters.as_ref();
        let rope_type = rope.and_then(|rope| rope.rope_type.as_deref());
        if self.rope_scaling.is_some() || rope_type.is_some_and(|kind| kind != "default") {
            return unsupported("scaled rotary positions");
        }
        let heads = bounded(
            "num_attention_heads",
            self.num_attention_heads,
            limits::HEADS_MAX,
        )?;
        let hidden = bounded("hidden_size", self.hidden_size, limits::WIDTH_MAX)?;
        let config = Config {
            vocabulary: bounded("vocab_size", self.vocab_size, limits::VOCABULARY_MAX)?,
            hidden,
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
            heads,
            key_value_heads: bounded(
                "num_key_value_heads",
                self.num_key_value_heads.unwrap_or(heads),
                heads,
            )?,
            head_width: bounded(
                "head_dim",
                self.head_dim.unwrap_or(hidden / heads),
                limits::WIDTH_MAX,
            )?,
            context: bounded(
                "max_position_embeddings",
                self.max_position_embeddings,
                usize::MAX,
            )?
            .min(limits::CONTEXT_TOKENS_MAX),
            rope_theta: rope
                .and_then(|rope| rope.rope_theta)
                .or(self.rope_theta)
                .unwrap_or(10_000.0),
            norm_epsilon: self.rms_norm_eps,
            tied: self.tie_word_embeddings,
            end_tokens: match self.eos_token_id {
                None => Vec::new(),
                Some(EndTokens::One(token)) => vec![token],
                Some(EndTokens::Many(tokens)) => tokens,
            },
        };
        config.check()
    }
}

impl Config {
    /// The conditions that tie several values together.
    fn check(self) -> Result<Self, ModelError> {
        let refuse = |why: &str| Err(ModelError::Config(why.into()));
        if !self.heads.is_multiple_of(self.key_value_heads) {
            return refuse("num_key_value_heads does not divide num_attention_heads");
        }
        if !self.head_width.is_multiple_of(2) {
            return refuse("head_dim is odd");
        }
        if self.heads * self.head_width > limits::WIDTH_MAX || self.group() > limits::HEADS_MAX {
            return refuse("the heads together are too wide");
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return refuse("rope_theta is out of bounds");
        }
        if !(self.norm_epsilon > 0.0 && self.norm_epsilon < 1.0) {
            return refuse("rms_norm_eps is out of bounds");
        }
        if self.end_tokens.is_empty() || self.end_tokens.len() > 16 {
            return refuse("eos_token_id must name 1 to 16 tokens");
        }
        if self
            .end_tokens
            .iter()
            .any(|token| *token as usize >= self.vocabulary)
        {
            return refuse("eos_token_id is not in the vocabulary");
        }
        Ok(self)
    }
}

/// `value` if it lies in `1..=max`.
pub(crate) fn bounded(name: &str, value: usize, max: usize) -> Result<usize, ModelError> {
    if (1..=max).contains(&value) {
        Ok(value)
    } else {
        Err(ModelError::Config(format!(
            "{name} is {value}, must be 1 to {max}"
        )))
    }
}
