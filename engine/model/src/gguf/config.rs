//! The canonical `config.json` of a GGUF file: its metadata in Hugging Face's words.
//!
//! Whoever packs a GGUF writes it beside the weights; whoever runs one without it reads this text. So there is one reader of
//! configurations ([`crate::decoder::Config`]). Sources: `gguf-py/gguf/constants.py`, `conversion/base.py`, `conversion/llama.py` and
//! `llama_model_*::load_arch_hparams` of llama.cpp.

use serde_json::{Map, Value as Json, json};

use super::names::family;
use super::{Header, Value};
use crate::decoder::{Rope, Scaling};
use crate::families::Family;
use crate::{ModelError, limits};

/// What the metadata alone do not tell.
#[derive(Debug, Clone, Copy, Default)]
pub struct Beside<'a> {
    /// The numbers of the tensor [`ROPE_FACTORS`], which a file of Llama 3.1 and later has.
    pub rope_factors: Option<&'a [f32]>,
    /// Further tokens that end a completion, as known from the vocabulary ([`END_TEXTS`]).
    pub end_tokens: &'a [u32],
}

/// The tensor that says how rotary positions are stretched: one divisor for each pair of numbers of a head.
pub const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Control tokens that end a completion whatever the metadata say (`special_eog_ids` in `llama-vocab.cpp`).
pub const END_TEXTS: [&str; 9] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
    "<eos>",
];

/// `config.json` for the model of a GGUF file.
pub fn config_json(header: &Header, beside: Beside<'_>) -> Result<Vec<u8>, ModelError> {
    let family = family(header)?;
    let meta = Meta { header, family };
    meta.refuse_what_is_not_supported()?;
    let head_width = head_width(header, family)?;
    let heads = meta.needed("attention.head_count")?;
    let window = meta
        .size("attention.sliding_window")?
        .filter(|window| *window > 0);
    let model_type = match (family, window) {
        (Family::Llama, Some(_)) => Family::Mistral.model_type(),
        _ => family.model_type(),
    };
    let table = header.tensor("token_embd.weight");
    let table = table.ok_or_else(|| ModelError::TensorMissing("token_embd.weight".into()))?;
    let has = |name: &str| header.tensor(name).is_some();
    let epsilon = meta.float("attention.layer_norm_rms_epsilon")?;
    let mut out = json!({
        "model_type": model_type,
        "vocab_size": table.shape.first(),
        "hidden_size": meta.needed("embedding_length")?,
        "intermediate_size": meta.needed("feed_forward_length")?,
        "num_hidden_layers": meta.needed("block_count")?,
        "num_attention_heads": heads,
        "num_key_value_heads": meta.size("attention.head_count_kv")?.unwrap_or(heads),
        "head_dim": head_width,
        "max_position_embeddings": meta.needed("context_length")?,
        "rms_norm_eps": epsilon.ok_or_else(|| missing(family, "attention.layer_norm_rms_epsilon"))?,
        "tie_word_embeddings": !has("output.weight"),
        "eos_token_id": end_tokens(header, beside.end_tokens),
    });
    let keys = out.as_object_mut().expect("was written as an object above");
    let mut set = |key: &str, value: Json| keys.insert(key.to_owned(), value);
    match family {
        Family::Qwen2 | Family::Gemma3 => {}
        Family::Qwen3 => {
            set("attention_bias", has("blk.0.attn_q.bias").into());
        }
        _ => {
            set("attention_bias", has("blk.0.attn_q.bias").into());
            set("mlp_bias", has("blk.0.ffn_gate.bias").into());
        }
    }
    match window {
        Some(window) if family == Family::Gemma3 => {
            set("sliding_window", window.into());
            set("layer_types", meta.layer_types()?.into());
        }
        // Only Mistral's and Gemma's windows are computed from these files.
        Some(window) if family == Family::Llama => {
            set("sliding_window", window.into());
        }
        Some(_) => {
            return Err(ModelError::Unsupported(format!(
                "a sliding window in a GGUF file of {model_type}"
            )));
        }
        None if family == Family::Gemma3 => {
            let layers = meta.needed("block_count")?;
            set("layer_types", vec!["full_attention"; layers].into());
        }
        None => {}
    }
    if family == Family::Gemma3 {
        set(
            "query_pre_attn_scalar",
            meta.gemma_scalar(heads, head_width)?.into(),
        );
        if let Some(cap) = meta
            .float("final_logit_softcapping")?
            .filter(|cap| *cap != 0.0)
        {
            set("final_logit_softcapping", cap.into());
        }
    }
    let (key, ropes) = meta.ropes(head_width, beside.rope_factors)?;
    set(key, ropes);
    let mut text = serde_json::to_vec_pretty(&out).expect("text and numbers have a JSON form");
    text.push(b'\n');
    Ok(text)
}

