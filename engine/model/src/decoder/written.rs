//! `config.json` as transformers writes it, versions 4 and 5 alike, before anything is believed.
//!
//! It has many more keys; those that do not change what is computed are ignored.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Activation, Bias, Config, Layer, Rope, Scaling, bounded};
use crate::families::Family;
use crate::{ModelError, json, limits};

/// The keys that are read.
#[derive(Debug, Clone, Deserialize)]
#[expect(missing_docs)]
pub struct Written {
    pub model_type: String,
    pub architectures: Option<Vec<String>>,
    pub vocab_size: Option<usize>,
    pub hidden_size: Option<usize>,
    pub intermediate_size: Option<usize>,
    pub num_hidden_layers: Option<usize>,
    pub num_attention_heads: Option<usize>,
    pub num_key_value_heads: Option<usize>,
    pub head_dim: Option<usize>,
    pub max_position_embeddings: Option<usize>,
    pub rms_norm_eps: Option<f64>,
    pub rope_theta: Option<f64>,
    pub rope_local_base_freq: Option<f64>,
    pub rope_scaling: Option<RopeWritten>,
    pub rope_parameters: Option<RopesWritten>,
    pub partial_rotary_factor: Option<f64>,
    pub tie_word_embeddings: Option<bool>,
    pub attention_bias: Option<bool>,
    pub mlp_bias: Option<bool>,
    pub hidden_act: Option<String>,
    pub hidden_activation: Option<String>,
    pub sliding_window: Option<usize>,
    pub use_sliding_window: Option<bool>,
    pub max_window_layers: Option<usize>,
    pub layer_types: Option<Vec<String>>,
    pub sliding_window_pattern: Option<usize>,
    #[serde(rename = "_sliding_window_pattern")]
    pub window_pattern: Option<usize>,
    pub use_bidirectional_attention: Option<bool>,
    pub query_pre_attn_scalar: Option<f64>,
    pub attn_logit_softcapping: Option<f64>,
    pub final_logit_softcapping: Option<f64>,
    pub no_rope_layers: Option<Vec<u8>>,
    pub no_rope_layer_interval: Option<usize>,
    pub num_experts: Option<usize>,
    pub num_local_experts: Option<usize>,
    pub quantization_config: Option<serde_json::Value>,
    pub eos_token_id: Option<EndTokens>,
}

/// One token or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs)]
pub enum EndTokens {
    One(u32),
    Many(Vec<u32>),
}

/// One rotation, or one for each kind of layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
#[expect(missing_docs)]
pub enum RopesWritten {
    ByLayer(BTreeMap<String, RopeWritten>),
    One(Box<RopeWritten>),
}

/// `rope_scaling` of version 4, `rope_parameters` of version 5.
#[derive(Debug, Clone, Default, Deserialize)]
#[expect(missing_docs)]
pub struct RopeWritten {
    pub rope_type: Option<String>,
    #[serde(rename = "type")]
    pub former_type: Option<String>,
    pub rope_theta: Option<f64>,
    pub factor: Option<f64>,
    pub low_freq_factor: Option<f64>,
    pub high_freq_factor: Option<f64>,
    pub original_max_position_embeddings: Option<f64>,
    pub attention_factor: Option<f64>,
    pub beta_fast: Option<f64>,
    pub beta_slow: Option<f64>,
    pub mscale: Option<f64>,
    pub mscale_all_dim: Option<f64>,
    pub truncate: Option<bool>,
    pub partial_rotary_factor: Option<f64>,
}

/// What a family says of itself where `config.json` is silent.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// `rope_theta`
    pub base: f64,
    /// `tie_word_embeddings`
    pub tied: bool,
    /// `rms_norm_eps`
    pub epsilon: f64,
}

