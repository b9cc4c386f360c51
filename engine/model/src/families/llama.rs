//! Llama 2, 3 and 3.x, and SmolLM2 (arXiv 2302.13971, 2307.09288, 2407.21783): root-mean-square norms, rotary positions, grouped
//! heads from Llama 2 70B on, a SiLU gate, no biases unless the configuration says so. Llama 3.1 stretches low frequencies.

use super::Family;
use crate::ModelError;
use crate::decoder::written::{Defaults, Written};
use crate::decoder::{Bias, Config};

pub(super) fn config(written: &Written) -> Result<Config, ModelError> {
    written.expect_activation(written.hidden_act.as_deref(), "silu")?;
    let defaults = Defaults {
        base: 10_000.0,
        tied: false,
        epsilon: 1e-6,
    };
    let attention = written.attention_bias.unwrap_or(false);
    Ok(Config {
        bias: Bias {
            query_key_value: attention,
            out: attention,
            feed_forward: written.mlp_bias.unwrap_or(false),
        },
        ..written.common(Family::Llama, defaults)?
    })
}
