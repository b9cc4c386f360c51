//! How fast the kernels are, beside how fast memory is: `cargo run --release -p kernels --example bench`. What the fixed order of
//! sums costs: `cargo run --release -p kernels --features reorder --example bench -- --reorder`.
//!
//! `--path avx512|avx2|portable` and `--only WORD` choose. With one thread it is the processor's time that counts, the mean of
//! many runs, so that a busy machine disturbs little; with two it is the shortest run by the clock.

use std::hint::black_box;
use std::time::Instant;

use kernels::{
    Attend, AttendShape, BLOCK_TOKENS, Kernels, Kind, KvCache, KvKind, KvShape, Packed, Path,
};

const SHAPES: [(usize, usize); 4] = [(576, 1536), (896, 4864), (2048, 2048), (49152, 576)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let path = value("--path").map_or(Path::detect(), |name| {
        let named = Path::ALL
            .into_iter()
            .find(|path| path.name().starts_with(&name));
        named.expect("--path avx512, avx2 or portable")
    });
    let only = value("--only").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || name.contains(&only);
    let one = Kernels::new(path, 1).expect("this processor lacks the path");
    let two = Kernels::new(path, 2).expect("this processor lacks the path");
    println!(
        "path {}, {} processors",
        path.name(),
        std::thread::available_parallelism().map_or(1, usize::from)
    );
    if arguments.iter().any(|argument| argument == "--reorder") {
        return reorder(&one);
    }
    let readers = [1, 2].map(Reader::new);
    for kind in Kind::ALL {
        for (rows, columns) in SHAPES {
            if wanted("gemv") {
                let weights = Weights::new(kind, rows, columns);
                print!("gemv {:4} {rows:5} x {columns:4}:", kind.name());
                for (kernels, reader) in [&one, &two].into_iter().zip(&readers) {
                    let (read, ratio) = weights.beside(reader, kernels);
                    let bandwidth = reader.bytes() / read;
                    let rate = weights.bytes() * weights.copies.len() as f64 / (read * ratio);
                    print!(
                        "   {} thread(s) {:5.1} GB/s, {:3.0} % of {:.1}",
                        kernels.threads(),
                        rate / 1e9,
                        rate / bandwidth * 100.0,
                        bandwidth / 1e9
                    );
                }
                println!();
            }
        }
    }
    for kind in Kind::ALL {
        for (rows, columns) in [(576, 1536), (896, 4864), (2048, 2048)] {
            if wanted("gemm") {
                let weights = Weights {
                    copies: vec![matrix(kind, rows, columns)],
                };
                let rates =
                    [(&one, 16), (&one, 512), (&two, 16), (&two, 512)].map(|(kernels, n)| {
                        2.0 * (n * rows * columns) as f64 / weights.product(kernels, n) / 1e9
                    });
                println!(
                    "gemm {:4} {rows:5} x {columns:4}: n=16 {:6.1} GFLOP/s, n=512 {:6.1}   two threads {:6.1}, {:6.1}",
                    kind.name(),
                    rates[0],
                    rates[1],
                    rates[2],
                    rates[3],
                );
            }
        }
    }
    for (name, heads, group, width) in [("SmolLM2", 3, 3, 64), ("0.5 B", 2, 7, 64)] {
        for kind in [KvKind::F16, KvKind::F32] {
            if wanted("attend") {
                for length in [512, 4096] {
                    let us = [&one, &two]
                        .map(|kernels| attend(kernels, kind, heads, group, width, length, 1) * 1e6);
                    println!(
                        "attend {name} {kind:?} one row at {length}: {:7.1} us, two threads {:7.1}",
                        us[0], us[1]
                    );
                }
                let ms = [&one, &two]
                    .map(|kernels| attend(kernels, kind, heads, group, width, 512, 512) * 1e3);
                println!(
                    "attend {name} {kind:?} 512 rows at 512: {:7.2} ms, two threads {:7.2}",
                    ms[0], ms[1]
                );
            }
        }
    }
    if wanted("small") {
        small(&one);
    }
}

/// Seconds of one run: the processor's time with one thread, by the clock with more.
fn once(threads: usize, run: &mut dyn FnMut()) -> f64 {
    let (used, start) = (processor_seconds(), Instant::now());
    run();
    let elapsed = start.elapsed().as_secs_f64();
    match (used, processor_seconds()) {
        (Some(before), Some(after)) if threads == 1 => after - before,
        _ => elapsed,
    }
}

