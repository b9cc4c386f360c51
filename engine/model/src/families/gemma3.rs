//! Gemma 3, text (arXiv 2503.19786): norms before and behind each part that multiply by one more than their weight, a norm over each
//! head of queries and keys, five layers with a window for each without, a base of rotations for each kind, embeddings scaled by the
//! root of the width, a GELU gate, always tied.

use super::Family;
use crate::ModelError;
use crate::decoder::written::{Defaults, RopeWritten, Written};
use crate::decoder::{Activation, Bias, Config, Rope, Scaling};

pub(super) fn config(written: &Written) -> Result<Config, ModelError> {
    let activation = written
        .hidden_activation
        .as_deref()
        .or(written.hidden_act.as_deref());
    written.expect_activation(activation, "gelu_pytorch_tanh")?;
    let defaults = Defaults {
        base: 1_000_000.0,
        tied: true,
        epsilon: 1e-6,
    };
    let written = &Written {
        head_dim: written.head_dim.or(Some(256)),
        num_key_value_heads: written.num_key_value_heads.or(Some(4)),
        num_attention_heads: written.num_attention_heads.or(Some(8)),
        max_position_embeddings: written.max_position_embeddings.or(Some(131_072)),
        ..written.clone()
    };
    let mut config = written.common(Family::Gemma3, defaults)?;
    let attention = written.attention_bias.unwrap_or(false);
    config.bias = Bias {
        query_key_value: attention,
        out: attention,
        feed_forward: false,
    };
    config.norm_plus_one = true;
    config.post_norms = true;
    config.query_key_norm = true;
    config.activation = Activation::GeluTanh;
    // Rounded to the type of the embeddings, as transformers does in f32.
    config.embedding_scale = (config.hidden as f32).sqrt();
    config.attention_scale = written.query_pre_attn_scalar.unwrap_or(256.0).powf(-0.5) as f32;
    config.score_cap = written.final_logit_softcapping.map(|cap| cap as f32);
    ropes(written, &mut config)?;
    let pattern = written
        .sliding_window_pattern
        .or(written.window_pattern)
        .unwrap_or(6);
    let window = written.sliding_window.or(Some(4096));
    written.windows(&mut config, window, |layer| {
        !(layer + 1).is_multiple_of(pattern)
    })?;
    for layer in &mut config.layers {
        layer.rope = Some(usize::from(layer.window.is_some()));
    }
    Ok(config)
}

/// The rotation of layers without a window, and of those with one, which is never stretched in version 4's form.
fn ropes(written: &Written, config: &mut Config) -> Result<(), ModelError> {
    let context = config.context;
    let of = |written: &RopeWritten, base: f64| {
        Ok::<_, ModelError>(Rope {
            base: written.rope_theta.unwrap_or(base),
            scaling: written.scaling(context)?,
        })
    };
    let local = written.rope_local_base_freq.unwrap_or(10_000.0);
    let local = match written.rope_of("sliding_attention") {
        Some(rope) => of(rope, local)?,
        None => Rope {
            base: local,
            scaling: Scaling::Default,
        },
    };
    if let Some(rope) = written.rope_of("full_attention") {
        let base = written.rope_theta.unwrap_or(1_000_000.0);
        config.ropes = vec![of(rope, base)?];
    }
    config.ropes.push(local);
    Ok(())
}
