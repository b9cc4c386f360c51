//! `config.json` of a BERT model, bounded and checked before anything is built from it.

use serde::Deserialize;

use crate::llama::bounded;
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
    pub fn parse(text: &[u8]) -> Result<Self, ModelError> {
        json::check_object(text).map_err(|flaw| ModelError::Config(flaw.to_string()))?;
        let file: ConfigFile =
            serde_json::from_slice(text).map_err(|error| ModelError::Config(error.to_string()))?;
        file.check()
    }
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
