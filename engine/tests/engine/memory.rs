//! What a model takes is what was computed before it was loaded, and stays so: measured by the kernel, in processes of their own.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Instant;

use engine::decoder::{Decoder, Options, blocks_for};
use engine::sampling::{Constraints, Sampling};
use engine::scheduler::{Driver, Event, Limits};
use engine::{BlockTable, Forward, Memory, Packing, Row, Served, weights};
use kernels::{Kernels, Kind, KvKind};
use model::decoder::Config;
use model::weights::{Part, Weights};
use serde_json::{Map, json};

use crate::smollm2;

/// Tells the child which checkpoint to load and how.
const CHILD: &str = "CHRYSALIS_TEST_LOAD";
const NAME: &str = "memory::the_peak_of_loading_is_the_weights_and_a_tenth";

#[test]
fn the_peak_of_loading_is_the_weights_and_a_tenth() {
    if let Ok(child) = std::env::var(CHILD) {
        let (kind, directory) = child.split_once(' ').expect("a kind and a directory");
        return load(kind, Path::new(directory));
    }
    let directory = tempfile::tempdir().expect("there is room for a directory");
    write(directory.path());
    for kind in ["bf16", "q8", "q4"] {
        check_peak(kind, directory.path());
    }
}

#[test]
fn smollm2_takes_what_was_computed() {
    if let Some(directory) = smollm2::directory() {
        check_peak("as stored", &directory);
    }
}

fn check_peak(kind: &str, directory: &Path) {
    let child = Command::new(std::env::current_exe().expect("is a file"))
        .args(["--exact", NAME, "--nocapture"])
        .env(
            CHILD,
            format!("{} {}", kind.replace(' ', "-"), directory.display()),
        )
        .output();
    let [weights, computed, peak, used] = numbers(&child.expect("the test runs itself"));
    println!("{kind}: weights {weights}, all computed {computed}, peak {peak}, in use {used}");
    assert!(
        peak <= computed + weights / 10,
        "{kind}: {peak} of {computed}"
    );
    assert!(
        used <= computed + computed / 20 && used >= computed - computed / 20,
        "{kind}: {used} of {computed}"
    );
    assert!(
        peak * 20 >= weights * 19,
        "{kind}: nothing was loaded: {peak}"
    );
}

/// What a child says that it took.
fn numbers<const N: usize>(output: &Output) -> [u64; N] {
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let line = said.lines().find_map(|line| line.split_once("bytes: "));
    let numbers = line.expect("the child says what it took").1.split(' ');
    let numbers: Vec<u64> = numbers.map(|n| n.parse().expect("a number")).collect();
    numbers.try_into().expect("as many as are asked for")
}

fn load(kind: &str, directory: &Path) {
    let kind = Kind::ALL.into_iter().find(|known| known.name() == kind);
    let (config, open): (_, Box<dyn FnOnce() -> Weights>) = match kind {
        Some(_) => {
            let config = fs::read(directory.join("config.json")).expect("reads");
            let file = fs::File::open(directory.join("model.safetensors")).expect("opens");
            let part = Part {
                name: "model.safetensors".into(),
                bytes: file.metadata().expect("has a length").len(),
                content: Box::new(file),
            };
            let open = || Weights::open(vec![part]).expect("the header is whole");
            (Config::parse(&config, None), Box::new(open))
        }
        None => {
            let files = weights::read(directory).expect("the store holds whole models");
            let config = Config::parse(files.config(), files.generation_config());
            let open = move || files.open_weights().expect("the header is whole");
            (config, Box::new(open))
        }
    };
    let config = config.expect("a configuration");
    let options = Options {
        packing: kind.map_or(Packing::AsStored, Packing::All),
        cache: KvKind::F16,
        blocks: blocks_for(1, 256),
        context_max: 256,
        rows_max: 32,
        scored_max: 4,
    };
    let kernels = Kernels::new(kernels::Path::detect(), 1).expect("this processor's path");
    let (before, before_use) = (status("VmRSS:"), status("RssAnon:"));
    let weights = open();
    let needs = Decoder::needs(&config, &weights, &options);
    let decoder = Decoder::load(&config, weights, Arc::new(kernels), &options);
    let mut decoder = decoder.expect("the checkpoint loads");
    let peak = status("VmHWM:") - before;
    assert_eq!(needs.weights, decoder.packed().weight_bytes() as u64);
    assert_eq!(needs.keys_values, decoder.packed().cache_bytes() as u64);
    // Every block is written to, every buffer used.
    let table = [BlockTable((0..options.blocks as u32).collect())];
    let mut scores = Vec::new();
    for begin in (0..256).step_by(options.rows_max) {
        let rows = (0..options.rows_max).map(|row| Row {
            sequence: 0,
            token: (begin + row) as u32,
            position: (begin + row) as u32,
            scored: row < options.scored_max,
            keeps: false,
            kept: false,
        });
        let rows: Vec<Row> = rows.collect();
        let done = decoder.forward(&rows, &table, &mut scores);
        done.expect("it fits");
    }
    let used = status("RssAnon:") - before_use;
    println!("bytes: {} {} {peak} {used}", needs.weights, needs.total());
}

