//! The GPU's kernels under an EMULATION on the host, against their formulas in double precision. It proves nothing about a cubin.

use kernels::sampling::{Automaton, Constraints, Sampler, Sampling};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The emulation, compiled for the test `name`, or none where there is no compiler.
fn program(name: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels/emulation.cpp");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulation-{name}"));
    let made = Command::new("c++")
        .args([
            "-std=c++17",
            "-O2",
            "-march=native",
            "-U_FORTIFY_SOURCE",
            "-ffp-contract=off",
            "-DEMULATION",
        ])
        .arg(source)
        .arg("-o")
        .arg(&program)
        .status();
    match made {
        Ok(status) => assert!(status.success(), "the emulation does not compile"),
        Err(why) => {
            without::skip("a C++ compiler", &why.to_string());
            return None;
        }
    }
    Some(program)
}

fn run(program: &Path, kernel: &str, numbers: &[usize], arrays: &[Vec<u8>]) -> Vec<u8> {
    let mut child = Command::new(program)
        .arg(kernel)
        .args(numbers.iter().map(ToString::to_string))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for array in arrays {
        input
            .write_all(&(array.len() as u64).to_le_bytes())
            .unwrap();
        input.write_all(array).unwrap();
    }
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{kernel}: {}", output.status);
    output.stdout
}

struct Counter(u64);

impl Counter {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 29)
    }
    /// Between -1 and 1, exact in bf16.
    fn number(&mut self) -> f32 {
        ((self.next() >> 40) % 255) as f32 / 128.0 - 127.0 / 128.0
    }
    fn numbers(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.number()).collect()
    }
}

fn f32s(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}
fn u32s(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_le_bytes()).collect()
}
/// The upper halves: exact for what `Counter` gives.
fn bf16s(numbers: &[f32]) -> Vec<u8> {
    numbers
        .iter()
        .flat_map(|n| ((n.to_bits() >> 16) as u16).to_le_bytes())
        .collect()
}
fn of_f32s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}
fn of_bf16s(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks_exact(2)
        .map(|b| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16))
        .collect()
}
fn near(what: &str, got: f32, wanted: f64, error: f64) {
    assert!(
        (f64::from(got) - wanted).abs() <= error,
        "{what}: {got} is not {wanted} within {error}"
    );
}

const OUTPUTS: usize = 24;
const COLUMNS: usize = 1152;

/// Packed numbers, scales and minima of 32 rows, and what they say.
fn weights(kind: &str, from: &mut Counter) -> ([Vec<u8>; 3], Vec<f64>) {
    let count = 32 * COLUMNS;
    if kind == "bf16" {
        let all = from.numbers(count);
        return (
            [bf16s(&all), vec![], vec![]],
            all.iter().map(|w| f64::from(*w)).collect(),
        );
    }
    let mut packed = vec![0u8; if kind == "q8" { count } else { count / 2 }];
    let mantissas: Vec<[u16; 2]> = (0..count / 32)
        .map(|_| [from.next() as u16 % 1024, from.next() as u16 % 1024])
        .collect();
    let mut plain = vec![];
    for at in 0..count {
        let (row, column) = (at / COLUMNS, at % COLUMNS);
        let (block, t, k) = (column / 32, column % 32 / 8, column % 8);
        let number = (from.next() >> 33) as u8;
        let [scale, minimum] = mantissas[at / 32].map(|m| (1.0 + f64::from(m) / 1024.0) / 16.0);
        if kind == "q8" {
            packed[row * COLUMNS + block / 2 * 64 + t * 16 + block % 2 * 8 + k] = number;
            plain.push(scale * (f64::from(number) - 128.0));
        } else {
            let bit = 16 * (k % 2) + 4 * (k / 2);
            packed[row * COLUMNS / 2 + block / 4 * 64 + t * 16 + block % 4 * 4 + bit / 8] |=
                (number % 16) << (bit % 8);
            plain.push(scale * f64::from(number % 16) - minimum);
        }
    }
    let halves = |which: usize, sign: u16| {
        mantissas
            .iter()
            .flat_map(|m| (sign | 0x2c00 | m[which]).to_le_bytes())
            .collect()
    };
    let minima = if kind == "q4" {
        halves(1, 0x8000)
    } else {
        vec![]
    };
    ([packed, halves(0, 0), minima], plain)
}