impl Written {
    /// What all families have in common: root-mean-square norms, grouped heads, a gate, one rotation for all layers, no window.
    pub fn common(&self, family: Family, defaults: Defaults) -> Result<Config, ModelError> {
        self.refuse_what_is_not_supported()?;
        let heads = self.size(
            "num_attention_heads",
            self.num_attention_heads,
            limits::HEADS_MAX,
        )?;
        let hidden = self.size("hidden_size", self.hidden_size, limits::WIDTH_MAX)?;
        let layers = self.size(
            "num_hidden_layers",
            self.num_hidden_layers,
            limits::LAYERS_MAX,
        )?;
        let context = self.size(
            "max_position_embeddings",
            self.max_position_embeddings,
            limits::POSITIONS_MAX,
        )?;
        let key_value_heads = Some(self.num_key_value_heads.unwrap_or(heads));
        let head_width = Some(self.head_dim.unwrap_or(hidden / heads));
        let head_width = self.size("head_dim", head_width, limits::WIDTH_MAX)?;
        let rope = Rope {
            base: self.base().unwrap_or(defaults.base),
            scaling: self
                .one_rope()
                .map_or(Ok(Scaling::Default), |rope| rope.scaling(context))?,
        };
        Ok(Config {
            family,
            vocabulary: self.size("vocab_size", self.vocab_size, limits::VOCABULARY_MAX)?,
            hidden,
            intermediate: self.size(
                "intermediate_size",
                self.intermediate_size,
                limits::WIDTH_MAX,
            )?,
            heads,
            key_value_heads: self.size("num_key_value_heads", key_value_heads, heads)?,
            head_width,
            context,
            norm_epsilon: self.rms_norm_eps.unwrap_or(defaults.epsilon),
            norm_plus_one: false,
            post_norms: false,
            query_key_norm: false,
            bias: Bias::default(),
            activation: Activation::Silu,
            embedding_scale: 1.0,
            attention_scale: (head_width as f64).powf(-0.5) as f32,
            score_cap: None,
            tied: self.tie_word_embeddings.unwrap_or(defaults.tied),
            ropes: vec![rope],
            layers: vec![
                Layer {
                    rope: Some(0),
                    window: None
                };
                layers
            ],
            end_tokens: Vec::new(),
        })
    }

    fn size(&self, name: &str, value: Option<usize>, max: usize) -> Result<usize, ModelError> {
        let value = value.ok_or_else(|| ModelError::Config(format!("missing field `{name}`")))?;
        bounded(name, value, max)
    }

    fn refuse_what_is_not_supported(&self) -> Result<(), ModelError> {
        let unsupported = |what: &str| Err(ModelError::Unsupported(what.into()));
        if self
            .num_experts
            .or(self.num_local_experts)
            .is_some_and(|experts| experts > 1)
        {
            return unsupported("a mixture of experts");
        }
        if self.quantization_config.is_some() {
            return unsupported("quantised safetensors (quantization_config)");
        }
        if self.attn_logit_softcapping.is_some() {
            return unsupported("soft caps in attention (attn_logit_softcapping)");
        }
        let partial = self.one_rope().and_then(|rope| rope.partial_rotary_factor);
        if partial
            .or(self.partial_rotary_factor)
            .is_some_and(|part| part != 1.0)
        {
            return unsupported("heads that are rotated in part (partial_rotary_factor)");
        }
        if self.use_bidirectional_attention == Some(true) {
            return unsupported("attention in both directions (use_bidirectional_attention)");
        }
        Ok(())
    }

    /// Refuses an activation other than `name`.
    pub fn expect_activation(&self, written: Option<&str>, name: &str) -> Result<(), ModelError> {
        match written {
            Some(other) if other != name => Err(ModelError::Unsupported(format!(
                "the activation {other:?}; {} has {name:?}",
                self.model_type
            ))),
            _ => Ok(()),
        }
    }

    /// Gives each layer its window by `layer_types`, or by `windowed` where the file does not say.
    pub fn windows(
        &self,
        config: &mut Config,
        window: Option<usize>,
        windowed: impl Fn(usize) -> bool,
    ) -> Result<(), ModelError> {
        let layers = config.layers.len();
        if let Some(types) = &self.layer_types
            && types.len() != layers
        {
            return Err(ModelError::Config(format!(
                "layer_types has {} entries; num_hidden_layers is {layers}",
                types.len()
            )));
        }
        for (index, layer) in config.layers.iter_mut().enumerate() {
            let slides = match self.layer_types.as_ref().map(|types| types[index].as_str()) {
                None => windowed(index),
                Some("full_attention") => false,
                Some("sliding_attention") => true,
                Some(other) => {
                    return Err(ModelError::Unsupported(format!("layers of type {other:?}")));
                }
            };
            if slides {
                let window = self.size("sliding_window", window, limits::POSITIONS_MAX)?;
                layer.window = Some(window);
            }
        }
        Ok(())
    }

