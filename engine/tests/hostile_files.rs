//! Files that lie: every one ends in a typed error that names the file at fault, and none in a panic or a large
//! allocation.

use std::path::{Path, PathBuf};

use engine::{
    Chat, Embedder, EngineError, ModelError, ModelFiles, ModelRoot, WeightsError, limits,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const NAMES: [&str; 4] = [
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
];

fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-chat")
}

/// A copy of the model with one file changed.
fn changed(name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    for file in NAMES {
        std::fs::copy(original().join(file), directory.path().join(file)).expect("copies");
    }
    let path = directory.path().join(name);
    let bytes = change(std::fs::read(&path).expect("reads"));
    std::fs::write(path, bytes).expect("writes");
    directory
}

fn load(directory: &TempDir) -> Result<(), EngineError> {
    let files = ModelFiles::read(directory.path())?;
    Chat::load(&files).map(|_| ())
}

fn refusal(directory: &TempDir) -> ModelError {
    match load(directory) {
        Err(EngineError::Model(error)) => error,
        other => panic!("not the model's fault: {other:?}"),
    }
}

fn with_config(key: &str, value: Value) -> TempDir {
    changed("config.json", |bytes| {
        let mut config: Value = serde_json::from_slice(&bytes).expect("is JSON");
        config[key] = value;
        config.to_string().into_bytes()
    })
}

/// The weights with another header. The tensors' bytes stay.
fn with_header(change: impl FnOnce(Value) -> String) -> TempDir {
    changed("model.safetensors", |bytes| {
        let length: [u8; 8] = bytes[..8].try_into().expect("eight bytes");
        let (header, rest) = bytes[8..].split_at(u64::from_le_bytes(length) as usize);
        let header = change(serde_json::from_slice(header).expect("is JSON"));
        [
            &(header.len() as u64).to_le_bytes()[..],
            header.as_bytes(),
            rest,
        ]
        .concat()
    })
}

#[test]
fn the_unchanged_model_loads() {
    assert_eq!(load(&changed("config.json", |bytes| bytes)), Ok(()));
}

#[test]
fn sizes_in_the_configuration_are_bounded_and_must_fit_the_weights() {
    for (key, value) in [
        ("vocab_size", json!(u64::MAX)),
        ("vocab_size", json!(limits::VOCABULARY_MAX + 1)),
        ("vocab_size", json!(0)),
        ("vocab_size", json!(-1)),
        ("hidden_size", json!(1e300)),
        ("hidden_size", json!(limits::WIDTH_MAX + 1)),
        ("num_hidden_layers", json!(1_000_000_000)),
        ("num_attention_heads", json!(0)),
        ("num_attention_heads", json!("6")),
        ("num_key_value_heads", json!(4)),
        ("num_key_value_heads", json!(0)),
        ("head_dim", json!(33)),
        ("head_dim", json!(limits::WIDTH_MAX)),
        ("rms_norm_eps", json!(0.0)),
        ("rms_norm_eps", json!(null)),
        ("rope_theta", json!(-1.0)),
        ("eos_token_id", json!(null)),
        ("eos_token_id", json!([])),
        ("eos_token_id", json!(100_000)),
        ("max_position_embeddings", json!(0)),
    ] {
        let error = refusal(&with_config(key, value.clone()));
        assert!(
            matches!(error, ModelError::Config(_)),
            "{key} {value}: {error}"
        );
    }
    for (key, value) in [
        ("hidden_size", json!(160)),
        ("intermediate_size", json!(limits::WIDTH_MAX)),
        ("vocab_size", json!(limits::VOCABULARY_MAX)),
        ("num_hidden_layers", json!(limits::LAYERS_MAX)),
        ("head_dim", json!(64)),
        ("num_key_value_heads", json!(1)),
        ("tie_word_embeddings", json!(false)),
    ] {
        let error = refusal(&with_config(key, value));
        let wanted = matches!(
            error,
            ModelError::TensorShape { .. } | ModelError::TensorMissing(_)
        );
        assert!(wanted, "{key}: {error}");
    }
    for (key, value) in [
        ("model_type", json!("bert")),
        ("hidden_act", json!("relu")),
        ("attention_bias", json!(true)),
        ("rope_scaling", json!({"type": "linear"})),
        (
            "rope_parameters",
            json!({"rope_type": "yarn", "rope_theta": 10_000.0}),
        ),
    ] {
        let error = refusal(&with_config(key, value));
        assert!(
            matches!(error, ModelError::Unsupported(_)),
            "{key}: {error}"
        );
    }
}