/// The tokens that end a completion: of the metadata and of the vocabulary.
fn end_tokens(header: &Header, more: &[u32]) -> Vec<u32> {
    let keys = ["eos", "eot", "eom"].map(|name| format!("tokenizer.ggml.{name}_token_id"));
    let named = keys
        .iter()
        .filter_map(|key| u32::try_from(header.number(key)?).ok());
    let mut tokens: Vec<u32> = named.chain(more.iter().copied()).collect();
    tokens.sort_unstable();
    tokens.dedup();
    tokens
}

struct Meta<'a> {
    header: &'a Header,
    family: Family,
}

impl Meta<'_> {
    fn key(&self, key: &str) -> String {
        key_of(self.family, key)
    }

    fn size(&self, key: &str) -> Result<Option<usize>, ModelError> {
        size(self.header, self.family, key)
    }

    fn needed(&self, key: &str) -> Result<usize, ModelError> {
        self.size(key)?.ok_or_else(|| missing(self.family, key))
    }

    /// A number, as its shortest decimal fraction: files hold `f32`, and `1e-5` is what was meant.
    fn float(&self, key: &str) -> Result<Option<f64>, ModelError> {
        let key = self.key(key);
        let Some(value) = self.header.value(&key) else {
            return Ok(None);
        };
        let number = value.float().map(|number| (number as f32).to_string());
        let number = number.and_then(|number| number.parse().ok());
        match number.filter(|number: &f64| number.is_finite()) {
            Some(number) => Ok(Some(number)),
            None => Err(ModelError::Gguf(format!("`{key}` is no finite number"))),
        }
    }

    fn refuse_what_is_not_supported(&self) -> Result<(), ModelError> {
        let unsupported = |what: String| Err(ModelError::Unsupported(what));
        if self
            .header
            .number("split.count")
            .is_some_and(|count| count > 1)
        {
            return unsupported("a GGUF file that is split into several".into());
        }
        if self.size("expert_count")?.is_some_and(|count| count > 0) {
            return unsupported("a mixture of experts".into());
        }
        for key in SCALES {
            if self.float(key)?.is_some_and(|scale| scale != 0.0) {
                return unsupported(format!("`{}` in a GGUF file", self.key(key)));
            }
        }
        if self.header.flag(&self.key("attention.causal")) == Some(false) {
            return unsupported("attention in both directions in a GGUF file".into());
        }
        Ok(())
    }

    /// Which of Gemma's layers have a window: a list, or one layer without it in so many.
    fn layer_types(&self) -> Result<Vec<&'static str>, ModelError> {
        let key = self.key("attention.sliding_window_pattern");
        let layers = self.needed("block_count")?;
        if layers > limits::LAYERS_MAX {
            return Err(ModelError::Gguf(format!(
                "`{}` is {layers}",
                self.key("block_count")
            )));
        }
        let of = |slides: bool| {
            if slides {
                "sliding_attention"
            } else {
                "full_attention"
            }
        };
        if let Some(Value::List(list)) = self.header.value(&key) {
            let slides = list.iter().map(|one| match one {
                Value::Bool(slides) => Some(*slides),
                other => other.number().map(|number| number != 0),
            });
            let types = slides
                .map(|slides| slides.map(of))
                .collect::<Option<Vec<_>>>();
            let types = types.filter(|types| types.len() == layers);
            return types
                .ok_or_else(|| ModelError::Gguf(format!("`{key}` is no list of {layers} flags")));
        }
        let pattern = self.size("attention.sliding_window_pattern")?.unwrap_or(6);
        let slides = |layer: usize| pattern == 0 || layer % pattern < pattern - 1;
        Ok((0..layers).map(|layer| of(slides(layer))).collect())
    }

    /// What the square root of is taken to scale attention: the width of a head, but of the 27 B model what each head has of the width.
    fn gemma_scalar(&self, heads: usize, head_width: usize) -> Result<usize, ModelError> {
        const LAYERS_27B: usize = 62;
        Ok(match self.needed("block_count")? {
            LAYERS_27B => self.needed("embedding_length")? / heads,
            _ => head_width,
        })
    }

    /// `rope_theta` and `rope_scaling`, or both for each kind of Gemma's layers.
    fn ropes(
        &self,
        head_width: usize,
        factors: Option<&[f32]>,
    ) -> Result<(&'static str, Json), ModelError> {
        let base = self.float("rope.freq_base")?;
        let default = if self.family == Family::Gemma3 {
            1_000_000.0
        } else {
            10_000.0
        };
        let base = base.unwrap_or(default);
        let mut rope = Map::new();
        rope.insert("rope_theta".into(), base.into());
        let scaling = self
            .header
            .text(&self.key("rope.scaling.type"))
            .unwrap_or("none");
        let has_factors = self.header.tensor(ROPE_FACTORS).is_some();
        match (scaling, has_factors) {
            ("none", false) => {
                rope.insert("rope_type".into(), "default".into());
            }
            ("none", true) => {
                let factors =
                    factors.ok_or_else(|| ModelError::TensorMissing(ROPE_FACTORS.into()))?;
                rope.extend(llama3(base, head_width, factors)?);
            }
            (scaling, false) => {
                rope.insert("rope_type".into(), scaling.into());
                let mut set = |name: &str, key: &str| {
                    if let Some(value) = self.float(&format!("rope.scaling.{key}"))? {
                        rope.insert(name.into(), value.into());
                    }
                    Ok::<_, ModelError>(())
                };
                set("factor", "factor")?;
                if scaling == "yarn" {
                    set(
                        "original_max_position_embeddings",
                        "original_context_length",
                    )?;
                    set("attention_factor", "yarn_attn_factor")?;
                    set("beta_fast", "yarn_beta_fast")?;
                    set("beta_slow", "yarn_beta_slow")?;
                }
            }
            (scaling, true) => {
                let what = format!("rotary positions of type {scaling:?} with {ROPE_FACTORS}");
                return Err(ModelError::Unsupported(what));
            }
        }
        if self.family != Family::Gemma3 {
            return Ok(("rope_parameters", Json::Object(rope)));
        }
        let local = self.float("rope.freq_base_swa")?.unwrap_or(10_000.0);
        let local = json!({"rope_type": "default", "rope_theta": local});
        let both = json!({"full_attention": rope, "sliding_attention": local});
        Ok(("rope_parameters", both))
    }
}

