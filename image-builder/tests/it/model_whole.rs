//! A directory that holds no whole model is refused with every file at once, and with the words to leave out what can be left out.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use ::model::Family;
use image_builder::error::Fault;
use serde_json::{Map, Value, json};

use crate::model::{POINTER, read, refusal, small_model, tensors};

#[test]
fn everything_that_is_refused_is_told_at_once_with_the_words_to_leave_it_out() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path().join("model");
    small_model(&model, false);
    let bad: [(&str, &[u8], &str); 9] = [
        ("a'b c.txt", b"x", "a'b c.txt: has a name"),
        ("d/x.pkl", b"x", "d/x.pkl: can hold a pickle"),
        ("empty.json", b"", "empty.json: is empty"),
        ("modeling.py", b"x", "modeling.py: is a program"),
        (
            "more.safetensors",
            POINTER.as_bytes(),
            "more.safetensors: is a Git LFS pointer",
        ),
        (
            "special_tokens_map.json",
            b"{\"a\":1,\"a\":2}",
            "special_tokens_map.json: is not JSON",
        ),
        (
            "tokenizer.model",
            POINTER.as_bytes(),
            "tokenizer.model: is a Git LFS pointer",
        ),
        (
            "training_args.bin",
            b"x",
            "training_args.bin: can hold a pickle",
        ),
        (
            "x-00001-of-00001.safetensors",
            &tensors(3),
            "x-00001-of-00001.safetensors: is a shard",
        ),
    ];
    for (path, bytes, _) in bad {
        fs::write(model.join(path), bytes).unwrap();
    }
    symlink("config.json", model.join("link.json")).unwrap();
    let error = read(&model, &[]).expect_err("refused");
    assert_eq!(error.fault(), Fault::Model);
    let said = error.to_string();
    let mut lines: Vec<&str> = said.lines().collect();
    let words = lines.pop().expect("the last line has the words");
    assert_eq!(lines.len(), bad.len() + 1, "{said}");
    for (_, _, expected) in bad {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{expected}: {said}"
        );
    }
    assert!(
        words.starts_with("to pack the model without: --leave-out "),
        "{said}"
    );
    assert!(
        words.contains(" --leave-out link.json") && words.contains("--leave-out 'a'\\''b c.txt'"),
        "{words}"
    );
    // With these words it is packed.
    let mut left_out: Vec<&str> = bad.iter().map(|(path, _, _)| *path).collect();
    left_out.push("link.json");
    let packed = read(&model, &left_out).expect("without them");
    assert_eq!(packed.files().len(), 6);
}

#[test]
fn what_a_model_cannot_do_without_is_not_offered_to_be_left_out() {
    let said = refusal(|model| {
        fs::write(model.join("config.json"), POINTER).unwrap();
        fs::write(model.join("model.safetensors"), POINTER).unwrap();
    });
    assert_eq!(said.lines().count(), 2, "{said}");
    assert!(!said.contains("--leave-out"), "{said}");
    let said = refusal(|model| fs::remove_file(model.join("config.json")).unwrap());
    assert_eq!(
        said,
        "config.json: is not there, and no model is loaded without it"
    );
    let said = refusal(|model| {
        let index =
            "{\"weight_map\": {\"t\": \"model.safetensors\", \"u\": \"model-2.safetensors\"}}";
        fs::write(model.join("model.safetensors.index.json"), index).unwrap();
    });
    assert_eq!(
        said,
        "model.safetensors.index.json: names the shard `model-2.safetensors`, which is not beside it"
    );
    // Weights in another form alone.
    let said = refusal(|model| {
        fs::rename(
            model.join("model.safetensors"),
            model.join("pytorch_model.bin"),
        )
        .unwrap();
    });
    assert!(
        said.contains("pytorch_model.bin: can hold a pickle")
            && said.contains("has no file of weights"),
        "{said}"
    );
}

/// A whole llama of one layer, four wide, with four tokens.
fn tiny_llama(directory: &Path) -> Vec<(String, Vec<usize>)> {
    let config = json!({
        "model_type": "llama", "vocab_size": 4, "hidden_size": 4, "intermediate_size": 4, "num_hidden_layers": 1,
        "num_attention_heads": 1, "num_key_value_heads": 1, "max_position_embeddings": 8, "rms_norm_eps": 1e-6,
        "tie_word_embeddings": true, "eos_token_id": 3, "hidden_act": "silu",
    });
    let tokenizer =
        json!({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "d": 3}, "merges": []}});
    fs::write(directory.join("config.json"), config.to_string()).unwrap();
    fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let layer = |name: &str| format!("model.layers.0.{name}.weight");
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![4, 4]),
        ("model.norm.weight".to_owned(), vec![4]),
        (layer("input_layernorm"), vec![4]),
        (layer("post_attention_layernorm"), vec![4]),
    ];
    for part in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        tensors.push((layer(&format!("self_attn.{part}")), vec![4, 4]));
    }
    for part in ["gate_proj", "up_proj", "down_proj"] {
        tensors.push((layer(&format!("mlp.{part}")), vec![4, 4]));
    }
    weights(directory, &tensors);
    tensors
}

fn weights(directory: &Path, tensors: &[(String, Vec<usize>)]) {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in tensors {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}),
        );
    }
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length[..], header.as_bytes(), &vec![0; end]].concat();
    fs::write(directory.join("model.safetensors"), file).unwrap();
}

#[test]
fn a_model_of_a_family_that_guests_load_is_packed_only_if_they_could() {
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path();
    let tensors = tiny_llama(model);
    let read = || read(model, &[]);
    assert_eq!(read().expect("whole").family(), Some(Family::Llama));

    let refused = |says: &str| {
        let error = read().expect_err(says);
        assert_eq!(error.fault(), Fault::Model);
        assert!(
            error.to_string().contains("no guest of this version"),
            "{error}"
        );
        assert!(error.to_string().contains(says), "{says}: {error}");
    };
    weights(model, &tensors[1..]);
    refused("no tensor model.embed_tokens.weight");
    let mut other = tensors.clone();
    other[0].1 = vec![4, 8];
    weights(model, &other);
    refused("tensor model.embed_tokens.weight has shape [4, 8]");
    other = tensors.clone();
    other.push(("model.layers.1.mlp.up_proj.weight".into(), vec![4]));
    weights(model, &other);
    refused("a tensor model.layers.1.mlp.up_proj.weight, which is no part of the model");
    weights(model, &tensors);

    let tokenizer = fs::read_to_string(model.join("tokenizer.json")).unwrap();
    fs::write(
        model.join("tokenizer.json"),
        tokenizer.replace("\"d\":3", "\"d\":4"),
    )
    .unwrap();
    refused("it has a token 4");
    fs::write(model.join("tokenizer.json"), "{}").unwrap();
    refused("tokenizer.json: missing field");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    refused("no tokenizer.json");
    fs::write(model.join("tokenizer.json"), &tokenizer).unwrap();

    let config = fs::read_to_string(model.join("config.json")).unwrap();
    fs::write(
        model.join("config.json"),
        config.replace("\"silu\"", "\"relu\""),
    )
    .unwrap();
    refused("relu");
    // What no guest knows is packed as the whole files that it is; the program warns.
    fs::write(
        model.join("config.json"),
        config.replace("\"llama\"", "\"mamba\""),
    )
    .unwrap();
    assert_eq!(read().expect("whole").family(), None);
    fs::write(model.join("config.json"), &config).unwrap();
    assert_eq!(read().expect("whole again").family(), Some(Family::Llama));
}