#[test]
fn products_and_embeddings() {
    let Some(program) = program("products") else {
        return;
    };
    let mut from = Counter(1);
    let x = from.numbers(64 * COLUMNS);
    let bias = from.numbers(OUTPUTS);
    for kind in ["bf16", "q8", "q4"] {
        let ([numbers, scales, minima], plain) = weights(kind, &mut from);
        let product = |first: usize, rows: usize, tiles: usize| {
            let mut some = x[first * COLUMNS..(first + rows) * COLUMNS].to_vec();
            some.resize(rows.next_multiple_of(8 * tiles) * COLUMNS, f32::NAN);
            let arrays = [
                numbers.clone(),
                scales.clone(),
                minima.clone(),
                bf16s(&some),
                f32s(&bias),
                vec![0; rows * OUTPUTS * 4],
            ];
            run(
                &program,
                &format!("product_{kind}"),
                &[OUTPUTS, COLUMNS, rows, 0, tiles],
                &arrays,
            )
        };
        let all = product(0, 64, 8);
        for (at, got) in of_f32s(&all).into_iter().enumerate() {
            let (n, m) = (at / OUTPUTS, at % OUTPUTS);
            let terms =
                (0..COLUMNS).map(|k| plain[m * COLUMNS + k] * f64::from(x[n * COLUMNS + k]));
            let size: f64 = terms.clone().map(f64::abs).sum();
            near(
                kind,
                got,
                terms.sum::<f64>() + f64::from(bias[m]),
                2e-6 * size,
            );
        }
        for (first, rows, tiles) in [(0, 1, 1), (63, 1, 1), (5, 4, 1), (40, 16, 2), (7, 32, 4)] {
            let company = &all[first * OUTPUTS * 4..(first + rows) * OUTPUTS * 4];
            assert!(
                product(first, rows, tiles) == company,
                "{kind}: {rows} rows from {first} have other bits"
            );
        }
        let tokens = [31u32, 0, 7];
        let arrays = [
            numbers.clone(),
            scales.clone(),
            minima.clone(),
            u32s(&tokens),
            vec![0; 3 * 1000 * 4],
        ];
        let rows = of_f32s(&run(
            &program,
            &format!("embed_{kind}"),
            &[1000, COLUMNS],
            &arrays,
        ));
        for (at, got) in rows.iter().enumerate() {
            let wanted = plain[tokens[at / 1000] as usize * COLUMNS + at % 1000];
            assert!(*got == wanted as f32, "{kind}: {got} is not {wanted}");
        }
    }
}

#[test]
fn norms_and_activations() {
    let Some(program) = program("rows") else {
        return;
    };
    let (width, columns, count) = (600, 640, 3);
    let mut from = Counter(2);
    let x: Vec<f32> = from
        .numbers(width * count)
        .iter()
        .map(|n| n * 8.0)
        .collect();
    let (y, weights) = (from.numbers(width * count), from.numbers(width));
    for (kernel, gelu) in [
        ("rms_norm", 0),
        ("add_norm", 0),
        ("activate", 0),
        ("activate", 1),
        ("cap_scores", 0),
    ] {
        let arrays = [
            f32s(&x),
            f32s(&y),
            f32s(&weights),
            vec![0; count * columns * 2],
        ];
        let all = run(&program, kernel, &[width, columns, count, gelu], &arrays);
        let (changed, result) = all.split_at(4 * width * count);
        let (changed, result) = (of_f32s(changed), of_bf16s(result));
        for at in 0..width * count {
            let (row, column) = (at / width, at % width);
            let factor = |of: &[f32]| {
                let squares: f64 = of[row * width..(row + 1) * width]
                    .iter()
                    .map(|n| f64::from(*n).powi(2))
                    .sum();
                1.0 / (squares / width as f64 + 1e-6).sqrt()
            };
            let (a, b, weight) = (
                f64::from(x[at]),
                f64::from(y[at]),
                f64::from(weights[column]),
            );
            let inner = 0.797_884_560_802_865_4 * (a + 0.044_715 * a.powi(3));
            let active = if gelu == 1 {
                0.5 * a * (1.0 + inner.tanh())
            } else {
                a / (1.0 + (-a).exp())
            };
            let (got, wanted) = match kernel {
                "rms_norm" => (result[row * columns + column], a * factor(&x) * weight),
                "add_norm" => (changed[at], a + b * factor(&y) * weight),
                "activate" => (result[row * columns + column], active * b),
                _ => (changed[at], 30.0 * (a / 30.0).tanh()),
            };
            let in_bf16 = matches!(kernel, "rms_norm" | "activate");
            near(
                kernel,
                got,
                wanted,
                if in_bf16 {
                    wanted.abs() / 250.0 + 1e-6
                } else {
                    1e-5
                },
            );
        }
    }
}

