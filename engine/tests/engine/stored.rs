//! A model's directory as it is opened to be streamed: the same root and the same model as held in memory, and refusals by name.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use engine::decoder::{Decoder, Options, blocks_for};
use engine::stored::{Stored, StoredError};
use engine::{Packing, weights};
use kernels::{Kernels, KvKind};
use model::decoder::Config;

use crate::checkpoint::Reference;

fn load(stored: &Stored) -> Decoder {
    let config = Config::parse(stored.config(), None).expect("a decoder's");
    let kernels = Kernels::new(kernels::Path::Portable, 1).expect("every processor has it");
    let options = Options {
        packing: Packing::AsStored,
        cache: KvKind::F16,
        blocks: blocks_for(1, 64),
        context_max: 64,
        rows_max: 16,
        scored_max: 1,
    };
    let weights = stored.weights().expect("opens");
    Decoder::load(&config, weights, Arc::new(kernels), &options).expect("loads")
}

#[test]
fn the_root_of_what_was_streamed_is_that_of_the_files() {
    let directory = Reference::decoder("llama2").directory();
    let stored = Stored::open(directory.path()).expect("opens");
    let decoder = load(&stored);
    let root = weights::read(directory.path())
        .and_then(|files| files.root())
        .expect("reads");
    assert_eq!(stored.root(decoder.sources()), Ok(root));
    let path = directory.path().join("config.json");
    let mut config = fs::read(&path).expect("reads");
    config.push(b' ');
    fs::write(&path, config).expect("writes");
    let changed = Stored::open(directory.path()).expect("opens");
    assert_ne!(changed.root(decoder.sources()), Ok(root));
}

#[test]
fn shards_are_one_model_and_have_a_root_with_their_index() {
    let directory = Reference::decoder("qwen3").directory();
    let whole = directory.path().join("model.safetensors");
    let shard = "model-00001-of-00001.safetensors";
    fs::rename(whole, directory.path().join(shard)).expect("renames");
    let stored = Stored::open(directory.path()).expect("opens");
    let refused = StoredError::NotOfARoot(shard.into());
    let decoder = load(&stored);
    assert_eq!(stored.root(decoder.sources()), Err(refused));
    let names = stored.weights().expect("opens");
    let names = names
        .tensors()
        .map(|tensor| (tensor.name.clone(), shard.into()));
    let map: serde_json::Map<String, serde_json::Value> = names.collect();
    let index = serde_json::json!({ "weight_map": map }).to_string();
    fs::write(directory.path().join("model.safetensors.index.json"), index).expect("writes");
    let stored = Stored::open(directory.path()).expect("opens");
    let root = weights::read(directory.path())
        .and_then(|files| files.root())
        .expect("reads");
    assert_eq!(stored.root(decoder.sources()), Ok(root));
}

#[test]
fn what_is_no_model_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("there is room");
    let check = |expected: StoredError| {
        assert_eq!(Stored::open(directory.path()).err(), Some(expected));
    };
    let write = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content);
    check(StoredError::Missing("config.json"));
    write("config.json", &vec![b' '; 1 << 20]).expect("writes");
    check(StoredError::TooLarge {
        name: "config.json",
        bytes_max: model::limits::CONFIG_BYTES_MAX,
    });
    write("config.json", b"{}").expect("writes");
    check(StoredError::NoWeights);
    fs::create_dir(directory.path().join("a.safetensors")).expect("creates");
    check(StoredError::NotAFile("a.safetensors".into()));
    fs::remove_dir(directory.path().join("a.safetensors")).expect("removes");
    write("a.gguf", b"").expect("writes");
    write("model.safetensors", b"").expect("writes");
    check(StoredError::OtherWeights("a.gguf".into()));
    fs::remove_file(directory.path().join("a.gguf")).expect("removes");
    let stored = Stored::open(directory.path()).expect("opens");
    assert!(stored.weights().is_err());
    assert_eq!(
        stored.needed("tokenizer.json"),
        Err(StoredError::Missing("tokenizer.json"))
    );
    assert!(Stored::open(Path::new("/nowhere")).is_err());
}
