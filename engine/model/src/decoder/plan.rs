//! The tensors of a decoder, by the names that Hugging Face's `…ForCausalLM` gives them.

use super::Config;
use crate::weights::Plan;

pub(super) fn of(config: &Config) -> Plan {
    let Config {
        hidden,
        intermediate,
        head_width,
        vocabulary,
        ..
    } = *config;
    let (queries, keys) = (
        config.heads * head_width,
        config.key_value_heads * head_width,
    );
    let mut plan = Plan::default();
    plan.want("model.embed_tokens.weight", &[vocabulary, hidden]);
    for layer in 0..config.layers.len() {
        let mut linear = |name: &str, rows: usize, columns: usize, bias: bool| {
            plan.want(
                format!("model.layers.{layer}.{name}.weight"),
                &[rows, columns],
            );
            if bias {
                plan.want(format!("model.layers.{layer}.{name}.bias"), &[rows]);
            }
        };
        linear(
            "self_attn.q_proj",
            queries,
            hidden,
            config.bias.query_key_value,
        );
        linear(
            "self_attn.k_proj",
            keys,
            hidden,
            config.bias.query_key_value,
        );
        linear(
            "self_attn.v_proj",
            keys,
            hidden,
            config.bias.query_key_value,
        );
        linear("self_attn.o_proj", hidden, queries, config.bias.out);
        linear(
            "mlp.gate_proj",
            intermediate,
            hidden,
            config.bias.feed_forward,
        );
        linear(
            "mlp.up_proj",
            intermediate,
            hidden,
            config.bias.feed_forward,
        );
        linear(
            "mlp.down_proj",
            hidden,
            intermediate,
            config.bias.feed_forward,
        );
        let mut norm = |name: &str, width: usize| {
            plan.want(format!("model.layers.{layer}.{name}.weight"), &[width]);
        };
        norm("input_layernorm", hidden);
        norm("post_attention_layernorm", hidden);
        if config.post_norms {
            norm("pre_feedforward_layernorm", hidden);
            norm("post_feedforward_layernorm", hidden);
        }
        if config.query_key_norm {
            norm("self_attn.q_norm", head_width);
            norm("self_attn.k_norm", head_width);
        }
        // Older files of Llama keep what follows from `rope_theta`.
        plan.ignore(format!(
            "model.layers.{layer}.self_attn.rotary_emb.inv_freq"
        ));
    }
    plan.want("model.norm.weight", &[hidden]);
    match config.tied {
        true => plan.ignore("lm_head.weight"),
        false => plan.want("lm_head.weight", &[vocabulary, hidden]),
    }
    // In GGUF: what follows from the scaling of the rotary positions, against which it was held when the configuration was made.
    plan.ignore("rope_freqs.weight");
    plan
}
