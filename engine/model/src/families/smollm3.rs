//! SmolLM3 (huggingface.co/blog/smollm3): Llama in which every fourth layer is told no positions (NoPE, arXiv 2501.18795).

use super::Family;
use crate::ModelError;
use crate::decoder::written::{Defaults, Written};
use crate::decoder::{Bias, Config};

pub(super) fn config(written: &Written) -> Result<Config, ModelError> {
    written.expect_activation(written.hidden_act.as_deref(), "silu")?;
    let defaults = Defaults {
        base: 2_000_000.0,
        tied: true,
        epsilon: 1e-6,
    };
    let mut config = written.common(Family::SmolLm3, defaults)?;
    let attention = written.attention_bias.unwrap_or(false);
    config.bias = Bias {
        query_key_value: attention,
        out: attention,
        feed_forward: written.mlp_bias.unwrap_or(false),
    };
    // One where positions are told, zero where not, against the name.
    let layers = config.layers.len();
    let interval = written.no_rope_layer_interval.unwrap_or(4);
    let told: Vec<bool> = match &written.no_rope_layers {
        Some(told) => told.iter().map(|told| *told != 0).collect(),
        None => (1..=layers)
            .map(|number| !number.is_multiple_of(interval))
            .collect(),
    };
    if told.len() != layers {
        return Err(ModelError::Config(format!(
            "no_rope_layers has {} entries; num_hidden_layers is {layers}",
            told.len()
        )));
    }
    for (layer, told) in config.layers.iter_mut().zip(&told) {
        layer.rope = told.then_some(0);
    }
    let slides = written.use_sliding_window.unwrap_or(false);
    let window = written.sliding_window.filter(|_| slides);
    written.windows(&mut config, window, |layer| {
        window.is_some() && !told[layer]
    })?;
    Ok(config)
}
