//! A GGUF becomes a volume with the small files that are made of it.

use std::fs;
use std::path::Path;

use crate::gguf_of_texts::{byte_level, gguf_of};
use crate::model::{pack, read};
use image_builder::formats::gguf::small_files;
use registers::Digest32;
use serde_json::{Value, json};

/// A Llama of one layer.
fn llama() -> Vec<(&'static str, Value)> {
    let mut values = byte_level();
    values.extend([
        ("llama.block_count", json!(1)),
        ("llama.context_length", json!(64)),
        ("llama.embedding_length", json!(8)),
        ("llama.feed_forward_length", json!(16)),
        ("llama.attention.head_count", json!(2)),
        ("llama.attention.layer_norm_rms_epsilon", json!(0.5)),
    ]);
    values
}

/// Its file, with all tensors.
fn whole(values: &[(&str, Value)]) -> Vec<u8> {
    let tensors: [(&str, &[u64]); 11] = [
        ("token_embd", &[8, 512]),
        ("output_norm", &[8]),
        ("blk.0.attn_norm", &[8]),
        ("blk.0.attn_q", &[8, 8]),
        ("blk.0.attn_k", &[8, 8]),
        ("blk.0.attn_v", &[8, 8]),
        ("blk.0.attn_output", &[8, 8]),
        ("blk.0.ffn_norm", &[8]),
        ("blk.0.ffn_gate", &[8, 16]),
        ("blk.0.ffn_up", &[8, 16]),
        ("blk.0.ffn_down", &[16, 8]),
    ];
    gguf_of(values, &tensors)
}

fn paths(directory: &Path) -> Vec<String> {
    let read = read(directory, &[]).expect("may be packed");
    read.files().iter().map(|file| file.path.clone()).collect()
}

#[test]
fn the_small_files_of_a_gguf_are_made_and_described_and_lie_beside_the_volume() {
    let directory = tempfile::tempdir().expect("a directory");
    let (model, out) = (directory.path().join("model"), directory.path().join("out"));
    fs::create_dir(&model).expect("made");
    let file = model.join("Tiny.Q4_1.gguf");
    fs::write(&file, whole(&llama())).expect("written");
    let made = small_files(&file).expect("is understood");
    let names = [
        "config.json",
        "model.gguf",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(paths(&model), names);
    assert_eq!(paths(&file), names, "the file alone is the model");
    let description = pack(&file, &out).expect("packs");
    for (name, content) in &made {
        let listed = description.files.iter().find(|file| file.path == *name);
        assert_eq!(listed.map(|file| file.sha256), Some(Digest32::of(content)));
        assert_eq!(fs::read(out.join(name)).expect("lies beside"), *content);
    }
    // What lies beside the GGUF is taken as it is.
    fs::write(model.join("config.json"), b"{}").expect("written");
    let own = read(&model, &[]).expect("may be packed");
    assert_eq!(
        own.made().keys().collect::<Vec<_>>(),
        ["tokenizer.json", "tokenizer_config.json"]
    );
    assert_eq!(own.files()[0].bytes, 2);
}

#[test]
fn a_gguf_that_is_not_understood_is_refused_with_its_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("a.gguf");
    let refused = |bytes: Vec<u8>| {
        fs::write(&file, bytes).expect("written");
        read(directory.path(), &[]).expect_err("refused")
    };
    let mut odd = llama();
    odd.retain(|(key, _)| *key != "tokenizer.ggml.pre");
    let error = refused(whole(&odd));
    let begin = "model.gguf: its small files cannot be made: ";
    assert!(error.to_string().starts_with(begin), "{error}");
    assert!(
        error
            .to_string()
            .contains("does not name its pre-tokenizer"),
        "{error}"
    );
    let mut cut = whole(&llama());
    cut.truncate(cut.len() - 8);
    assert!(refused(cut).to_string().contains("no whole GGUF file"));
    let link = directory.path().join("b.gguf");
    std::os::unix::fs::symlink(&file, &link).expect("linked");
    assert!(read(&link, &[]).is_err());
}