    /// The rotation of one kind of layer, if the file has one for each kind.
    pub fn rope_of(&self, kind: &str) -> Option<&RopeWritten> {
        match self.rope_parameters.as_ref()? {
            RopesWritten::ByLayer(ropes) => ropes.get(kind),
            RopesWritten::One(_) => None,
        }
    }

    /// The rotation, if the file has one for all layers.
    fn one_rope(&self) -> Option<&RopeWritten> {
        match &self.rope_parameters {
            Some(RopesWritten::One(rope)) => Some(rope),
            Some(RopesWritten::ByLayer(_)) => None,
            None => self.rope_scaling.as_ref(),
        }
    }

    fn base(&self) -> Option<f64> {
        self.one_rope()
            .and_then(|rope| rope.rope_theta)
            .or(self.rope_theta)
    }

    /// The tokens that end a completion, at least one.
    pub fn end_tokens(&self, generation: Option<&[u8]>) -> Result<Vec<u32>, ModelError> {
        #[derive(Deserialize)]
        struct Generation {
            eos_token_id: Option<EndTokens>,
        }
        let mut end = self.eos_token_id.clone();
        if let Some(generation) = generation {
            let wrong = |why: String| ModelError::Generation(why);
            json::check_object(generation).map_err(|flaw| wrong(flaw.to_string()))?;
            let parsed: Generation =
                serde_json::from_slice(generation).map_err(|error| wrong(error.to_string()))?;
            end = parsed.eos_token_id.or(end);
        }
        let mut end = match end {
            None => Vec::new(),
            Some(EndTokens::One(token)) => vec![token],
            Some(EndTokens::Many(tokens)) => tokens,
        };
        end.sort_unstable();
        end.dedup();
        match (1..=limits::END_TOKENS_MAX).contains(&end.len()) {
            true => Ok(end),
            false => Err(ModelError::Config(format!(
                "eos_token_id names {} tokens; 1 to {} are allowed",
                end.len(),
                limits::END_TOKENS_MAX
            ))),
        }
    }
}

impl RopeWritten {
    /// The scaling, of a model that has `context` positions.
    pub fn scaling(&self, context: usize) -> Result<Scaling, ModelError> {
        let needed = |name: &str, value: Option<f64>| {
            let missing = || ModelError::Config(format!("the rotary positions have no `{name}`"));
            value.ok_or_else(missing)
        };
        let original = self.original_max_position_embeddings;
        Ok(
            match self.rope_type.as_deref().or(self.former_type.as_deref()) {
                None | Some("default") => Scaling::Default,
                Some("linear") => Scaling::Linear {
                    factor: needed("factor", self.factor)?,
                },
                Some("llama3") => Scaling::Llama3 {
                    factor: needed("factor", self.factor)?,
                    low: needed("low_freq_factor", self.low_freq_factor)?,
                    high: needed("high_freq_factor", self.high_freq_factor)?,
                    original: needed("original_max_position_embeddings", original)?,
                },
                Some("yarn") => self.yarn(original.unwrap_or(context as f64), context),
                Some(other) => {
                    return Err(ModelError::Unsupported(format!(
                        "rotary positions of type {other:?}"
                    )));
                }
            },
        )
    }

    fn yarn(&self, original: f64, context: usize) -> Scaling {
        let factor = self.factor.unwrap_or(context as f64 / original);
        // 0.1 ln(s) + 1, YaRN section 3.4.
        let scale = |by: f64| match factor <= 1.0 {
            true => 1.0,
            false => 0.1 * by * factor.ln() + 1.0,
        };
        let nonzero = |value: Option<f64>| value.filter(|value| *value != 0.0);
        let attention = match (nonzero(self.mscale), nonzero(self.mscale_all_dim)) {
            (Some(one), Some(all)) => scale(one) / scale(all),
            _ => scale(1.0),
        };
        Scaling::Yarn {
            factor,
            original,
            fast: nonzero(self.beta_fast).unwrap_or(32.0),
            slow: nonzero(self.beta_slow).unwrap_or(1.0),
            attention: self.attention_factor.unwrap_or(attention),
            truncate: self.truncate.unwrap_or(true),
        }
    }
}
