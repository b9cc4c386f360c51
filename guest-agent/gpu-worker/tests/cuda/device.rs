//! On a GPU, with cubins of these kernels: `cargo test -p gpu-worker --test cuda device -- --ignored --nocapture`.
//!
//! **Never run on one** (unverified on hardware). Without a driver each test says "not run: no device", and fails if
//! `CHRYSALIS_TEST_DEVICE` is set. `CHRYSALIS_CUBINS` names the directory of the cubins, as an image has it by default.

use std::io::{Cursor, Read};
use std::path::PathBuf;
use std::time::Instant;

use engine::sampling::{Constraints, Sampling};
use engine::scheduler::Tokens;
use engine::{BlockTable, Choosers, Forward, Packing, Row};
use gpu_worker::cuda::{CudaError, CudaForward};
use kernels::Kind;
use model::decoder::Config;
use model::weights::{Part, Weights};
use serde_json::{Map, json};

use crate::checkpoint::Reference;
use crate::{decoder, flex};

/// The cubins, where there is a device.
fn cubins() -> Option<PathBuf> {
    let named = std::env::var_os("CHRYSALIS_CUBINS");
    let cubins = named.map_or_else(|| PathBuf::from("/usr/lib/chrysalis/cubins"), PathBuf::from);
    let model = Reference::decoder("llama3").directory();
    match CudaForward::load(model.path(), None, Some(1), 256, &cubins) {
        Ok((_, _, facts, _)) => println!("on {}", facts.device),
        Err(
            error @ (CudaError::NoDriver
            | CudaError::Count(_)
            | CudaError::Call { call: "cuInit", .. }),
        ) => {
            assert!(
                std::env::var_os("CHRYSALIS_TEST_DEVICE").is_none(),
                "not run: no device: {error}"
            );
            println!("not run: no device: {error}");
            return None;
        }
        Err(error) => panic!("{error}"),
    }
    Some(cubins)
}

#[test]
#[ignore = "needs an H100"]
fn the_emulations_tests_hold_on_a_device() {
    let Some(cubins) = cubins() else { return };
    decoder::families(&cubins);
    decoder::bits(&cubins);
    decoder::choices(&cubins);
    decoder::costs(&cubins);
    flex::kernels(&cubins);
}

/// Rows of so many sequences, one each at `position`.
fn completions(count: u32, position: u32) -> (Vec<Row>, Vec<BlockTable>) {
    let row = |sequence: u32| Row {
        sequence: sequence as usize,
        token: (sequence * 31 + position * 7) % 250,
        position,
        scored: true,
        keeps: false,
        kept: false,
    };
    let table = |sequence: u32| BlockTable((0..4).map(|block| sequence * 4 + block).collect());
    (
        (0..count).map(row).collect(),
        (0..count).map(table).collect(),
    )
}

#[test]
#[ignore = "needs an H100"]
fn a_thousand_runs_give_the_same_bits() {
    let Some(cubins) = cubins() else { return };
    let model = Reference::decoder("qwen3").directory();
    for kind in [Kind::Bf16, Kind::Q8, Kind::Q4] {
        let loaded = CudaForward::load(
            model.path(),
            Some(Packing::All(kind)),
            Some(16),
            128,
            &cubins,
        );
        let mut gpu = loaded.unwrap().0;
        let (mut wanted, mut scores) = (None, Vec::new());
        for run in 0..1000 {
            let (rows, tables) = completions([1, 4, 16, 64][run % 4], 0);
            gpu.forward(&rows, &tables, &mut scores).unwrap();
            let first: Vec<u32> = scores[..gpu.shape().vocabulary]
                .iter()
                .map(|x| x.to_bits())
                .collect();
            assert!(
                *wanted.get_or_insert(first.clone()) == first,
                "{kind:?}, run {run}"
            );
        }
    }
}

/// Numbers of some hundredths in bf16, as many as are asked for.
struct Random(u64);

impl Read for Random {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        for pair in out.chunks_mut(2) {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let number = ((self.0 >> 40) as u16 & 0x807f) | 0x3c80;
            pair.copy_from_slice(&number.to_le_bytes()[..pair.len()]);
        }
        Ok(out.len())
    }
}