#[test]
fn a_huge_claimed_context_allocates_no_more_than_the_limit() {
    let directory = with_config("max_position_embeddings", json!(u32::MAX));
    let files = ModelFiles::read(directory.path()).expect("reads");
    let chat = Chat::load(&files).expect("loads");
    assert_eq!(chat.context_max(), limits::CONTEXT_TOKENS_MAX);
}

#[test]
fn a_header_that_lies_is_refused() {
    let header = |directory: &TempDir| {
        let error = refusal(directory);
        assert!(matches!(error, ModelError::Header(_)), "{error}");
    };
    header(&changed("model.safetensors", |_| Vec::new()));
    header(&changed("model.safetensors", |_| vec![0xff; 64]));
    header(&changed("model.safetensors", |_| {
        (1u64 << 30).to_le_bytes().to_vec()
    }));
    header(&changed("model.safetensors", |mut bytes| {
        bytes.truncate(bytes.len() - 1);
        bytes
    }));
    header(&changed("model.safetensors", |mut bytes| {
        bytes.push(0);
        bytes
    }));
    header(&with_header(|_| "{".into()));
    header(&with_header(|_| "[".repeat(100_000)));
    header(&with_header(|mut header| {
        header["model.norm.weight"]["shape"] = json!([u64::MAX, u64::MAX]);
        header.to_string()
    }));
    header(&with_header(|mut header| {
        header["model.norm.weight"]["data_offsets"] = json!([0, u64::MAX]);
        header.to_string()
    }));
}

#[test]
fn tensors_must_be_there_in_shape_in_type_and_finite() {
    let norm = "model.norm.weight";
    let removed = with_header(|mut header| {
        let object = header.as_object_mut().expect("an object");
        let tensor = object.remove(norm).expect("is there");
        object.insert("other".into(), tensor);
        header.to_string()
    });
    assert_eq!(refusal(&removed), ModelError::TensorMissing(norm.into()));
    let reshaped = with_header(|mut header| {
        let width = header[norm]["shape"][0].clone();
        header[norm]["shape"] = json!([1, width]);
        header.to_string()
    });
    assert!(matches!(refusal(&reshaped), ModelError::TensorShape { name, .. } if name == norm));
    let retyped = with_header(|mut header| {
        header[norm]["dtype"] = json!("I32");
        header.to_string()
    });
    assert!(matches!(refusal(&retyped), ModelError::TensorType { name, .. } if name == norm));
    let poisoned = changed("model.safetensors", |mut bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    });
    assert!(matches!(refusal(&poisoned), ModelError::TensorNotFinite(_)));
}

#[test]
fn a_tokenizer_must_be_one_and_fit_the_model() {
    let broken = changed("tokenizer.json", |_| b"{}".to_vec());
    assert!(matches!(refusal(&broken), ModelError::Tokenizer(_)));
    let larger = changed("tokenizer.json", |bytes| {
        let mut json: Value = serde_json::from_slice(&bytes).expect("is JSON");
        json["model"]["vocab"]["unseen"] = json!(70_000);
        json.to_string().into_bytes()
    });
    assert!(matches!(refusal(&larger), ModelError::Tokenizer(_)));
    let other = changed("tokenizer.json", |bytes| {
        let mut json: Value = serde_json::from_slice(&bytes).expect("is JSON");
        json["decoder"] = json!(null);
        json.to_string().into_bytes()
    });
    assert!(matches!(refusal(&other), ModelError::Unsupported(_)));
}

#[test]
fn a_template_must_compile_and_cannot_run_for_ever() {
    let template = |text: &str| {
        let json = json!({ "chat_template": text }).to_string();
        changed("tokenizer_config.json", |_| json.into_bytes())
    };
    for bad in ["{% for", "{{", &"x".repeat(limits::TEMPLATE_BYTES_MAX + 1)] {
        assert!(matches!(refusal(&template(bad)), ModelError::Template(_)));
    }
    let endless =
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ a * b }}{% endfor %}{% endfor %}";
    let directory = template(endless);
    let chat = Chat::load(&ModelFiles::read(directory.path()).expect("reads")).expect("loads");
    let messages = [engine::Message {
        role: engine::Role::User,
        content: "Hi".into(),
    }];
    assert!(matches!(
        chat.prompt_tokens(&messages),
        Err(EngineError::Request(engine::RequestError::Template(_)))
    ));
    let absent = changed("config.json", |bytes| bytes);
    std::fs::remove_file(absent.path().join("tokenizer_config.json")).expect("removes");
    assert!(matches!(refusal(&absent), ModelError::Template(_)));
}

