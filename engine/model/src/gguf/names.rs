//! What GGUF calls a tensor, and what it did to its numbers.
//!
//! Sources: `gguf-py/gguf/tensor_mapping.py` and `conversion/{llama,gemma}.py` of llama.cpp.
//!
//! - Of the architectures `llama` and `smollm3` the rows of queries and keys are interleaved: row `2 i + half` of a head is row
//!   `half * width / 2 + i` of Hugging Face's, because llama.cpp rotates neighbours there.
//! - Of `gemma3` one was added to the weights of norms.

use super::Header;
use crate::ModelError;
use crate::families::{FAMILIES, Family};
use crate::weights::Tensor;

/// How tensors of one file are translated.
#[derive(Debug, Clone)]
pub struct Names {
    family: Family,
    width: usize,
}

/// What has to be done to a tensor's numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// Width of the heads whose rows are put back in order; 0 if they are in order.
    interleaved: usize,
    /// Whether one is subtracted.
    minus_one: bool,
    /// Bytes behind the tensor.
    pub(crate) padding: u64,
}

impl Rule {
    /// Where a row of the file belongs.
    pub(crate) fn row(&self, row: usize) -> usize {
        if self.interleaved == 0 {
            return row;
        }
        let (head, within) = (row / self.interleaved, row % self.interleaved);
        head * self.interleaved + (within % 2) * (self.interleaved / 2) + within / 2
    }

    /// Whether numbers of a vector change.
    pub(crate) fn changes(&self, tensor: &Tensor) -> bool {
        tensor.shape.len() == 1 && (self.minus_one || self.interleaved > 0)
    }

    pub(crate) fn change(&self, numbers: &mut [f32]) {
        if self.interleaved > 0 {
            let before = numbers.to_vec();
            for (at, number) in before.into_iter().enumerate() {
                if let Some(out) = numbers.get_mut(self.row(at)) {
                    *out = number;
                }
            }
        }
        if self.minus_one {
            numbers.iter_mut().for_each(|number| *number -= 1.0);
        }
    }
}

impl Names {
    /// By the metadata of a file.
    pub fn of(header: &Header) -> Result<Self, ModelError> {
        let family = family(header)?;
        let width = super::config::head_width(header, family)?;
        Ok(Names { family, width })
    }

    /// The name that Hugging Face gives a tensor, and what has to be done to it. A name without a counterpart stays.
    pub fn translate(&self, name: &str) -> (String, Rule) {
        let same = (name.to_owned(), Rule::default());
        let Some((stem, end)) = name.rsplit_once('.') else {
            return same;
        };
        let minus_one = self.family == Family::Gemma3;
        let norm = Rule {
            minus_one,
            ..Rule::default()
        };
        let (stem, rule) = match stem
            .strip_prefix("blk.")
            .and_then(|rest| rest.split_once('.'))
        {
            None => match stem {
                "token_embd" => ("model.embed_tokens".to_owned(), Rule::default()),
                "output" => ("lm_head".to_owned(), Rule::default()),
                "output_norm" => ("model.norm".to_owned(), norm),
                _ => return same,
            },
            Some((layer, part)) => {
                let gemma = self.family == Family::Gemma3;
                let known = PARTS.iter().find(|(name, ..)| *name == part);
                let Some((_, llama, with_post_norms)) = known else {
                    return same;
                };
                let part_there = if gemma { with_post_norms } else { llama };
                if part_there.is_empty() {
                    return same;
                }
                let rule = match part {
                    "attn_q" | "attn_k" => self.interleaved(),
                    _ if part_there.ends_with("norm") => norm,
                    _ => Rule::default(),
                };
                (format!("model.layers.{layer}.{part_there}"), rule)
            }
        };
        (format!("{stem}.{end}"), rule)
    }

    fn interleaved(&self) -> Rule {
        let interleaved = match self.family {
            Family::Llama | Family::SmolLm3 => self.width,
            _ => 0,
        };
        Rule {
            interleaved,
            ..Rule::default()
        }
    }
}

/// The family of a file, by its architecture.
pub(super) fn family(header: &Header) -> Result<Family, ModelError> {
    let architecture = header.architecture();
    let architecture = architecture
        .ok_or_else(|| ModelError::Gguf("it has no text `general.architecture`".into()))?;
    let mut known = FAMILIES.into_iter().filter(|family| family.is_decoder());
    let family = known.find(|family| family.architecture() == Some(architecture));
    family.ok_or_else(|| ModelError::Unsupported(format!("the GGUF architecture {architecture:?}")))
}

/// Parts of a layer: in GGUF, in Llama's kind of layer, in Gemma's. Empty where that kind has none.
const PARTS: [(&str, &str, &str); 13] = [
    ("attn_q", "self_attn.q_proj", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm", "self_attn.k_norm"),
    ("attn_norm", "input_layernorm", "input_layernorm"),
    (
        "ffn_norm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
    ),
    ("post_attention_norm", "", "post_attention_layernorm"),
    ("post_ffw_norm", "", "post_feedforward_layernorm"),
    ("ffn_gate", "mlp.gate_proj", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj", "mlp.down_proj"),
];
