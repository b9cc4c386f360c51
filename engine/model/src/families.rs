//! The families of models that are read here, each in its file, where it differs from the common decoder.

mod gemma3;
mod llama;
mod mistral;
mod qwen2;
mod qwen3;
mod smollm3;

use crate::ModelError;
use crate::decoder::Config;
use crate::decoder::written::Written;

/// A family: what `model_type` calls alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Llama 2 and 3, SmolLM2.
    Llama,
    /// Mistral.
    Mistral,
    /// SmolLM3.
    SmolLm3,
    /// Qwen 2 and 2.5.
    Qwen2,
    /// Qwen 3, dense.
    Qwen3,
    /// Gemma 3, text.
    Gemma3,
    /// BERT: embedders and rerankers.
    Bert,
}

/// All of them.
pub const FAMILIES: [Family; 7] = [
    Family::Llama,
    Family::Mistral,
    Family::SmolLm3,
    Family::Qwen2,
    Family::Qwen3,
    Family::Gemma3,
    Family::Bert,
];

impl Family {
    /// As `config.json` calls it in `model_type`.
    pub const fn model_type(self) -> &'static str {
        match self {
            Family::Llama => "llama",
            Family::Mistral => "mistral",
            Family::SmolLm3 => "smollm3",
            Family::Qwen2 => "qwen2",
            Family::Qwen3 => "qwen3",
            Family::Gemma3 => "gemma3_text",
            Family::Bert => "bert",
        }
    }

    /// As GGUF calls it in `general.architecture`. Mistral's files say `llama`; BERT's are not read.
    pub const fn architecture(self) -> Option<&'static str> {
        match self {
            Family::Llama => Some("llama"),
            Family::SmolLm3 => Some("smollm3"),
            Family::Qwen2 => Some("qwen2"),
            Family::Qwen3 => Some("qwen3"),
            Family::Gemma3 => Some("gemma3"),
            Family::Mistral | Family::Bert => None,
        }
    }

    /// Whether it reads token after token.
    pub const fn is_decoder(self) -> bool {
        !matches!(self, Family::Bert)
    }

    /// The family of a decoder's `config.json`.
    pub(crate) fn of_decoder(written: &Written) -> Result<Self, ModelError> {
        let model_type = written.model_type.as_str();
        let unsupported = |what: String| Err(ModelError::Unsupported(what));
        if model_type.contains("moe") || model_type == "mixtral" {
            return unsupported(format!("a mixture of experts (model_type {model_type:?})"));
        }
        let mut decoders = FAMILIES.into_iter().filter(|family| family.is_decoder());
        match decoders.find(|family| family.model_type() == model_type) {
            Some(family) => Ok(family),
            None => unsupported(format!("model_type {model_type:?}")),
        }
    }

    /// The configuration of a decoder of this family, all but its end tokens.
    pub(crate) fn decoder(self, written: &Written) -> Result<Config, ModelError> {
        match self {
            Family::Llama => llama::config(written),
            Family::Mistral => mistral::config(written),
            Family::SmolLm3 => smollm3::config(written),
            Family::Qwen2 => qwen2::config(written),
            Family::Qwen3 => qwen3::config(written),
            Family::Gemma3 => gemma3::config(written),
            Family::Bert => Err(ModelError::Unsupported("BERT as a decoder".into())),
        }
    }
}
