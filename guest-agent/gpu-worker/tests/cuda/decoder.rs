//! The decoder on an EMULATION of the driver (`kernels/emulation_driver.cpp`), against the CPU's. It proves nothing about a cubin.
//!
//! The emulation is a `libcuda.so.1` that a child of each test finds by `LD_LIBRARY_PATH`; a shipped worker has no environment.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use engine::decoder::{Decoder, Options, blocks_for};
use engine::sampling::{Automaton, Constraints, Sampling};
use engine::scheduler::{Event, Limits, Scheduler, Tokens};
use engine::{Before, BlockTable, Forward, Packing, Row};
use gpu_worker::cuda::{CudaError, CudaForward};
use kernels::{Kernels, Kind, KvKind};
use model::decoder::Config;
use serde_json::json;

use crate::checkpoint::{DECODERS, Reference};

/// Tells the child where the emulation's images are.
const CHILD: &str = "CHRYSALIS_TEST_CUBINS";

/// The directory of the emulation, or none where there is no compiler.
fn emulation() -> Option<&'static PathBuf> {
    static MADE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let make = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/emulation_driver.cpp");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("emulation-driver");
        std::fs::create_dir_all(&directory).unwrap();
        let own = directory.join(format!("libcuda.{}", std::process::id()));
        let made = Command::new("c++")
            .args([
                "-std=c++17",
                "-O2",
                "-march=native",
                "-U_FORTIFY_SOURCE",
                "-ffp-contract=off",
            ])
            .args(["-DEMULATION", "-fvisibility=hidden", "-fPIC", "-shared"])
            .arg(source)
            .arg("-o")
            .arg(&own)
            .status();
        match made {
            Ok(status) => assert!(status.success(), "the emulation does not compile"),
            Err(why) => {
                without::skip("a C++ compiler", &why.to_string());
                return None;
            }
        }
        std::fs::rename(own, directory.join("libcuda.so.1")).unwrap();
        for name in ["product", "layer", "attention", "sample"] {
            let image = format!("an emulation's image, and no cubin{:64}", "");
            std::fs::write(directory.join(format!("{name}.cubin")), image).unwrap();
        }
        Some(directory)
    };
    MADE.get_or_init(make).as_ref()
}

/// Runs `test` in a child that finds the emulation; `name` is that of the test itself, with its module.
pub fn emulated(name: &str, test: impl FnOnce(&Path)) {
    if let Some(cubins) = std::env::var_os(CHILD) {
        return test(Path::new(&cubins));
    }
    let Some(directory) = emulation() else { return };
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, directory)
        .env("LD_LIBRARY_PATH", directory)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    print!("{said}");
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(said.contains("1 passed"), "the child ran no test: {said}");
}

fn load(model: &Path, kind: Kind, cubins: &Path) -> (CudaForward, Tokens) {
    let loaded = CudaForward::load(model, Some(Packing::All(kind)), Some(4), 256, cubins);
    let (forward, tokens, facts, _) = loaded.unwrap();
    let is_emulated = facts.device == "an emulation on the host";
    assert_eq!(is_emulated, std::env::var_os(CHILD).is_some());
    (forward, tokens)
}

/// The CPU's decoder in single precision, with the numbers that weights of `kind` stand for.
fn on_cpu(model: &Path, kind: Kind) -> Decoder {
    let load = |directory: &Path, kind| {
        let files = engine::weights::read(directory).unwrap();
        let options = Options {
            packing: Packing::All(kind),
            cache: KvKind::F32,
            blocks: blocks_for(1, 256),
            context_max: 256,
            rows_max: 64,
            scored_max: 64,
        };
        let kernels = Kernels::new(kernels::Path::detect(), 1).unwrap();
        let config = Config::of(&files).unwrap();
        let weights = files.open_weights().unwrap();
        Decoder::load(&config, weights, Arc::new(kernels), &options).unwrap()
    };
    let mut packed = load(model, kind);
    let plan = packed.config().plan();
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in plan.wanted() {
        let begin = data.len();
        let numbers = packed.packed().numbers(name).unwrap();
        data.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(name.to_owned(), entry);
    }
    let header = serde_json::Value::from(header).to_string();
    let directory = tempfile::tempdir().unwrap();
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(model.join(file), directory.path().join(file)).unwrap();
    }
    let content = [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        &data,
    ]
    .concat();
    std::fs::write(directory.path().join("model.safetensors"), content).unwrap();
    load(directory.path(), Kind::F32)
}

