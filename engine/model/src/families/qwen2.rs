//! Qwen 2 and 2.5 (arXiv 2407.10671, 2412.15115): Llama with biases on queries, keys and values; larger ones may have a sliding
//! window from some layer on.

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
    let mut config = written.common(Family::Qwen2, defaults)?;
    config.bias = Bias {
        query_key_value: true,
        ..Bias::default()
    };
    windows(written, &mut config)?;
    Ok(config)
}

/// Full attention below `max_window_layers`, a window from there on.
pub(super) fn windows(written: &Written, config: &mut Config) -> Result<(), ModelError> {
    let slides = written.use_sliding_window.unwrap_or(false);
    let window = written.sliding_window.or(Some(4096)).filter(|_| slides);
    let full = written.max_window_layers.unwrap_or(28);
    written.windows(config, window, |layer| window.is_some() && layer >= full)
}
