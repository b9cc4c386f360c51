//! Mistral (arXiv 2310.06825): Llama with a sliding window in every layer, where the configuration has one.

use super::Family;
use crate::ModelError;
use crate::decoder::Config;
use crate::decoder::written::{Defaults, Written};

pub(super) fn config(written: &Written) -> Result<Config, ModelError> {
    written.expect_activation(written.hidden_act.as_deref(), "silu")?;
    let defaults = Defaults {
        base: 10_000.0,
        tied: false,
        epsilon: 1e-6,
    };
    let mut config = written.common(Family::Mistral, defaults)?;
    written.windows(&mut config, written.sliding_window, |_| {
        written.sliding_window.is_some()
    })?;
    Ok(config)
}