const GROWTH: &str = "CHRYSALIS_TEST_GROWTH";
const GROWTH_NAME: &str = "memory::ten_thousand_requests_leave_nothing_behind";
/// Requests before it is looked what they took: every buffer has its size by then.
const WARM: usize = 1_000;

#[test]
#[ignore = "ten thousand requests"]
fn ten_thousand_requests_leave_nothing_behind() {
    if let Ok(directory) = std::env::var(GROWTH) {
        return answer_many(Path::new(&directory), WARM + 10_000);
    }
    let models = random_model::models(env!("CARGO_TARGET_TMPDIR"), "random-model");
    let random = models.expect("the model is written").join("random-model");
    for model in [Some(random), smollm2::directory()].into_iter().flatten() {
        let child = Command::new(std::env::current_exe().expect("is a file"))
            .args(["--exact", GROWTH_NAME, "--ignored", "--nocapture"])
            .env(GROWTH, &model)
            .output();
        let [warm, all] = numbers(&child.expect("the test runs itself"));
        let name = model.file_name().expect("a directory");
        println!("{name:?}: bytes after {WARM} requests {warm}, after all {all}");
        // A kilobyte that each request left behind would be ten times as much.
        assert!(all <= warm + (1 << 20), "{name:?}: {warm} and {all}");
    }
}

/// Answers requests of many kinds by the thread of a guest, eight at once: also cancelled, refused and late ones.
fn answer_many(directory: &Path, requests: usize) {
    let files = weights::read(directory).expect("the model is whole");
    let served = crate::chat::serve(&files, &crate::chat::room(256), &Memory::available());
    let Served {
        forward, tokens, ..
    } = served.expect("loads");
    let driver = Driver::start(forward, tokens.clone(), Limits::default()).expect("a thread");
    let mut warm = 0;
    for begin in (0..requests).step_by(8) {
        if begin == WARM {
            warm = status("RssAnon:");
        }
        let (ended, ends) = channel();
        for number in begin..begin + 8 {
            let sampling = Sampling {
                temperature: (number % 3) as f32 / 2.0,
                top_k: (number % 5) as u32 * 10,
                repetition: 1.0 + (number % 2) as f32 / 10.0,
                logprobs: [None, Some(5), Some(20)][number % 3],
                seed: number as u64,
                ..Sampling::greedy(1 + number as u32 % 4)
            };
            let length = match number % 97 {
                0 => 1_000,
                _ => 1 + number % 23,
            };
            let job = tokens.job(vec![5; length], sampling, Constraints::default());
            let late = (number % 31 == 0).then(Instant::now);
            let (ended, hung_up) = (ended.clone(), number % 13 == 0);
            let listener = Box::new(move |event| {
                if !matches!(event, Event::Started { .. } | Event::Token { .. }) {
                    ended.send(()).expect("the test waits");
                }
                match hung_up {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            let submitted = driver.submit(job.expect("in range"), late, listener);
            submitted.expect("eight wait at most");
        }
        drop(ended);
        assert_eq!(ends.iter().count(), 8, "each ends once");
    }
    println!("bytes: {warm} {}", status("RssAnon:"));
}

/// Bytes that a line of `/proc/self/status` says.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this is Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line
        .expect("is there")
        .trim()
        .trim_end_matches(" kB")
        .parse::<u64>();
    kib.expect("a number") * 1024
}

/// A Llama of 24 million parameters in bf16.
fn write(directory: &Path) {
    let config = json!({
        "model_type": "llama", "vocab_size": 16_000, "hidden_size": 512, "intermediate_size": 1536,
        "num_hidden_layers": 5, "num_attention_heads": 8, "num_key_value_heads": 4,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": 2,
    });
    let text = config.to_string();
    let plan = Config::parse(text.as_bytes(), None)
        .expect("a configuration")
        .plan();
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in plan.wanted() {
        let begin = end;
        end += 2 * shape.iter().product::<usize>();
        let tensor = json!({"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.into(), tensor);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut weights = (header.len() as u64).to_le_bytes().to_vec();
    weights.extend_from_slice(header.as_bytes());
    // Small numbers of both signs.
    weights.extend((0..end / 2).flat_map(|n| [(n * 7) as u8, 0x3c | (n as u8 & 1) << 7]));
    fs::write(directory.join("config.json"), text).expect("writes");
    fs::write(directory.join("model.safetensors"), weights).expect("writes");
}
