//! On what was measured: a figure without its machine says nothing.

use std::hint::black_box;
use std::time::Instant;

use kernels::Path;
use serde_json::{Value, json};

use super::statistics::Samples;

/// Numbers that are read to measure the bandwidth: more than any cache holds.
const READ_BYTES: usize = 256 * 1024 * 1024;

/// The processor, as Linux names it.
pub fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|name| name.trim_start_matches([' ', '\t', ':']).to_owned());
    name.unwrap_or_else(|| "unknown processor".into())
}

/// Processes that want to run, over the last minute.
pub fn load() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next().and_then(|first| first.parse().ok());
    first.unwrap_or(f64::NAN)
}

/// What every report begins with.
pub fn report(path: Path, threads: usize) -> Value {
    json!({
        "processor": processor(),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "path": path.name(),
        "threads": threads,
        "engine": env!("CHRYSALIS_VERSION"),
        "build": if cfg!(debug_assertions) { "dev" } else { "release" },
        "load_before": load(),
    })
}

/// Memory that is read over and over, as STREAM does.
pub struct Bandwidth {
    parts: Vec<Vec<u64>>,
}

impl Bandwidth {
    /// Fills the memory. Each thread reads a part of its own.
    pub fn new(threads: usize) -> Self {
        let words = READ_BYTES / 8 / threads;
        let part = |seed: usize| (0..words as u64).map(|word| word ^ seed as u64).collect();
        Bandwidth {
            parts: (0..threads).map(part).collect(),
        }
    }

    /// Reads all of it once: bytes per second.
    pub fn read(&self) -> f64 {
        let began = Instant::now();
        std::thread::scope(|scope| {
            for part in &self.parts {
                scope.spawn(|| black_box(sum(part)));
            }
        });
        let bytes: usize = self.parts.iter().map(|part| part.len() * 8).sum();
        bytes as f64 / began.elapsed().as_secs_f64()
    }

    /// The better of several reads of several: what the machine can do when nobody disturbs it, in bytes per second.
    pub fn measure(&self, rounds: usize) -> f64 {
        let samples: Samples = (0..rounds).map(|_| self.read()).collect();
        samples.quantile(0.75)
    }
}

/// Several sums side by side, so that the additions never wait for one another.
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0u64; 16];
    for chunk in words.chunks_exact(16) {
        for (sum, word) in sums.iter_mut().zip(chunk) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}
