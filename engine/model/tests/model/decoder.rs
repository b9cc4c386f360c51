//! Configurations of decoders: each family's, of both versions of transformers.

use model::decoder::{Activation, Config, Scaling};
use model::{Family, ModelError};
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

/// What transformers computed with a small model of each family.
fn references() -> Vec<(String, Value)> {
    let directory = std::fs::read_dir(crate::gguf::reference("families")).expect("is there");
    let paths = directory.map(|entry| entry.expect("reads").path());
    let read = |path: std::path::PathBuf| {
        let name = path
            .file_stem()
            .expect("has a name")
            .to_string_lossy()
            .into_owned();
        let text = std::fs::read(&path).expect("reads");
        (name, serde_json::from_slice(&text).expect("is JSON"))
    };
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(read)
        .collect()
}

#[test]
fn the_tensors_of_a_configuration_are_those_that_transformers_gives_the_model() {
    let mut families = std::collections::BTreeSet::new();
    for (name, reference) in references() {
        let config = reference["config"].to_string();
        if reference["config"]["model_type"] == "bert" {
            let config = model::bert::Config::parse(config.as_bytes()).expect("is a configuration");
            assert_eq!(config.scores_pairs, name == "reranker");
            families.insert(Family::Bert);
            continue;
        }
        let config = Config::parse(config.as_bytes(), None).expect(&name);
        let plan = config.plan();
        let wanted: Vec<_> = plan.wanted().collect();
        let tensors = reference["tensors"].as_array().expect("a list").iter();
        let tensors: Vec<(String, Vec<usize>)> = tensors
            .map(|tensor| {
                let (name, shape) = (tensor[0].clone(), tensor[1].clone());
                let of = |value| serde_json::from_value(value).expect("a name");
                (of(name), serde_json::from_value(shape).expect("a shape"))
            })
            .collect();
        let tensors: Vec<_> = tensors
            .iter()
            .map(|(name, shape)| (name.as_str(), &shape[..]))
            .collect();
        assert_eq!(wanted, tensors, "{name}");
        families.insert(config.family);
    }
    assert_eq!(families.len(), model::FAMILIES.len());
}