const WIDTH: usize = 64;
const HEADS: usize = 2;
const GROUP: usize = 3;
const FIRST: usize = 550;
const ROWS: usize = 4;
const BLOCKS: usize = 19;

/// Rows of a sequence whose blocks lie in another order than its tokens, with what is in the cache before them.
struct Attention {
    table: Vec<u32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    norm: Vec<f32>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
    cached_keys: Vec<u8>,
    cached_values: Vec<u8>,
}

impl Attention {
    fn new() -> Attention {
        let mut from = Counter(3);
        let [queries, keys, values] =
            [HEADS * GROUP, HEADS, HEADS].map(|heads| from.numbers(ROWS * heads * WIDTH));
        let norm = from.numbers(WIDTH);
        let [cached_keys, cached_values] =
            [(); 2].map(|()| from.numbers(BLOCKS * HEADS * 32 * WIDTH));
        let angles: Vec<f32> = (0..576 * WIDTH / 2)
            .map(|at| (at / 32) as f32 / 10f32.powf((at % 32) as f32 / 8.0))
            .collect();
        let mut made = Attention {
            table: (0..18).map(|b| b * 7 % 19).collect(),
            queries,
            keys,
            values,
            norm,
            cosines: angles.iter().map(|a| a.cos()).collect(),
            sines: angles.iter().map(|a| a.sin()).collect(),
            cached_keys: bf16s(&cached_keys),
            cached_values: Vec::new(),
        };
        // What no row sees may be anything.
        let mut cached_values = cached_values;
        for at in FIRST + ROWS..576 {
            cached_values[made.cell(at, 0, 0)..][..WIDTH].fill(f32::INFINITY);
        }
        made.cached_values = bf16s(&cached_values);
        made
    }

    fn place(&self, at: usize) -> usize {
        self.table[at / 32] as usize * 32 + at % 32
    }

    /// Where number `i` of a head of token `at` lies in the cache.
    fn cell(&self, at: usize, head: usize, i: usize) -> usize {
        let place = self.place(at);
        ((place / 32 * HEADS + head) * 32 + place % 32) * WIDTH + i
    }

    /// Number `i` of a head, normed and turned by the position of token `at`.
    fn turned(&self, x: &[f32], at: usize, i: usize) -> f64 {
        let squares: f64 = x.iter().map(|n| f64::from(*n).powi(2)).sum();
        let normed =
            |i: usize| f64::from(x[i] * self.norm[i]) / (squares / WIDTH as f64 + 1e-6).sqrt();
        let (half, turn) = (WIDTH / 2, at * WIDTH / 2 + i % (WIDTH / 2));
        let (cosine, sine) = (f64::from(self.cosines[turn]), f64::from(self.sines[turn]));
        if i < half {
            normed(i) * cosine - normed(i + half) * sine
        } else {
            normed(i) * cosine + normed(i - half) * sine
        }
    }

