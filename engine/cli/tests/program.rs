//! The program, as a person starts it.

#[path = "../../tests/engine/checkpoint.rs"]
mod checkpoint;

use std::path::Path;
use std::process::{Command, Output};

use checkpoint::Reference;
use serde_json::{Value, json};

fn engine(arguments: &[&str]) -> Output {
    let program = Command::new(env!("CARGO_BIN_EXE_engine"))
        .args(arguments)
        .output();
    program.expect("the program starts")
}

/// The standard output of a run that must succeed.
fn done(arguments: &[&str]) -> String {
    let output = engine(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    String::from_utf8(output.stdout).expect("is text")
}

/// What a run that must fail says.
fn failed(arguments: &[&str], code: i32) -> String {
    let output = engine(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    String::from_utf8(output.stderr).expect("is text")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("is text")
}

#[test]
fn misuse_and_failure_are_told_apart() {
    for arguments in [
        &[][..],
        &["run"],
        &["bench"],
        &["run", "m", "--kind", "q5"],
        &["pack", "m"],
    ] {
        failed(arguments, 2);
    }
    assert!(
        failed(&["run", "/nowhere.gguf", "--prompt", "x"], 1)
            .starts_with("engine: the model /nowhere.gguf")
    );
    let help = done(&["--help"]);
    for command in ["run", "bench", "pack", "compare", "Exit code"] {
        assert!(help.contains(command), "{help}");
    }
}

#[test]
fn a_packed_model_gives_the_same_bits_with_any_number_of_threads() {
    let model = Reference::decoder("qwen3").directory();
    let out = tempfile::tempdir().expect("a directory");
    let (a, b) = (out.path().join("a"), out.path().join("b"));
    let digest = done(&["pack", text(model.path()), text(&a), "--kind", "q8"]);
    assert_eq!(
        digest[..64],
        done(&["pack", text(model.path()), text(&b), "--kind", "q8"])[..64]
    );
    let packed =
        |directory: &Path| std::fs::read(directory.join("model.packed")).expect("is there");
    assert!(packed(&a) == packed(&b));
    assert!(failed(&["pack", text(model.path()), text(&a)], 1).contains("exists"));

    let record = |model: &Path, name: &str, more: &[&str]| {
        let path = out.path().join(name);
        let run = [
            "run",
            text(model),
            "--prompt",
            "Hello",
            "--prompt",
            "Zażółć",
            "--tokens",
            "12",
        ];
        done(&[&run[..], &["--record", text(&path)], more].concat());
        path
    };
    let first = record(&a, "first", &["--threads", "1"]);
    let second = record(&a, "second", &["--threads", "3"]);
    assert!(done(&["compare", text(&first), text(&second)]).starts_with("equal: 2 completions"));
    // Not the same file, so a note; but the same bits.
    let unpacked = record(model.path(), "unpacked", &["--kind", "q8"]);
    assert!(done(&["compare", text(&first), text(&unpacked)]).contains("equal: 2 completions"));
    let other = record(model.path(), "other", &["--kind", "q4"]);
    let output = engine(&["compare", text(&first), text(&other)]);
    let told = String::from_utf8(output.stdout).expect("is text");
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("completion 0: token 0"), "{told}");
    failed(&["compare", text(&first), "/nowhere"], 1);
}

#[test]
fn a_damaged_file_is_refused() {
    let model = Reference::decoder("smollm2").directory();
    let out = tempfile::tempdir().expect("a directory");
    let packed = out.path().join("packed");
    done(&["pack", text(model.path()), text(&packed)]);
    let file = packed.join("model.packed");
    let mut bytes = std::fs::read(&file).expect("is there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("can be written");
    let told = failed(&["run", text(&packed), "--prompt", "x"], 1);
    assert!(told.contains("damaged"), "{told}");
}

#[test]
fn an_answer_as_json_is_one_line_and_a_seed_repeats_it() {
    let model = Reference::decoder("llama2").directory();
    let run = |seed| {
        let hot = [
            "--temperature",
            "2",
            "--tokens",
            "16",
            "--json",
            "--seed",
            seed,
        ];
        let line = done(&[&["run", text(model.path()), "--prompt", "Hello"], &hot[..]].concat());
        assert_eq!(line.lines().count(), 1);
        let answer: Value = serde_json::from_str(&line).expect("is JSON");
        answer["tokens"].clone()
    };
    assert_eq!(run("1"), run("1"));
    assert_ne!(run("1"), run("2"));
}

#[test]
fn an_embedder_prints_a_unit_vector() {
    let model = Reference::parse(checkpoint::BERT).directory();
    let line = done(&["run", text(model.path()), "--prompt", "hello world"]);
    let answer: Value = serde_json::from_str(&line).expect("is JSON");
    let vector: Vec<f64> = serde_json::from_value(answer["vector"].clone()).expect("numbers");
    let length: f64 = vector.iter().map(|x| x * x).sum();
    assert!(
        vector.len() == 64 && (length - 1.0).abs() < 1e-5,
        "{length}"
    );
}

#[test]
fn a_cross_encoder_scores_each_document_and_makes_no_vector() {
    let model = Reference::parse(checkpoint::RERANKER).directory();
    let run = ["run", text(model.path()), "--prompt", "hello world"];
    let lines = done(&[&run[..], &["--document", "abc", "--document", "xyz xyz"]].concat());
    let scored = lines.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("is JSON");
        let score = line["score"].as_f64().expect("a number");
        (line["document"].clone(), score.to_bits())
    });
    let scored: Vec<_> = scored.collect();
    assert_eq!([&scored[0].0, &scored[1].0], [&json!(0), &json!(1)]);
    assert_ne!(scored[0].1, scored[1].1);
    assert!(failed(&run, 1).contains("--document"));
    let chat = Reference::decoder("llama2").directory();
    let told = failed(
        &["run", text(chat.path()), "--prompt", "a", "--document", "b"],
        1,
    );
    assert!(told.contains("this one chats"), "{told}");
}

