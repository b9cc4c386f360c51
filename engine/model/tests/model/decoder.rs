//! Configurations of decoders: each family's, of both versions of transformers.

use model::ModelError;
use model::decoder::{Activation, Config, Scaling};
use serde_json::{Value, json};

/// A small model of a family.
pub fn small(model_type: &str) -> Value {
    json!({
        "model_type": model_type, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 6, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6, "eos_token_id": 2,
    })
}

fn parse(config: &Value) -> Result<Config, ModelError> {
    Config::parse(config.to_string().as_bytes(), None)
}

fn with(model_type: &str, more: Value) -> Value {
    let mut config = small(model_type);
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config
}

fn read(model_type: &str, more: Value) -> Config {
    parse(&with(model_type, more)).expect("is a configuration")
}

#[test]
fn every_family_of_decoders_is_read_by_its_name() {
    for family in model::FAMILIES
        .into_iter()
        .filter(|family| family.is_decoder())
    {
        let config = read(family.model_type(), json!({}));
        assert_eq!(config.family, family);
        assert_eq!(config.layers.len(), 6);
        assert_eq!(config.end_tokens, [2]);
    }
    for other in ["qwen3_moe", "mixtral", "gemma3", "gpt2", "bert"] {
        let refused = parse(&small(other));
        assert!(
            matches!(refused, Err(ModelError::Unsupported(_))),
            "{other}: {refused:?}"
        );
    }
}

#[test]
fn families_differ_as_their_papers_say() {
    let qwen2 = read("qwen2", json!({}));
    assert!(qwen2.bias.query_key_value && !qwen2.bias.out && !qwen2.query_key_norm);
    let qwen3 = read("qwen3", json!({}));
    assert!(qwen3.query_key_norm && !qwen3.bias.query_key_value);
    let smollm3 = read("smollm3", json!({}));
    let told: Vec<bool> = smollm3
        .layers
        .iter()
        .map(|layer| layer.rope.is_some())
        .collect();
    assert_eq!(told, [true, true, true, false, true, true]);
    let mistral = read("mistral", json!({"sliding_window": 16}));
    assert!(mistral.layers.iter().all(|layer| layer.window == Some(16)));
    let mistral = read("mistral", json!({"sliding_window": null}));
    assert!(mistral.layers.iter().all(|layer| layer.window.is_none()));
    let gemma = read(
        "gemma3_text",
        json!({"sliding_window": 16, "query_pre_attn_scalar": 64}),
    );
    let windows: Vec<_> = gemma.layers.iter().map(|layer| layer.window).collect();
    assert_eq!(
        windows,
        [Some(16), Some(16), Some(16), Some(16), Some(16), None]
    );
    let bases: Vec<f64> = { gemma.layers.iter() }
        .filter_map(|layer| Some(gemma.ropes[layer.rope?].base))
        .collect();
    assert_eq!(bases, [1e4, 1e4, 1e4, 1e4, 1e4, 1e6]);
    assert!(gemma.norm_plus_one && gemma.post_norms && gemma.query_key_norm && gemma.tied);
    assert_eq!(gemma.activation, Activation::GeluTanh);
    assert_eq!(
        (gemma.attention_scale, gemma.embedding_scale),
        (0.125, 32f32.sqrt())
    );
}

#[test]
fn versions_four_and_five_of_transformers_are_read_alike() {
    let llama3 = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64});
    let mut five = llama3.clone();
    five["rope_theta"] = json!(5e5);
    let four = read("llama", json!({"rope_theta": 5e5, "rope_scaling": llama3}));
    assert_eq!(four, read("llama", json!({"rope_parameters": five})));
    assert!(matches!(four.ropes[0].scaling, Scaling::Llama3 { .. }));
    let both = json!({"type": "linear", "rope_type": "linear", "factor": 2.0});
    let linear = read("llama", json!({"rope_scaling": both}));
    assert_eq!(linear.ropes[0].scaling, Scaling::Linear { factor: 2.0 });
    let four = read(
        "gemma3_text",
        json!({"rope_theta": 2e6, "rope_local_base_freq": 2e4, "sliding_window_pattern": 3,
        "sliding_window": 8, "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    );
    let five = read(
        "gemma3_text",
        json!({"sliding_window": 8, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 2e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4}},
        "layer_types": ["sliding_attention", "sliding_attention", "full_attention",
            "sliding_attention", "sliding_attention", "full_attention"]}),
    );
    assert_eq!(four, five);
}
