//! What one token's choice costs: `cargo run --release -p kernels --example sampling`.
//!
//! Each line is the median of many choices from scores of a vocabulary as large as SmolLM2's (49,152) or Qwen's (151,936), beside
//! a sampler that sorts, on one thread. The bars are 300 and 900 microseconds and "faster than the sort".

use kernels::Path;
use kernels::sampling::{Automaton, Constraints, Sampler, Sampling};
use std::time::Instant;

const ROUNDS: usize = 41;

fn main() {
    for vocabulary in [49_152, 151_936] {
        let scores = scores(vocabulary);
        let warm = Sampling {
            temperature: 0.8,
            ..Sampling::greedy(1)
        };
        let nucleus = Sampling {
            top_p: 0.95,
            ..warm
        };
        let both = Sampling {
            top_k: 40,
            ..nucleus
        };
        let penalties = Sampling {
            repetition: 1.1,
            frequency: 0.1,
            ..both
        };
        let logprobs = Sampling {
            logprobs: Some(20),
            ..both
        };
        let options = [
            ("greedy", Sampling::greedy(1)),
            ("temperature", warm),
            ("top-p", nucleus),
            ("top-k, top-p", both),
            ("and penalties", penalties),
            ("and 20 log probabilities", logprobs),
        ];
        println!("vocabulary {vocabulary}, microseconds for each token");
        let sorted = median(|| sort(&scores, 0.8, 0.95));
        println!("  {:26} {sorted:8.0}", "a sort, top-p");
        for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
            for (name, sampling) in options {
                run(path, name, sampling, Constraints::default(), &scores);
            }
            let classes: Vec<u16> = (0..vocabulary).map(|token| (token % 512) as u16).collect();
            let words =
                Automaton::words(&classes, &vec![(0..512).map(|c| c % 256).collect(); 256], 0);
            let grammar = Automaton::parse(path, &words, vocabulary).expect("an automaton");
            let constraints = Constraints {
                grammar: Some(&grammar),
                ..Constraints::default()
            };
            run(path, "and the largest grammar", both, constraints, &scores);
        }
    }
}

fn run(path: Path, name: &str, sampling: Sampling, constraints: Constraints<'_>, scores: &[f32]) {
    let sampler = Sampler::new(path, scores.len(), sampling, constraints, &[1, 2, 3]);
    let mut sampler = sampler.expect("good options");
    let time = median(|| sampler.choose(scores).expect("finite scores").token);
    println!("  {name:26} {time:8.0}  {}", path.name());
}

fn scores(vocabulary: usize) -> Vec<f32> {
    let mut state = 1u64;
    let scores = (0..vocabulary).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let unit = (state >> 40) as f32 / (1u64 << 24) as f32;
        24.0 * unit.powi(5) - 8.0
    });
    scores.collect()
}

fn median(mut choose: impl FnMut() -> u32) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            std::hint::black_box(choose());
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// A sampler that sorts: order by score, take the nucleus, walk to a random share of it.
fn sort(scores: &[f32], temperature: f32, top_p: f32) -> u32 {
    let mut candidates: Vec<(u32, f32)> = (0u32..).zip(scores.iter().copied()).collect();
    candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    let top = candidates[0].1;
    for candidate in &mut candidates {
        candidate.1 = ((candidate.1 - top) / temperature).exp();
    }
    let total: f32 = candidates.iter().map(|candidate| candidate.1).sum();
    let mut mass = 0.0;
    let kept = candidates.iter().take_while(|candidate| {
        let wanted = mass < top_p * total;
        mass += candidate.1;
        wanted
    });
    let kept: Vec<_> = kept.collect();
    let mut left = 0.37 * kept.iter().map(|candidate| candidate.1).sum::<f32>();
    let found = kept.iter().find(|candidate| {
        left -= candidate.1;
        left < 0.0
    });
    found.map_or(0, |candidate| candidate.0)
}