    /// The emulation on `rows` rows from `first` on, over this cache: what was mixed, and the cache afterwards.
    fn run(
        &self,
        program: &Path,
        window: usize,
        [first, rows]: [usize; 2],
        [keys, values]: [&[u8]; 2],
    ) -> [Vec<u8>; 3] {
        let some = |x: &[f32], each: usize| f32s(&x[first * each..(first + rows) * each]);
        let at: Vec<u32> = (first..first + rows)
            .map(|row| (FIRST + row) as u32)
            .collect();
        let places: Vec<u32> = { at.iter() }
            .map(|at| self.place(*at as usize) as u32)
            .collect();
        let arrays = [
            some(&self.queries, HEADS * GROUP * WIDTH),
            some(&self.keys, HEADS * WIDTH),
            some(&self.values, HEADS * WIDTH),
            f32s(&self.norm),
            f32s(&self.cosines),
            f32s(&self.sines),
            keys.to_vec(),
            values.to_vec(),
            u32s(&self.table),
            u32s(&at),
            u32s(&places),
            vec![0; rows * HEADS * GROUP * WIDTH * 2],
        ];
        let numbers = [HEADS, GROUP, WIDTH, rows, window, 3];
        let all = run(program, "attention", &numbers, &arrays);
        let (mixed, caches) = all.split_at(rows * HEADS * GROUP * WIDTH * 2);
        let (keys, values) = caches.split_at(keys.len());
        [mixed, keys, values].map(<[u8]>::to_vec)
    }

    /// That keys are normed and turned in the cache, and values as they were.
    fn check_cache(&self, row: usize, cached: &[f32], seen: &[f32]) {
        let last = FIRST + row;
        for head in 0..HEADS {
            let of = (row * HEADS + head) * WIDTH;
            for i in 0..WIDTH {
                let wanted = self.turned(&self.keys[of..of + WIDTH], last, i);
                let cell = self.cell(last, head, i);
                near("key", cached[cell], wanted, wanted.abs() / 250.0 + 1e-5);
                assert!(seen[cell] == self.values[of + i], "a value");
            }
        }
    }

    /// That a row has the values of what it sees, by the powers of its scores.
    fn check_mixed(&self, row: usize, window: usize, mixed: &[f32], cached: &[f32], seen: &[f32]) {
        let last = FIRST + row;
        let oldest = if window == 0 { 0 } else { last + 1 - window };
        for head in 0..HEADS * GROUP {
            let of = (row * HEADS * GROUP + head) * WIDTH;
            let query: Vec<f64> = (0..WIDTH)
                .map(|i| self.turned(&self.queries[of..of + WIDTH], last, i) / 8.0)
                .collect();
            let score = |at: usize| -> f64 {
                let key = |i: usize| f64::from(cached[self.cell(at, head / GROUP, i)]);
                (0..WIDTH).map(|i| query[i] * key(i)).sum()
            };
            let powers: Vec<f64> = (oldest..=last).map(|at| score(at).exp()).collect();
            let sum: f64 = powers.iter().sum();
            for i in 0..WIDTH {
                let value = |at: usize| f64::from(seen[self.cell(oldest + at, head / GROUP, i)]);
                let terms = powers.iter().enumerate();
                let wanted: f64 = terms.map(|(at, power)| power * value(at) / sum).sum();
                let error = wanted.abs() / 250.0 + 1e-5;
                near("attention", mixed[of + i], wanted, error);
            }
        }
    }
}

#[test]
fn attention_over_shuffled_blocks() {
    let Some(program) = program("attention") else {
        return;
    };
    let layer = Attention::new();
    for window in [0, 100, 300] {
        let before = [&layer.cached_keys[..], &layer.cached_values];
        let [mixed, keys, values] = layer.run(&program, window, [0, ROWS], before);
        for (row, company) in mixed.chunks_exact(mixed.len() / ROWS).enumerate() {
            let [alone, ..] = layer.run(&program, window, [row, 1], [&keys, &values]);
            assert!(alone == company, "row {row} has other bits alone");
        }
        let (mixed, cached, seen) = (of_bf16s(&mixed), of_bf16s(&keys), of_bf16s(&values));
        for row in 0..ROWS {
            layer.check_cache(row, &cached, &seen);
            layer.check_mixed(row, window, &mixed, &cached, &seen);
        }
    }
}

