//! A directory that holds no whole model is refused with every file at once, and with the words to leave out what can be left out.

use std::fs;
use std::os::unix::fs::symlink;

use image_builder::error::Fault;

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