#[test]
fn a_model_that_needs_more_memory_is_refused_with_the_figures() {
    for model in [
        Reference::decoder("llama2").directory(),
        Reference::parse(checkpoint::BERT).directory(),
    ] {
        let told = failed(
            &["run", text(model.path()), "--prompt", "x", "--memory", "1"],
            1,
        );
        assert!(
            told.contains("the model needs") && told.contains("1 MiB are left"),
            "{told}"
        );
    }
}

#[test]
fn options_of_the_sampler_do_what_they_say() {
    let model = Reference::decoder("llama2").directory();
    let answer = |more: &[&str]| -> Value {
        let run = [
            "run",
            text(model.path()),
            "--prompt",
            "Hello",
            "--tokens",
            "6",
            "--json",
        ];
        serde_json::from_str(&done(&[&run[..], more].concat())).expect("is JSON")
    };
    let forced = answer(&["--bias", "7=100", "--logprobs", "5"]);
    assert_eq!(forced["tokens"], json!([7, 7, 7, 7, 7, 7]));
    let logprobs = forced["logprobs"].as_array().expect("one for each token");
    assert_eq!(logprobs.len(), 6);
    assert_eq!(logprobs[0]["top"].as_array().map(Vec::len), Some(5));
    // The best of one is the best.
    let hot = ["--temperature", "2", "--top-k", "1"];
    assert_eq!(answer(&hot)["tokens"], answer(&[])["tokens"]);
    let told = |more: &[&str]| {
        failed(
            &[&["run", text(model.path()), "--prompt", "x"], more].concat(),
            1,
        )
    };
    assert!(told(&["--min-p", "2"]).contains("min_p is out of range"));
    for bias in ["7", "x=1", "7=inf"] {
        failed(
            &["run", text(model.path()), "--prompt", "x", "--bias", bias],
            2,
        );
    }
}

#[test]
fn a_benchmark_names_its_machine_and_measures_random_weights() {
    let short = [
        "--rounds",
        "1",
        "--tokens",
        "2",
        "--prompt",
        "33",
        "--streams",
        "3",
    ];
    for kind in ["q8", "q4", "bf16", "f32"] {
        let shape = [
            "bench",
            "--shape",
            "tiny",
            "--json",
            "--kind",
            kind,
            "--threads",
            "1,2",
        ];
        let reports: Value =
            serde_json::from_str(&done(&[&shape[..], &short].concat())).expect("is JSON");
        assert_eq!(reports.as_array().map(Vec::len), Some(2));
        for report in reports.as_array().into_iter().flatten() {
            assert!(
                report["machine"]["path"].is_string() && report["machine"]["engine"].is_string()
            );
            let lines = report["lines"].as_array().expect("a list");
            assert_eq!(lines.len(), 3);
            assert!(
                lines.iter().all(|line| line["ours"].as_f64() > Some(0.0)),
                "{report}"
            );
        }
    }
    let model = Reference::decoder("mistral").directory();
    let table = done(
        &[
            &[
                "bench",
                text(model.path()),
                "--what",
                "decode",
                "--kind",
                "q8",
            ],
            &short[..],
        ]
        .concat(),
    );
    assert!(
        table.contains("| decode, one stream | tokens/s |"),
        "{table}"
    );
}