const TOKENS: usize = 1000;

/// Options by number, edges of their ranges among them.
fn options(case: usize) -> Sampling {
    Sampling {
        temperature: [0.7, 0.0, 1.0, 2.0, 0.05, 6e-5, 7e-5][case % 7],
        top_k: [0, 9, 1, 0, 40, 999, 1000, 5000][case / 3 % 8],
        top_p: [1.0, 0.8, 1.0, 0.999, 1e-6][case / 5 % 5],
        min_p: [0.0, 0.0, 0.1, 1.0][case / 11 % 4],
        repetition: [1.0, 1.3, 0.7][case / 2 % 3],
        presence: [0.0, 0.5, -1.0][case / 4 % 3],
        frequency: [0.0, 0.25, -0.1][case / 6 % 3],
        seed: (case as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ..Sampling::greedy(100)
    }
}

/// The sampler of the CPU and the kernel choose the same token: 4,000 of them, by every option, penalties over ten tokens, with and
/// without bias and grammar, from scores of which many are equal at every cut, all are, or some are far apart.
#[test]
fn a_choice_is_that_of_the_cpus_sampler() {
    let Some(program) = program("sample") else {
        return;
    };
    const STEPS: usize = 10;
    let (path, mut from) = (kernels::Path::detect(), Counter(4));
    for case in 0..400 {
        let sampling = options(case);
        let few = |n: &f32| match case % 4 {
            0 => n * 8.0,
            1 => (n * 6.0).round(),
            2 => 0.25,
            _ => (n * 3.0).round() * 3000.0 + n,
        };
        let scores: Vec<f32> = from.numbers(TOKENS * STEPS).iter().map(few).collect();
        let bias: Vec<(u32, f32)> = match case % 3 {
            0 => (0..50).map(|n| (n * 7, from.number() * 4.0)).collect(),
            _ => Vec::new(),
        };
        let classes: Vec<u16> = (0..TOKENS).map(|t| t as u16 % 40).collect();
        let next = (0..40).map(|class| {
            if class < 4 || class == 39 {
                u16::MAX
            } else {
                0
            }
        });
        let words = Automaton::words(&classes, &[next.collect()], 0);
        let grammar = Automaton::parse(path, &words, TOKENS).unwrap();
        let constraints = Constraints {
            bias: &bias,
            grammar: (case % 5 < 2).then_some(&grammar),
            ..Constraints::default()
        };
        let prompt: Vec<u32> = (0..200).map(|n| n * 5).collect();
        let mut sampler = Sampler::new(path, TOKENS, sampling, constraints, &prompt).unwrap();
        let rules = sampler.rules();
        let mut how = [sampling.seed.to_le_bytes(), [0; 8]].concat();
        how.extend(f32s(&[
            sampling.temperature,
            sampling.top_p,
            sampling.min_p,
        ]));
        how.extend(f32s(&[
            sampling.repetition,
            sampling.presence,
            sampling.frequency,
        ]));
        how.extend(u32s(&[sampling.top_k, 0]));
        let classes = rules.classes().unwrap_or_default();
        let arrays = [
            how,
            f32s(&scores),
            f32s(&rules.bias().unwrap_or_default()),
            u32s(&rules.counters().unwrap_or_default()),
            classes
                .iter()
                .flat_map(|class| class.to_le_bytes())
                .collect(),
            u32s(rules.allowed().as_ref().map_or(&[], |bits| &bits[..])),
            u32s(&[17, 300]),
        ];
        let got = run(&program, "sample", &[TOKENS, STEPS], &arrays);
        let rows = scores.chunks_exact(TOKENS).zip(got.chunks_exact(4));
        for (step, (scores, got)) in rows.enumerate() {
            let mut scores = scores.to_vec();
            (scores[17], scores[300]) = (engine::forward::FORBIDDEN, engine::forward::FORBIDDEN);
            let wanted = sampler.choose(&scores).unwrap().token;
            let got = u32::from_le_bytes(got.try_into().unwrap());
            assert_eq!(got, wanted, "{sampling:?}, case {case}, step {step}");
        }
    }
}