#[test]
fn flipped_and_cut_files_never_panic() {
    for name in ["config.json", "tokenizer_config.json"] {
        let bytes = std::fs::read(original().join(name)).expect("reads");
        let directory = changed(name, |bytes| bytes);
        let files_with = |bytes: &[u8]| {
            std::fs::write(directory.path().join(name), bytes).expect("writes");
            ModelFiles::read(directory.path()).expect("reads")
        };
        for place in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            let _ = engine::llama::Config::parse(&flipped);
            let _ = engine::bert::Config::parse(&flipped);
            let _ = engine::llama::Config::parse(&bytes[..place]);
        }
        for place in (0..bytes.len()).step_by(61) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            let _ = Chat::load(&files_with(&flipped));
        }
    }
    let weights = std::fs::read(original().join("model.safetensors")).expect("reads");
    for place in (0..4000).step_by(3) {
        let mut flipped = weights.clone();
        flipped[place] ^= 1 << (place % 8);
        let _ = engine::tensors::Stored::parse(&flipped);
        let _ = engine::tensors::Stored::parse(&weights[..place]);
    }
}

#[test]
fn a_wrong_root_is_refused_and_every_byte_of_every_file_counts() {
    let files = ModelFiles::read(&original()).expect("reads");
    let root = files.root();
    assert_eq!(root.to_string().parse(), Ok(root));
    assert!(files.expect_root(&root).is_ok());
    for name in NAMES {
        let directory = changed(name, |mut bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        });
        let files = ModelFiles::read(directory.path()).expect("reads");
        let found = files.root();
        assert_ne!(found, root);
        let refused = files.expect_root(&root).err();
        assert_eq!(
            refused,
            Some(WeightsError::WrongRoot {
                found,
                expected: root
            })
        );
    }
    let directory = changed("config.json", |bytes| bytes);
    std::fs::write(directory.path().join("README.md"), "not part of the model").expect("writes");
    assert_eq!(
        ModelFiles::read(directory.path()).expect("reads").root(),
        root
    );
    std::fs::remove_file(directory.path().join("tokenizer_config.json")).expect("removes");
    assert_ne!(
        ModelFiles::read(directory.path()).expect("reads").root(),
        root
    );
}

#[test]
fn the_root_is_the_documented_listing() {
    use sha2::{Digest, Sha256};
    let mut listing = Sha256::new();
    for name in NAMES {
        let bytes = std::fs::read(original().join(name)).expect("reads");
        listing.update(name);
        listing.update([0]);
        listing.update((bytes.len() as u64).to_le_bytes());
        listing.update(Sha256::digest(&bytes));
    }
    let root = ModelFiles::read(&original()).expect("reads").root();
    assert_eq!(root, ModelRoot(listing.finalize().into()));
}

#[test]
fn files_that_are_absent_too_large_or_no_files_are_refused() {
    let read = |directory: &TempDir| ModelFiles::read(directory.path()).err();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        let directory = changed(file, |bytes| bytes);
        std::fs::remove_file(directory.path().join(file)).expect("removes");
        assert_eq!(read(&directory), Some(WeightsError::Missing { file }));
        std::fs::create_dir(directory.path().join(file)).expect("creates");
        assert_eq!(read(&directory), Some(WeightsError::NotAFile { file }));
    }
    let directory = changed("config.json", |_| {
        vec![b' '; limits::CONFIG_BYTES_MAX as usize + 1]
    });
    assert_eq!(
        read(&directory),
        Some(WeightsError::TooLarge {
            file: "config.json",
            bytes: limits::CONFIG_BYTES_MAX + 1,
            bytes_max: limits::CONFIG_BYTES_MAX
        })
    );
    // A sparse file claims 1 TiB and holds nothing.
    let directory = changed("config.json", |bytes| bytes);
    let weights =
        std::fs::File::create(directory.path().join("model.safetensors")).expect("creates");
    weights.set_len(1 << 40).expect("is sparse");
    assert!(
        matches!(read(&directory), Some(WeightsError::TooLarge { bytes, .. }) if bytes == 1 << 40)
    );
}

#[test]
fn a_chat_model_is_no_embedder() {
    let files = ModelFiles::read(&original()).expect("reads");
    assert!(matches!(
        Embedder::load(&files).err(),
        Some(EngineError::Model(
            ModelError::Config(_) | ModelError::Unsupported(_)
        ))
    ));
}

#[test]
fn roots_that_are_not_64_small_hexadecimal_digits_are_refused() {
    let good = "0f".repeat(32);
    assert_eq!(good.parse(), Ok(ModelRoot([0x0f; 32])));
    for bad in [
        &good[1..],
        &good[2..],
        &format!("{good}0"),
        &good.to_uppercase(),
        &"0g".repeat(32),
        "",
    ] {
        assert!(bad.parse::<ModelRoot>().is_err(), "{bad}");
    }
}