/// The median of many runs.
fn seconds(threads: usize, mut run: impl FnMut()) -> f64 {
    // What is short is repeated, since the processor's time is not counted to the microsecond.
    let start = Instant::now();
    run();
    let repeat = (2e-3 / start.elapsed().as_secs_f64()).clamp(1.0, 1e4) as usize;
    let begin = Instant::now();
    let mut runs = Vec::new();
    while runs.len() < 5 || begin.elapsed().as_secs_f64() < 0.3 {
        runs.push(once(threads, &mut || (0..repeat).for_each(|_| run())) / repeat as f64);
    }
    median(runs)
}

/// The medians of the first run's seconds and of the second's over the first's, one after the other so that both see the same
/// neighbours.
fn paired(threads: usize, first: &mut dyn FnMut(), second: &mut dyn FnMut()) -> (f64, f64) {
    second();
    let mut pairs = Vec::new();
    let begin = Instant::now();
    while pairs.len() < 9 || begin.elapsed().as_secs_f64() < 0.5 {
        let (a, b) = (once(threads, first), once(threads, second));
        pairs.push((a, b / a));
    }
    (
        median(pairs.iter().map(|pair| pair.0).collect()),
        median(pairs.iter().map(|pair| pair.1).collect()),
    )
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// How long this thread has had a processor, where Linux tells (proc_pid_schedstat, the first number, in nanoseconds).
fn processor_seconds() -> Option<f64> {
    // The number is brought up to date when the thread leaves its processor.
    std::thread::sleep(std::time::Duration::from_micros(50));
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Reads as STREAM would: 256 MiB in all, in the same kind of memory as the weights, summed into 32 sums, so that the processor
/// vectorises it.
struct Reader {
    parts: Vec<Packed>,
}

impl Reader {
    fn new(threads: usize) -> Self {
        let part = || {
            let rows = (64 << 20) / 1024 / threads;
            let mut part = Packed::zeroed(Kind::F32, rows, 1024).expect("memory");
            // What was never written is one page of zeros, read from a cache.
            part.as_bytes_mut().fill(1);
            part
        };
        Reader {
            parts: (0..threads).map(|_| part()).collect(),
        }
    }

    fn bytes(&self) -> f64 {
        self.parts.iter().map(|part| part.bytes() as f64).sum()
    }

    fn read(&self) {
        let sum = |part: &Packed| {
            let mut sums = [0u64; 32];
            for chunk in part.as_bytes().as_chunks::<256>().0 {
                for (sum, word) in sums.iter_mut().zip(chunk.as_chunks::<8>().0) {
                    *sum ^= u64::from_le_bytes(*word);
                }
            }
            black_box(sums);
        };
        if let [part] = &self.parts[..] {
            return sum(part);
        }
        std::thread::scope(|scope| {
            for part in &self.parts {
                scope.spawn(move || sum(part));
            }
        });
    }
}

/// Products of one row in the fixed order beside the same with sums in any order. Many rows have one order by construction.
#[cfg(feature = "reorder")]
fn reorder(kernels: &Kernels) {
    for kind in Kind::ALL {
        for (rows, columns) in SHAPES {
            let weights = Weights::new(kind, rows, columns);
            let x: Vec<f32> = (0..columns)
                .map(|i| (i * 31 % 200) as f32 / 100.0 - 1.0)
                .collect();
            let (mut fixed, mut free) = (vec![0.0; rows], vec![0.0; rows]);
            let (seconds, ratio) = paired(
                1,
                &mut || {
                    for weights in &weights.copies {
                        kernels
                            .linear_reordered(weights, &x, black_box(&mut free))
                            .expect("fits");
                    }
                },
                &mut || {
                    for weights in &weights.copies {
                        kernels
                            .linear(weights, &x, black_box(&mut fixed))
                            .expect("fits");
                    }
                },
            );
            println!(
                "{:4} {rows:5} x {columns:4}: any order {:7.1} us, fixed order {:+.1} %",
                kind.name(),
                seconds / weights.copies.len() as f64 * 1e6,
                (ratio - 1.0) * 100.0
            );
        }
    }
}

#[cfg(not(feature = "reorder"))]
fn reorder(_: &Kernels) {
    eprintln!("--reorder needs --features reorder");
}

fn matrix(kind: Kind, rows: usize, columns: usize) -> Packed {
    let mut packed = Packed::zeroed(kind, rows, columns).expect("small");
    let row: Vec<f32> = (0..columns)
        .map(|i| (i * 7919 % 1000) as f32 / 500.0 - 1.0)
        .collect();
    for index in 0..rows {
        packed.set_row(index, &row).expect("fits");
    }
    packed
}

/// So many copies of a matrix that they do not fit into a cache, as the layers of a model do not.
struct Weights {
    copies: Vec<Packed>,
}

impl Weights {
    fn new(kind: Kind, rows: usize, columns: usize) -> Self {
        let first = matrix(kind, rows, columns);
        let count = (192usize << 20).div_ceil(first.bytes());
        let copy =
            || Packed::from_bytes(kind, rows, columns, first.as_bytes()).expect("its own bytes");
        Weights {
            copies: (0..count).map(|_| copy()).collect(),
        }
    }

    /// Of one matrix.
    fn bytes(&self) -> f64 {
        self.copies[0].bytes() as f64
    }

    /// Seconds of reading, and those of products of one row with all copies over it.
    fn beside(&self, reader: &Reader, kernels: &Kernels) -> (f64, f64) {
        let x: Vec<f32> = (0..self.copies[0].columns())
            .map(|i| (i * 31 % 200) as f32 / 100.0 - 1.0)
            .collect();
        let mut y = vec![0.0; self.copies[0].rows()];
        paired(kernels.threads(), &mut || reader.read(), &mut || {
            for weights in &self.copies {
                kernels
                    .linear(weights, &x, black_box(&mut y))
                    .expect("fits");
            }
        })
    }

    /// Seconds of one product with `n` rows, the mean over the copies.
    fn product(&self, kernels: &Kernels, n: usize) -> f64 {
        let weights = &self.copies[0];
        let x: Vec<f32> = (0..n * weights.columns())
            .map(|i| (i * 31 % 200) as f32 / 100.0 - 1.0)
            .collect();
        let mut y = vec![0.0; n * weights.rows()];
        let all = seconds(kernels.threads(), || {
            for weights in &self.copies {
                kernels
                    .linear(weights, &x, black_box(&mut y))
                    .expect("fits");
            }
        });
        all / self.copies.len() as f64
    }
}

fn attend(
    kernels: &Kernels,
    kind: KvKind,
    heads: usize,
    group: usize,
    width: usize,
    length: usize,
    rows: usize,
) -> f64 {
    let count = length.div_ceil(BLOCK_TOKENS);
    // So many layers that keys and values of all do not fit into the second cache.
    let layers = 30;
    let mut cache = KvCache::zeroed(
        KvShape {
            kind,
            layers,
            heads,
            width,
        },
        count,
    )
    .expect("small");
    let token: Vec<f32> = (0..heads * width).map(|i| (i % 17) as f32 / 17.0).collect();
    for position in 0..count * BLOCK_TOKENS {
        for layer in 0..layers {
            let (block, slot) = ((position / BLOCK_TOKENS) as u32, position % BLOCK_TOKENS);
            cache
                .write(layer, block, slot, &token, &token)
                .expect("fits");
        }
    }
    let blocks: Vec<u32> = (0..count as u32).collect();
    let shape = AttendShape {
        heads: heads * group,
        scale: 0.125,
        window: None,
        cap: None,
    };
    let job = Attend {
        blocks: &blocks,
        position: length - rows,
        rows,
    };
    let queries = vec![0.1; rows * heads * group * width];
    let mut out = queries.clone();
    let all = seconds(kernels.threads(), || {
        for layer in 0..layers {
            kernels
                .attend(&cache, layer, &shape, &[job], &queries, black_box(&mut out))
                .expect("fits");
        }
    });
    all / layers as f64
}

/// What stands between the products.
fn small(kernels: &Kernels) {
    for n in [1, 512] {
        let x = vec![0.5; n * 576];
        let mut out = x.clone();
        let gamma = vec![1.0; 576];
        let norm = seconds(1, || {
            kernels
                .rms_norm(&x, &gamma, 1e-5, black_box(&mut out))
                .expect("fits")
        });
        let angles = vec![0.5; n * 32];
        let rope = seconds(1, || {
            kernels
                .rope(black_box(&mut out), &angles, &angles, 9, 64)
                .expect("fits")
        });
        let up = vec![0.5; n * 1536];
        let mut gate = up.clone();
        let silu = seconds(1, || {
            gate.copy_from_slice(&up);
            kernels.silu_mul(black_box(&mut gate), &up).expect("fits");
        });
        println!(
            "n={n}: rms_norm 576 {:.2} us, rope 9 x 64 {:.2} us, silu_mul 1536 {:.2} us",
            norm * 1e6,
            rope * 1e6,
            silu * 1e6
        );
    }
}