/// Llama 3's scaling, of which a file holds only the result: the largest divisor is the factor; the rest is the same in all models, which
/// is held against every divisor.
fn llama3(base: f64, head_width: usize, factors: &[f32]) -> Result<Map<String, Json>, ModelError> {
    let unlike =
        || ModelError::Unsupported(format!("{ROPE_FACTORS} of another kind than Llama 3's"));
    let factor = factors.iter().copied().fold(0.0, f32::max);
    let (low, high, original) = (1.0, 4.0, 8192.0);
    let factor = f64::from(factor);
    let scaling = Scaling::Llama3 {
        factor,
        low,
        high,
        original,
    };
    let plain = Rope::of(base).frequencies(head_width);
    let scaled = Rope { base, scaling }.frequencies(head_width);
    let divisors = plain
        .iter()
        .zip(&scaled)
        .map(|(plain, scaled)| plain / scaled);
    let close = |(divisor, factor): (f64, &f32)| (divisor / f64::from(*factor) - 1.0).abs() < 1e-4;
    if factors.len() != plain.len() || !divisors.zip(factors).all(close) {
        return Err(unlike());
    }
    let map = json!({
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": original as u64,
    });
    map.as_object().cloned().ok_or_else(unlike)
}

/// A whole number of the architecture's, or a list that has the same one for each layer.
pub(super) fn size(
    header: &Header,
    family: Family,
    key: &str,
) -> Result<Option<usize>, ModelError> {
    let key = key_of(family, key);
    let wrong = |why: &str| ModelError::Gguf(format!("`{key}` {why}"));
    let number = match header.value(&key) {
        None => return Ok(None),
        Some(Value::List(list)) => {
            let first = list.first().and_then(Value::number);
            match list.iter().all(|one| one.number() == first) {
                true => first,
                false => {
                    return Err(ModelError::Unsupported(format!(
                        "layers that differ in `{key}`"
                    )));
                }
            }
        }
        Some(value) => value.number(),
    };
    let number = number.and_then(|number| usize::try_from(number).ok());
    let number = number.filter(|number| *number <= limits::POSITIONS_MAX);
    number
        .map(Some)
        .ok_or_else(|| wrong("is no whole number within bounds"))
}

/// The width of a head, which is rotated whole.
pub(super) fn head_width(header: &Header, family: Family) -> Result<usize, ModelError> {
    let size = |key| size(header, family, key);
    let needed = |key| size(key)?.ok_or_else(|| missing(family, key));
    let heads = needed("attention.head_count")?.max(1);
    let width = size("attention.key_length")?.unwrap_or(needed("embedding_length")? / heads);
    for key in ["attention.value_length", "rope.dimension_count"] {
        if size(key)?.is_some_and(|other| other != width) {
            let key = key_of(family, key);
            return Err(ModelError::Unsupported(format!(
                "`{key}` other than the width of a head, {width}"
            )));
        }
    }
    match width {
        0 => Err(ModelError::Gguf("its heads have no width".into())),
        width => Ok(width),
    }
}

pub(super) fn missing(family: Family, key: &str) -> ModelError {
    ModelError::Gguf(format!("it has no `{}`", key_of(family, key)))
}

fn key_of(family: Family, key: &str) -> String {
    format!("{}.{key}", family.architecture().unwrap_or_default())
}

/// Factors that other models of these architectures multiply by.
const SCALES: [&str; 6] = [
    "embedding_scale",
    "residual_scale",
    "logit_scale",
    "attention.scale",
    "attn_logit_softcapping",
    "rope.scale_linear",
];
