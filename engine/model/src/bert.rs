//! `config.json` of a BERT model (arXiv 1810.04805), bounded and checked before anything is built from it: of an embedder, or of a
//! cross-encoder whose classifier gives one score. XLM-RoBERTa and other relatives are refused by name.

use serde::Deserialize;

use crate::decoder::bounded;
use crate::weights::{Plan, Weights};
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
    /// Whether it is a cross-encoder: a classifier makes one score of a pair of texts.
    pub scores_pairs: bool,
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

/// How a checkpoint names its tensors: as `BertModel`, or as `BertForSequenceClassification` with one label.
#[derive(Debug)]
pub struct Names {
    /// `bert.` where there is a head on it.
    prefix: &'static str,
}

impl Names {
    /// By what is there.
    pub fn of(weights: &Weights) -> Self {
        let has = |start: &str| {
            weights
                .tensors()
                .any(|tensor| tensor.name.starts_with(start))
        };
        Names {
            prefix: if has("bert.") { "bert." } else { "" },
        }
    }

    /// Without the prefix.
    pub fn bare<'a>(&self, name: &'a str) -> &'a str {
        name.strip_prefix(self.prefix).unwrap_or(name)
    }

    /// Every tensor with its shape.
    pub fn plan(&self, config: &Config) -> Plan {
        let (hidden, feed) = (config.hidden, config.intermediate);
        let mut plan = Plan::default();
        let mut want = |name: String, shape: &[usize]| {
            plan.want(format!("{}{name}", self.prefix), shape);
        };
        let tables = [
            ("word", config.vocabulary),
            ("position", config.positions),
            ("token_type", config.segments),
        ];
        for (name, rows) in tables {
            want(
                format!("embeddings.{name}_embeddings.weight"),
                &[rows, hidden],
            );
        }
        let mut norm = |name: String| {
            want(format!("{name}.weight"), &[hidden]);
            want(format!("{name}.bias"), &[hidden]);
        };
        norm("embeddings.LayerNorm".into());
        for index in 0..config.layers {
            norm(format!("encoder.layer.{index}.attention.output.LayerNorm"));
            norm(format!("encoder.layer.{index}.output.LayerNorm"));
        }
        let mut linear = |name: String, rows: usize, columns: usize| {
            want(format!("{name}.weight"), &[rows, columns]);
            want(format!("{name}.bias"), &[rows]);
        };
        for index in 0..config.layers {
            let layer = format!("encoder.layer.{index}");
            for part in [
                "attention.self.query",
                "attention.self.key",
                "attention.self.value",
            ] {
                linear(format!("{layer}.{part}"), hidden, hidden);
            }
            linear(format!("{layer}.attention.output.dense"), hidden, hidden);
            linear(format!("{layer}.intermediate.dense"), feed, hidden);
            linear(format!("{layer}.output.dense"), hidden, feed);
        }
        if config.scores_pairs {
            linear("pooler.dense".into(), hidden, hidden);
            plan.want("classifier.weight", &[1, hidden]);
            plan.want("classifier.bias", &[1]);
        } else {
            // Of the pretraining; an embedder does not use it.
            plan.ignore(format!("{}pooler.dense.weight", self.prefix));
            plan.ignore(format!("{}pooler.dense.bias", self.prefix));
        }
        // The numbers 0, 1, 2 ..., which older files keep.
        plan.ignore(format!("{}embeddings.position_ids", self.prefix));
        plan
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
    architectures: Option<Vec<String>>,
    num_labels: Option<usize>,
    id2label: Option<serde_json::Map<String, serde_json::Value>>,
    is_decoder: Option<bool>,
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
        if self.is_decoder == Some(true) {
            return unsupported("BERT as a decoder (is_decoder)");
        }
        let scores_pairs = self.scores_pairs()?;
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
            scores_pairs,
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
    /// Whether it is a cross-encoder; one with several labels, and what has another head, is refused.
    fn scores_pairs(&self) -> Result<bool, ModelError> {
        let unsupported = |what: String| Err(ModelError::Unsupported(what));
        match self.architectures.as_deref() {
            None | Some([]) => Ok(false),
            Some([one]) if one == "BertModel" || one == "BertForMaskedLM" => Ok(false),
            Some([one]) if one == "BertForSequenceClassification" => {
                let labels = self.id2label.as_ref().map(serde_json::Map::len);
                match self.num_labels.or(labels).unwrap_or(2) {
                    1 => Ok(true),
                    labels => unsupported(format!(
                        "a classifier with {labels} labels; one is computed"
                    )),
                }
            }
            Some(other) => unsupported(format!("the architectures {other:?}")),
        }
    }
}
