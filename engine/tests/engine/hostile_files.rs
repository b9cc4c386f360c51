//! Files that lie: every one ends in a typed error that names the file at fault, and none in a panic or a large
//! allocation.

use crate::changed::{changed, changed_json, original};
use crate::chat::{room, serve};
use engine::{Embedder, EngineError, Memory, weights};
use model::text::Text;
use model::weights::{Part, Weights};
use model::{File, FilesError, ModelError, ModelFiles, limits};
use serde_json::{Value, json};
use std::io::Cursor;

fn load(files: &ModelFiles) -> Result<(), EngineError> {
    serve(files, &room(64), &Memory::available()).map(|_| ())
}

fn refusal(files: &ModelFiles) -> ModelError {
    match load(files) {
        Err(EngineError::Model(error)) => error,
        other => panic!("not the model's fault: {other:?}"),
    }
}

fn with_config(key: &str, value: Value) -> ModelFiles {
    changed_json(File::Config, |config| config[key] = value.clone())
}

/// The weights with another header. The tensors' bytes stay.
fn with_header(change: impl Fn(Value) -> String) -> ModelFiles {
    changed(File::Weights, |bytes| {
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
    assert_eq!(load(&changed(File::Config, |bytes| bytes)), Ok(()));
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
        ("attention_bias", json!(true)),
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
        ("rope_scaling", json!({"type": "dynamic", "factor": 2.0})),
        (
            "rope_parameters",
            json!({"rope_type": "longrope", "rope_theta": 10_000.0}),
        ),
        ("partial_rotary_factor", json!(0.5)),
    ] {
        let error = refusal(&with_config(key, value));
        assert!(
            matches!(error, ModelError::Unsupported(_)),
            "{key}: {error}"
        );
    }
}

#[test]
fn a_huge_claimed_context_takes_no_more_than_the_memory() {
    let files = with_config("max_position_embeddings", json!(limits::POSITIONS_MAX));
    let served = serve(&files, &room(64), &Memory::available()).expect("64 tokens of it fit");
    assert_eq!(served.forward.shape().context, 64);
    let files = with_config("max_position_embeddings", json!(limits::POSITIONS_MAX));
    // All of it has 16 GiB of keys and values: two layers of two heads of 32 numbers, twice, in 32 bits.
    let refused = serve(&files, &room(usize::MAX), &Memory::of(1 << 30)).err();
    let Some(EngineError::Memory { needs, left }) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(needs.keys_values, (limits::POSITIONS_MAX * 1024) as u64);
    assert_eq!(*left, 1 << 30);
    assert_eq!(
        files.digest(File::Weights),
        None,
        "nothing was read of them"
    );
    let beyond = limits::POSITIONS_MAX + 1;
    let error = refusal(&with_config("max_position_embeddings", json!(beyond)));
    assert!(matches!(error, ModelError::Config(_)), "{error}");
}

#[test]
fn a_header_that_lies_is_refused() {
    let header = |files: &ModelFiles| {
        let error = refusal(files);
        assert!(matches!(error, ModelError::Weights { .. }), "{error}");
    };
    header(&changed(File::Weights, |_| Vec::new()));
    header(&changed(File::Weights, |_| vec![0xff; 64]));
    header(&changed(File::Weights, |_| {
        (1u64 << 30).to_le_bytes().to_vec()
    }));
    header(&changed(File::Weights, |mut bytes| {
        bytes.truncate(bytes.len() - 1);
        bytes
    }));
    header(&changed(File::Weights, |mut bytes| {
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
    assert_eq!(refusal(&removed), ModelError::TensorExtra("other".into()));
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
    let poisoned = changed(File::Weights, |mut bytes| {
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        bytes
    });
    assert!(matches!(refusal(&poisoned), ModelError::TensorNotFinite(_)));
}

#[test]
fn flipped_and_cut_files_never_panic() {
    for file in [File::Config, File::TokenizerConfig] {
        let bytes = original(file);
        for place in (0..bytes.len()).step_by(7) {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1 << (place % 8);
            let _ = model::decoder::Config::parse(&flipped, None);
            let _ = model::bert::Config::parse(&flipped);
            let _ = model::decoder::Config::parse(&bytes[..place], None);
        }
        for place in (0..bytes.len()).step_by(151) {
            let files = changed(file, |mut bytes| {
                bytes[place] ^= 1;
                bytes
            });
            let _ = load(&files);
            let _ = Text::of_chat(&files);
        }
    }
    let weights = original(File::Weights);
    for place in (0..4000).step_by(3) {
        let mut flipped = weights.clone();
        flipped[place] ^= 1 << (place % 8);
        let _ = opened(&flipped);
        let _ = opened(&weights[..place]);
    }
}

fn opened(bytes: &[u8]) -> Result<Weights, ModelError> {
    Weights::open(vec![Part {
        name: File::Weights.name().into(),
        bytes: bytes.len() as u64,
        content: Box::new(Cursor::new(bytes.to_vec())),
    }])
}

#[test]
fn a_directory_of_other_things_than_plain_files_is_refused_and_further_files_do_not_count() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |file: File| directory.path().join(file.name());
    let read = || weights::read(directory.path());
    random_model::write(directory.path()).expect("writes");
    let root = read().and_then(|files| files.root()).expect("reads");
    std::fs::write(directory.path().join("README.md"), "not part of the model").expect("writes");
    assert_eq!(read().and_then(|files| files.root()), Ok(root));
    std::fs::write(path(File::Gguf), original(File::Weights)).expect("writes");
    let (one, other) = (File::Gguf, File::Weights);
    assert_eq!(read().err(), Some(FilesError::TwoWeights { one, other }));
    std::fs::remove_file(path(File::Gguf)).expect("removes");
    for file in [File::Config, File::Weights, File::Tokenizer] {
        std::fs::remove_file(path(file)).expect("removes");
        assert_eq!(read().err(), Some(FilesError::Missing { file }));
        std::fs::create_dir(path(file)).expect("creates");
        let name = file.name().into();
        assert_eq!(read().err(), Some(FilesError::NotAFile { file: name }));
        std::fs::remove_dir(path(file)).expect("removes");
        std::fs::write(path(file), original(file)).expect("writes");
    }
    std::fs::write(
        path(File::Config),
        vec![b' '; limits::CONFIG_BYTES_MAX as usize + 1],
    )
    .expect("writes");
    assert_eq!(
        read().err(),
        Some(FilesError::TooLarge {
            file: File::Config.name().into(),
            bytes: limits::CONFIG_BYTES_MAX + 1,
            bytes_max: limits::CONFIG_BYTES_MAX
        })
    );
    // A sparse file claims more than 1 TiB and holds nothing.
    std::fs::write(path(File::Config), original(File::Config)).expect("writes");
    let weights = std::fs::File::create(path(File::Weights)).expect("creates");
    weights.set_len((1 << 40) + 1).expect("is sparse");
    assert!(
        matches!(read().err(), Some(FilesError::TooLarge { bytes, .. }) if bytes == (1 << 40) + 1)
    );
}

#[test]
fn a_chat_model_is_no_embedder() {
    let files = changed(File::Config, |bytes| bytes);
    let other =
        |error: &ModelError| matches!(error, ModelError::Config(_) | ModelError::Unsupported(_));
    assert!(
        matches!(Embedder::load(&files).err(), Some(EngineError::Model(error)) if other(&error))
    );
    assert!(Text::of_embedder(&files).is_err_and(|error| other(&error)));
}