/// Weights of a configuration from a counter, of which nothing is ever held.
fn random(config: &Config) -> Weights {
    let plan = config.plan();
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in plan.wanted() {
        let bytes = 2 * shape.iter().product::<usize>();
        header.insert(
            name.to_owned(),
            json!({"dtype": "BF16", "shape": shape, "data_offsets": [end, end + bytes]}),
        );
        end += bytes;
    }
    let header = serde_json::Value::from(header).to_string();
    let begin = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    let bytes = (begin.len() + end) as u64;
    let content = Box::new(Cursor::new(begin).chain(Random(1)).take(bytes));
    let name = "model.safetensors".into();
    Weights::open(vec![Part {
        name,
        bytes,
        content,
    }])
    .unwrap()
}

/// Prints what decoding and reading cost for shapes of 1, 8 and 32 billion weights, in milliseconds and in parts of the memory's
/// bandwidth (3.35 TB/s): to be sent back.
#[test]
#[ignore = "needs an H100"]
fn timings_of_three_shapes() {
    let Some(cubins) = cubins() else { return };
    for (name, hidden, inner, layers, heads, few) in [
        ("1B", 2048, 8192, 16, 32, 8),
        ("8B", 4096, 14336, 32, 32, 8),
        ("32B", 5120, 25600, 64, 64, 8),
    ] {
        let config = json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": hidden,
            "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": few,
            "head_dim": if name == "1B" { 64 } else { 128 }, "vocab_size": 128_256, "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5, "rope_theta": 500_000.0, "tie_word_embeddings": false, "eos_token_id": 0,
        });
        let config = Config::parse(config.to_string().as_bytes(), None).unwrap();
        for kind in [Kind::Bf16, Kind::Q8, Kind::Q4] {
            let tokens = Tokens {
                path: kernels::Path::detect(),
                size: config.vocabulary,
                ends: vec![0],
                forbidden: Vec::new(),
            };
            let weights = random(&config);
            let packing = Some(Packing::All(kind));
            let started = Instant::now();
            let (mut gpu, facts) = CudaForward::of(
                config.clone(),
                &tokens,
                weights,
                packing,
                Some(4096),
                1024,
                &cubins,
            )
            .unwrap();
            println!(
                "{name} {kind:?}: {} MiB, loaded in {:.1} s",
                facts.bytes >> 20,
                started.elapsed().as_secs_f64()
            );
            for count in [1, 16, 32, 64] {
                let milliseconds = decoded(&mut gpu, &tokens, count);
                let bits = match kind {
                    Kind::F32 | Kind::Bf16 => 16.0,
                    Kind::Q8 => 8.5,
                    Kind::Q4 => 5.0,
                };
                let least = config.parameters() as f64 * bits / 8.0 / 3.35e9;
                println!(
                    "{name} {kind:?}: {count} completions: {milliseconds:.2} ms a step, {:.0} % of the bandwidth",
                    100.0 * least / milliseconds
                );
            }
            let prompt: Vec<Row> = (0..512)
                .map(|position| Row {
                    sequence: 0,
                    token: position % 250,
                    position,
                    scored: position == 511,
                    keeps: false,
                    kept: false,
                })
                .collect();
            let (table, mut scores) = ([BlockTable((0..16).collect())], Vec::new());
            gpu.forward(&prompt, &table, &mut scores).unwrap();
            let started = Instant::now();
            (0..5).for_each(|_| gpu.forward(&prompt, &table, &mut scores).unwrap());
            println!(
                "{name} {kind:?}: a prompt of 512 tokens: {:.2} ms",
                started.elapsed().as_secs_f64() * 200.0
            );
        }
    }
}

/// Milliseconds of a greedy step of so many completions, over 100 steps.
fn decoded(gpu: &mut CudaForward, tokens: &Tokens, count: u32) -> f64 {
    let mut started = Instant::now();
    for position in 0..105 {
        if position == 5 {
            started = Instant::now();
        }
        let (rows, tables) = completions(count, position);
        let job = |_| {
            tokens
                .job(vec![1], Sampling::greedy(9), Constraints::default())
                .unwrap()
        };
        let mut jobs: Vec<_> = (0..count).map(job).collect();
        let samplers = jobs.iter_mut().map(|job| &mut job.sampler).collect();
        let choosers = Choosers {
            size: tokens.size,
            forbidden: &tokens.forbidden,
            samplers,
        };
        gpu.choose(&rows, &tables, choosers, &mut Vec::new(), &mut Vec::new())
            .unwrap();
    }
    started.elapsed().as_secs_f64() * 10.0
}
