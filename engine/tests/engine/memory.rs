//! Loading holds the packed weights and little else: measured by the kernel, in a process of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use engine::decoder::{Decoder, Options, blocks_for};
use engine::{Forward, Packing};
use kernels::{Kernels, Kind, KvKind};
use model::decoder::Config;
use model::weights::{Part, Weights};
use serde_json::{Map, json};

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
        let child = Command::new(std::env::current_exe().expect("is a file"))
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, format!("{kind} {}", directory.path().display()))
            .output();
        let output = child.expect("the test runs itself");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        let line = said.lines().find_map(|line| line.split_once("loaded: "));
        let numbers = line.expect("the child says what it took").1.split(' ');
        let numbers: Vec<u64> = numbers.map(|n| n.parse().expect("a number")).collect();
        let [weights, computed, peak] = numbers[..] else {
            panic!("{numbers:?}")
        };
        println!("{kind}: weights {weights}, with cache and buffers {computed}, peak {peak}");
        assert!(
            peak <= computed + weights / 10,
            "{kind}: {peak} of {computed}"
        );
        assert!(
            peak * 20 >= weights * 19,
            "{kind}: nothing was loaded: {peak}"
        );
    }
}

fn load(kind: &str, directory: &Path) {
    let kind = Kind::ALL
        .into_iter()
        .find(|known| known.name() == kind)
        .expect("a kind");
    let config = fs::read(directory.join("config.json")).expect("reads");
    let config = Config::parse(&config, None).expect("a configuration");
    let options = Options {
        packing: Packing::All(kind),
        cache: KvKind::F16,
        blocks: blocks_for(1, 256),
        context_max: 256,
        rows_max: 32,
        scored_max: 4,
    };
    let kernels = Kernels::new(kernels::Path::detect(), 1).expect("this processor's path");
    let before = status("VmRSS:");
    let file = fs::File::open(directory.join("model.safetensors")).expect("opens");
    let part = Part {
        name: "model.safetensors".into(),
        bytes: file.metadata().expect("has a length").len(),
        content: Box::new(file),
    };
    let weights = Weights::open(vec![part]).expect("the header is whole");
    let decoder = Decoder::load(&config, weights, Arc::new(kernels), &options);
    let mut decoder = decoder.expect("the checkpoint loads");
    let peak = status("VmHWM:") - before;
    let shape = *decoder.shape();
    let weights = decoder.packed().weight_bytes();
    let cache = shape.blocks * engine::BLOCK_TOKENS * shape.kv_token_bytes;
    assert_eq!(cache, decoder.packed().cache_bytes());
    let buffers = 4 * shape.rows_max * (4 * config.hidden + 2 * config.intermediate);
    println!("loaded: {weights} {} {peak}", weights + cache + buffers);
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