fn token(seed: u64) -> u32 {
    let z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((z ^ (z >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40) as u32 % 250
}

fn rows(sequence: usize, tokens: &[u32], first: usize, scored: impl Fn(usize) -> bool) -> Vec<Row> {
    let rows = tokens.iter().enumerate().map(|(index, token)| Row {
        sequence,
        token: *token,
        position: (first + index) as u32,
        scored: scored(first + index),
        keeps: false,
        kept: false,
    });
    rows.collect()
}

/// The error of scores over their size, both as roots of mean squares; and the largest difference over the range of scores.
fn errors(got: &[f32], wanted: &[f32]) -> [f64; 2] {
    assert_eq!(got.len(), wanted.len());
    let square = |x: f32| f64::from(x).powi(2);
    let off: f64 = got.iter().zip(wanted).map(|(a, b)| square(a - b)).sum();
    let size: f64 = wanted.iter().map(|b| square(*b)).sum();
    let worst = got
        .iter()
        .zip(wanted)
        .map(|(a, b)| f64::from((a - b).abs()))
        .fold(0.0, f64::max);
    [
        (off / size).sqrt(),
        worst / (size / wanted.len() as f64).sqrt(),
    ]
}

/// Every family in every kind: scores of a prompt within 2.5 % of the CPU's in single precision on the same weights (activations, keys
/// and values are bf16 here, which the CPU's are not), and the same tokens wherever the CPU's lead is larger than the error.
#[test]
fn families_compute_what_the_cpu_computes() {
    emulated("decoder::families_compute_what_the_cpu_computes", families);
}

pub fn families(cubins: &Path) {
    for (name, text) in DECODERS {
        let model = Reference::parse(text).directory();
        for kind in [Kind::Bf16, Kind::Q8, Kind::Q4] {
            let (mut gpu, _) = load(model.path(), kind, cubins);
            let mut cpu = on_cpu(model.path(), kind);
            let tables = [BlockTable((0..8).rev().collect())];
            let mut tokens: Vec<u32> = (0..41).map(token).collect();
            let (mut on_gpu, mut on_cpu) = (Vec::new(), Vec::new());
            let (mut first, mut worst, mut same, mut clear) = (0, [0.0f64; 2], 0, 0);
            for _ in 0..6 {
                let rows = rows(0, &tokens[first..], first, |at| at >= 30);
                gpu.forward(&rows, &tables, &mut on_gpu).unwrap();
                cpu.forward(&rows, &tables, &mut on_cpu).unwrap();
                let found = errors(&on_gpu, &on_cpu);
                worst = [worst[0].max(found[0]), worst[1].max(found[1])];
                let width = gpu.shape().vocabulary;
                let best = |scores: &[f32]| {
                    let last = &scores[scores.len() - width..];
                    let mut order: Vec<usize> = (0..width).collect();
                    order.sort_by(|a, b| last[*b].total_cmp(&last[*a]));
                    (order[0], last[order[0]] - last[order[1]])
                };
                let size = on_cpu.iter().map(|x| x * x).sum::<f32>() / on_cpu.len() as f32;
                let ((wanted, lead), (got, _)) = (best(&on_cpu), best(&on_gpu));
                same += usize::from(got == wanted);
                if f64::from(lead / size.sqrt()) > 2.0 * found[1] {
                    clear += 1;
                    assert_eq!(got, wanted, "{name} {kind:?}");
                }
                first = tokens.len();
                tokens.push(wanted as u32);
            }
            println!(
                "{name} {kind:?}: error {:.4}, worst {:.4}; {same} of 6 tokens, {clear} with a clear lead",
                worst[0], worst[1]
            );
            assert!(worst[0] < 0.025, "{name} {kind:?}: {worst:?}");
            assert!(clear > 0, "{name} {kind:?}: no lead is clear");
        }
    }
}

/// A sequence of 70 tokens alone, among others, in chunks, on other blocks and behind a shared beginning: the same bits.
#[test]
fn bits_depend_on_the_sequence_alone() {
    emulated("decoder::bits_depend_on_the_sequence_alone", bits);
}

pub fn bits(cubins: &Path) {
    for (name, kind) in [
        ("gemma3", Kind::Bf16),
        ("qwen2", Kind::Q8),
        ("smollm2", Kind::Q4),
    ] {
        let text = DECODERS.iter().find(|(other, _)| *other == name).unwrap().1;
        let model = Reference::parse(text).directory();
        {
            let (mut gpu, _) = load(model.path(), kind, cubins);
            let tokens: Vec<u32> = (0..70).map(token).collect();
            let own = BlockTable(vec![5, 120, 9]);
            let mut scores = Vec::new();
            gpu.forward(
                &rows(0, &tokens, 0, |at| at >= 60),
                std::slice::from_ref(&own),
                &mut scores,
            )
            .unwrap();
            let wanted: Vec<u32> = scores.iter().map(|score| score.to_bits()).collect();
            for chunk in [1, 7, 64] {
                let mut got = Vec::new();
                for first in (0..70).step_by(chunk) {
                    let some = &tokens[first..70.min(first + chunk)];
                    gpu.forward(
                        &rows(0, some, first, |at| at >= 60),
                        &[BlockTable(vec![7, 8, 2])],
                        &mut scores,
                    )
                    .unwrap();
                    got.extend(scores.iter().map(|score| score.to_bits()));
                }
                assert!(got == wanted, "{name} {kind:?}: chunks of {chunk}");
            }
            // Others share its first block and go on by themselves; each is as long as itself alone.
            for others in [1, 4, 16, 64] {
                let mut tables = vec![own.clone()];
                let mut all = rows(0, &tokens[60..], 60, |_| true);
                for other in 1..others {
                    tables.push(BlockTable(vec![5, 10 + other]));
                    let strange: Vec<u32> =
                        (0..3).map(|n| token(u64::from(other) * 100 + n)).collect();
                    let at = (other as usize * 5) % (all.len() + 1);
                    let strange = rows(other as usize, &strange, 32, |at| at == 34 && other < 54);
                    all.splice(at..at, strange);
                }
                gpu.forward(&all, &tables, &mut scores).unwrap();
                let width = gpu.shape().vocabulary;
                let scored = all
                    .iter()
                    .filter(|row| row.scored)
                    .zip(scores.chunks_exact(width));
                let mine = scored
                    .filter(|(row, _)| row.sequence == 0)
                    .flat_map(|(_, scores)| scores);
                let got: Vec<u32> = mine.map(|score| score.to_bits()).collect();
                assert!(got == wanted, "{name} {kind:?}: among {others}");
            }
        }
    }
}

/// What each of `count` jobs is told, all run together; every option is in use by some.
fn told(forward: &mut dyn Forward, tokens: &Tokens, count: u32) -> Vec<Vec<Event>> {
    let limits = Limits {
        sequences_max: 64,
        ..Limits::default()
    };
    let mut scheduler = Scheduler::new(*forward.shape(), tokens.clone(), limits);
    let classes: Vec<u16> = (0..tokens.size).map(|token| token as u16 % 40).collect();
    let row = |state: usize| {
        (0..40)
            .map(|class| {
                if class % 3 == state {
                    4
                } else {
                    class as u16 % 3
                }
            })
            .collect()
    };
    let mut states: Vec<Vec<u16>> = (0..3).map(row).collect();
    states.iter_mut().for_each(|row| {
        row.iter_mut()
            .for_each(|next| *next = if *next == 4 { u16::MAX } else { *next })
    });
    let words = Automaton::words(&classes, &states, 0);
    let grammar = Automaton::parse(tokens.path, &words, tokens.size).unwrap();
    for job in 0..count {
        let prompt: Vec<u32> = (0..5 + u64::from(job) % 40)
            .map(|n| token(u64::from(job) * 1000 + n))
            .collect();
        let sampling = Sampling {
            temperature: [0.0, 0.7, 1.3][job as usize % 3],
            top_k: [0, 7, 40][job as usize / 3 % 3],
            top_p: [1.0, 0.8][job as usize / 2 % 2],
            min_p: [0.0, 0.0, 0.05][job as usize / 5 % 3],
            repetition: [1.0, 1.2][job as usize / 4 % 2],
            presence: [0.0, 0.4][job as usize / 7 % 2],
            frequency: [0.0, -0.2, 0.3][job as usize / 6 % 3],
            seed: u64::from(job) << 33 | 12345,
            logprobs: [None, Some(5), None, Some(0)][job as usize / 3 % 4],
            tokens_max: 6,
        };
        let bias: Vec<(u32, f32)> = (0..job % 3).map(|n| (token(u64::from(n)), 2.5)).collect();
        let constraints = Constraints {
            bias: &bias,
            grammar: (job % 5 == 1).then_some(&grammar),
            ..Constraints::default()
        };
        scheduler
            .submit(tokens.job(prompt, sampling, constraints).unwrap())
            .unwrap();
    }
    let mut events = vec![Vec::new(); count as usize];
    while !scheduler.is_idle() {
        scheduler.step(forward, 0, &mut |id, event| {
            events[id.0 as usize].push(event)
        });
    }
    events
}

/// Choices of the device are the host's for the same scores, log probabilities too, for jobs with every option at once; and completions
/// are captured once for each size and replayed.
#[test]
fn choices_are_those_of_the_cpus_sampler() {
    emulated("decoder::choices_are_those_of_the_cpus_sampler", choices);
}

pub fn choices(cubins: &Path) {
    let model = Reference::decoder("qwen2").directory();
    let (mut gpu, tokens) = load(model.path(), Kind::Q8, cubins);
    let chosen = told(&mut gpu, &tokens, 40);
    let counted = gpu.counters();
    assert!(
        counted.captures > 0 && counted.graph_launches > counted.captures,
        "{counted:?}"
    );
    let (gpu, _) = load(model.path(), Kind::Q8, cubins);
    let mut scores = Before(Box::new(gpu), |_: &[Row]| ());
    let wanted = told(&mut scores, &tokens, 40);
    let made = wanted
        .iter()
        .flatten()
        .filter(|event| matches!(event, Event::Token { .. }))
        .count();
    assert!(made > 150, "{made} tokens");
    for (job, (got, wanted)) in chosen.iter().zip(&wanted).enumerate() {
        assert_eq!(got, wanted, "job {job}");
    }
}

/// Greedy steps of 1 to 64 completions: one copy in, one copy out, one wait, and from the third of a size on one launch.
#[test]
fn a_step_costs_one_copy_each_way() {
    emulated("decoder::a_step_costs_one_copy_each_way", costs);
}

pub fn costs(cubins: &Path) {
    let model = Reference::decoder("llama3").directory();
    let (mut gpu, tokens) = load(model.path(), Kind::Q4, cubins);
    for count in [1, 3, 64] {
        let tables: Vec<BlockTable> = (0..count).map(|n| BlockTable(vec![n])).collect();
        for position in 0..5 {
            let mut jobs: Vec<_> = (0..count)
                .map(|_| {
                    tokens
                        .job(vec![1], Sampling::greedy(9), Constraints::default())
                        .unwrap()
                })
                .collect();
            let rows: Vec<Row> = (0..count as usize)
                .flat_map(|n| rows(n, &[token(n as u64)], position, |_| true))
                .collect();
            let choosers = engine::Choosers {
                size: tokens.size,
                forbidden: &tokens.forbidden,
                samplers: jobs.iter_mut().map(|job| &mut job.sampler).collect(),
            };
            let (before, mut choices) = (gpu.counters(), Vec::new());
            gpu.choose(&rows, &tables, choosers, &mut Vec::new(), &mut choices)
                .unwrap();
            assert_eq!(choices.len(), count as usize);
            let after = gpu.counters();
            let cost = [
                after.copies_in - before.copies_in,
                after.copies_out - before.copies_out,
                after.synchronisations - before.synchronisations,
            ];
            assert_eq!(cost, [1, 1, 1]);
            let replayed = after.graph_launches - before.graph_launches;
            assert_eq!(replayed, u64::from(position > 0), "{count} at {position}");
            assert!(position < 2 || after.launches == before.launches);
        }
    }
}

#[test]
fn what_cannot_be_computed_is_refused_by_name() {
    let model = Reference::decoder("llama3").directory();
    let nowhere = Path::new("/nowhere");
    if std::env::var_os(CHILD).is_none() {
        match CudaForward::load(model.path(), None, None, 256, nowhere).err() {
            Some(CudaError::NoDriver) => {}
            other => without::skip("a machine without a CUDA driver", &format!("{other:?}")),
        }
    }
    emulated(
        "decoder::what_cannot_be_computed_is_refused_by_name",
        |cubins| {
            let load = |kv, cubins: &Path| {
                CudaForward::load(model.path(), None, Some(kv), 256, cubins).err()
            };
            assert!(matches!(load(1, nowhere), Some(CudaError::Cubin { .. })));
            assert!(matches!(
                load(1 << 20, cubins),
                Some(CudaError::Memory { .. })
            ));
            let other = tempfile::tempdir().unwrap();
            for name in ["product", "layer", "attention", "sample"] {
                std::fs::write(other.path().join(format!("{name}.cubin")), [0x7f; 100]).unwrap();
            }
            assert!(matches!(
                load(1, other.path()),
                Some(CudaError::Call {
                    call: "cuModuleLoadData",
                    ..
                })
            ));
            let mut wide = Reference::decoder("llama3");
            wide.config["num_key_value_heads"] = 1.into();
            wide.config["num_attention_heads"] = 16.into();
            std::fs::write(model.path().join("config.json"), wide.config.to_string()).unwrap();
            let refused = load(1, cubins).unwrap().to_string();
            assert_eq!(
                refused,
                "no kernel computes 16 query heads to a key head; 8 are the most"
            );
        },
    );
}
