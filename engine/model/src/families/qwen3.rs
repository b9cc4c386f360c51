//! Qwen 3, dense (arXiv 2505.09388): Llama with a norm over each head of queries and keys, and a width of heads of its own.

use super::{Family, qwen2};
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
    // Its heads are 128 wide where the file is silent, not a share of the width.
    let written = &Written {
        head_dim: written.head_dim.or(Some(128)),
        ..written.clone()
    };
    let mut config = written.common(Family::Qwen3, defaults)?;
    let attention = written.attention_bias.unwrap_or(false);
    config.bias = Bias {
        query_key_value: attention,
        out: attention,
        feed_forward: false,
    };
    config.query_key_norm = true;
    qwen2::windows(written, &mut config)?;
    Ok(config)
}