#[test]
fn the_end_tokens_of_generation_config_count_in_place_of_the_others() {
    let end = |config: Value, generation: Option<&str>| {
        let config = with("llama", json!({"eos_token_id": config}));
        let read = Config::parse(config.to_string().as_bytes(), generation.map(str::as_bytes));
        read.map(|config| config.end_tokens)
            .map_err(|error| error.to_string())
    };
    assert_eq!(end(json!(2), None), Ok(vec![2]));
    assert_eq!(end(json!([5, 2, 5]), None), Ok(vec![2, 5]));
    assert_eq!(
        end(
            json!(2),
            Some(r#"{"eos_token_id": [7, 3], "temperature": 0.6}"#)
        ),
        Ok(vec![3, 7])
    );
    assert_eq!(
        end(json!(null), Some(r#"{"eos_token_id": 7}"#)),
        Ok(vec![7])
    );
    assert_eq!(end(json!(2), Some("{}")), Ok(vec![2]));
    let refused = |config: Value, generation: Option<&str>, expected: &str| {
        let said = end(config, generation).expect_err(expected);
        assert!(said.contains(expected), "{said}; expected {expected}");
    };
    refused(json!(null), None, "names 0 tokens");
    refused(json!((0..17).collect::<Vec<_>>()), None, "names 17 tokens");
    refused(
        json!(64),
        None,
        "names token 64; the vocabulary has 64 entries",
    );
    refused(json!(2), Some("{"), "generation_config.json: ");
    refused(
        json!(2),
        Some(r#"{"eos_token_id": -1}"#),
        "generation_config.json: ",
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (model_type, more, expected) in [
        (
            "llama",
            json!({"num_local_experts": 8}),
            "a mixture of experts",
        ),
        ("qwen3", json!({"num_experts": 128}), "a mixture of experts"),
        (
            "llama",
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "quantization_config",
        ),
        (
            "llama",
            json!({"hidden_act": "gelu"}),
            "the activation \"gelu\"",
        ),
        (
            "gemma3_text",
            json!({"hidden_activation": "gelu"}),
            "the activation \"gelu\"",
        ),
        (
            "gemma3_text",
            json!({"attn_logit_softcapping": 50.0}),
            "attn_logit_softcapping",
        ),
        (
            "gemma3_text",
            json!({"use_bidirectional_attention": true}),
            "both directions",
        ),
        (
            "llama",
            json!({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
            "of type \"dynamic\"",
        ),
        (
            "llama",
            json!({"rope_scaling": {"type": "longrope"}}),
            "of type \"longrope\"",
        ),
        (
            "llama",
            json!({"rope_parameters": {"rope_theta": 1e4, "rope_type": "default",
            "partial_rotary_factor": 0.5}}),
            "partial_rotary_factor",
        ),
        (
            "qwen3",
            json!({"layer_types": vec!["chunked_attention"; 6]}),
            "layers of type \"chunked_attention\"",
        ),
    ] {
        let refused = parse(&with(model_type, more));
        let said = match refused {
            Err(ModelError::Unsupported(said)) => said,
            other => panic!("{expected}: {other:?}"),
        };
        assert!(said.contains(expected), "{said}; expected {expected}");
    }
}

#[test]
fn numbers_out_of_bounds_are_refused_with_their_name() {
    let scaled = |key: &str, value: Value| {
        let mut rope = json!({"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
            "original_max_position_embeddings": 64});
        rope[key] = value;
        ("rope_parameters", rope, key.to_owned())
    };
    let cases = [
        ("hidden_size", json!(0)),
        ("hidden_size", json!(1 << 20)),
        ("vocab_size", json!(u64::MAX)),
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(8)),
        ("head_dim", json!(7)),
        ("rms_norm_eps", json!(0.0)),
        ("rope_theta", json!(1.0)),
        ("rope_theta", json!(1e300)),
        ("max_position_embeddings", json!(1u64 << 40)),
        ("layer_types", json!(vec!["full_attention"; 5])),
    ];
    let cases = cases.map(|(key, value)| (key, value, key.to_owned()));
    let scaled = [
        scaled("factor", json!(0.0)),
        scaled("factor", json!(-4.0)),
        scaled("beta_fast", json!(1e9)),
        scaled("attention_factor", json!(1e9)),
        scaled("original_max_position_embeddings", json!(0.0)),
        scaled("rope_theta", json!(-1.0)),
    ];
    for (key, value, named) in cases.into_iter().chain(scaled) {
        let model_type = if key == "layer_types" {
            "qwen3"
        } else {
            "llama"
        };
        let mut config = with(model_type, json!({}));
        config[key] = value.clone();
        let said = parse(&config).expect_err(&named).to_string();
        assert!(said.contains(&named), "{key} {value}: {said}");
    }
}

#[test]
fn a_flipped_byte_of_a_configuration_never_panics() {
    let mut read = [0, 0];
    for (_, reference) in references() {
        let text = reference["config"].to_string().into_bytes();
        for at in 0..text.len() {
            for bit in [1, 4, 16] {
                let mut flipped = text.clone();
                flipped[at] ^= bit;
                let parsed = Config::parse(&flipped, Some(&flipped));
                if let Ok(config) = &parsed {
                    assert!(config.parameters() > 0);
                    let ropes = config
                        .ropes
                        .iter()
                        .map(|rope| rope.frequencies(config.head_width));
                    assert!(ropes.flatten().all(f64::is_finite));
                }
                read[usize::from(parsed.is_ok())] += 1;
            }
        }
    }
    assert!(read.iter().all(|count| *count > 100), "{read:?}");
}

#[test]
fn a_model_of_seventy_billion_parameters_fits_the_limits() {
    let config = read(
        "llama",
        json!({"vocab_size": 128_256, "hidden_size": 8192, "intermediate_size": 28_672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128,
        "max_position_embeddings": 131_072}),
    );
    assert_eq!(config.parameters(), 70_553_706_496);
    assert_eq!(config.context, 131_072);
    assert_eq!(config.key_value_bytes(2), 327_680);
}

#[test]
fn rotary_positions_turn_as_fast_as_in_transformers() {
    let vectors = std::fs::read(crate::gguf::reference("rope.json")).expect("reads");
    let vectors: Vec<Value> = serde_json::from_slice(&vectors).expect("is JSON");
    assert_eq!(vectors.len(), 4);
    for vector in vectors {
        let rope = json!({"rope_parameters": vector["rope_parameters"], "max_position_embeddings": 131_072});
        let config = read("llama", rope);
        let near = |found: f64, expected: &Value| {
            let expected = expected.as_f64().expect("a number");
            assert!(
                (found / expected - 1.0).abs() < 1e-5,
                "{found} {expected} {vector}"
            );
        };
        let expected = vector["frequencies"].as_array().expect("a list");
        let found = config.ropes[0].frequencies(64);
        assert_eq!(found.len(), expected.len());
        found
            .iter()
            .zip(expected)
            .for_each(|(found, expected)| near(*found, expected));
        near(
            config.ropes[0].attention_factor(),
            &vector["attention_factor"],
        );
    }
}
