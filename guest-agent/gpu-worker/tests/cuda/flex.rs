//! Each kernel but the sampler against Burn on flex, launched through the driver: an EMULATION of it here, which proves nothing about a
//! cubin, and a device where there is one (`device.rs`).
//!
//! Both get the same numbers. Inputs of products, keys and values are exact in bf16, so that what differs is what a kernel does: the order
//! of its sums, its exponential, and the rounding of what it gives as bf16.

use std::path::Path;

use burn::nn::RmsNorm;
use burn::tensor::activation::{gelu_approximate, silu, softmax};
use burn::tensor::{Tensor, TensorData};
use engine::backend::{Cpu, cpu};
use gpu_worker::cuda::parts::{Argument, Device, Function, Kernels, Matrix, Memory};
use kernels::{Kind, Packed};

use crate::decoder::emulated;

/// The largest error that is allowed, as a part of a number's own size and the root mean square of all. Measured: docs/testing.md.
const ERROR: f64 = 4e-6;
/// How much a number may lose beside that, as a part of it, where a kernel gives bf16: half a unit of its last place.
const ROUNDED: f64 = 1.0 / 256.0;
/// Where it gives single precision.
const SINGLE: f64 = 0.0;

const EPSILON: f32 = 1e-6;

#[test]
fn kernels_compute_what_flex_computes() {
    emulated("flex::kernels_compute_what_flex_computes", kernels);
}

pub fn kernels(cubins: &Path) {
    let device = Device::open().unwrap();
    let kernels = Kernels::load(&device, cubins).unwrap();
    let mut gpu = Gpu {
        device,
        kernels,
        seed: 7,
    };
    for kind in [Kind::Bf16, Kind::Q8, Kind::Q4] {
        gpu.products(kind);
        gpu.embeddings(kind);
    }
    gpu.norms();
    gpu.activations();
    gpu.capped_scores();
    for window in [None, Some(100), Some(300)] {
        gpu.attention(window);
    }
}

struct Gpu {
    device: Device,
    kernels: Kernels,
    seed: u64,
}

/// A tensor of flex.
fn flex<const D: usize>(numbers: &[f32], shape: [usize; D]) -> Tensor<Cpu, D> {
    Tensor::from_data(TensorData::new(numbers.to_vec(), shape), &cpu())
}

fn numbers<const D: usize>(tensor: Tensor<Cpu, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

fn bf16(number: f32) -> u16 {
    (number.to_bits() >> 16) as u16
}

/// That no number differs by more than [`ERROR`] and what it loses by `rounding`.
fn near(what: &str, got: &[f32], wanted: &[f32], rounding: f64) {
    assert_eq!(got.len(), wanted.len(), "{what}");
    let squares: f64 = wanted.iter().map(|x| f64::from(*x).powi(2)).sum();
    let size = (squares / wanted.len() as f64).sqrt();
    assert!(size > 0.0, "{what}: nothing to compare with");
    let (mut worst, mut beyond) = (0f64, 0f64);
    for (got, wanted) in got.iter().zip(wanted) {
        let (off, wanted) = ((got - wanted).abs(), f64::from(wanted.abs()));
        assert!(off.is_finite(), "{what}: {got}");
        let (off, whole) = (f64::from(off), wanted + size);
        worst = worst.max(off / whole);
        beyond = beyond.max((off - rounding * wanted) / whole);
    }
    println!("{what}: {worst:.2e}, beyond its rounding {beyond:.2e}");
    assert!(beyond <= ERROR, "{what}: an error of {beyond}");
}

/// `x` normed by its root mean square, row by row.
fn normed<const D: usize>(x: Tensor<Cpu, D>, weights: &[f32]) -> Tensor<Cpu, D> {
    let norm = RmsNorm {
        gamma: burn::module::Param::from_tensor(flex(weights, [weights.len()])),
        epsilon: EPSILON.into(),
    };
    norm.forward(x)
}

impl Gpu {
    /// Between -2 and 2, down to a hundredth, exact in bf16: products of them have more bits than single precision.
    fn random(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            ((z ^ (z >> 29)) >> 40) as u32
        };
        let number = |bits: u32| {
            let exponent = 127 - (bits >> 8 & 7);
            f32::from_bits((bits & 1) << 31 | exponent << 23 | (bits >> 1 & 127) << 16)
        };
        (0..count).map(|_| number(next())).collect()
    }

    fn held<T: Copy>(&self, numbers: &[T]) -> Memory {
        let memory = self.device.zeros(size_of_val(numbers)).unwrap();
        self.device.copy_in(&memory, 0, numbers).unwrap();
        memory
    }

    fn launch(&self, kernel: Function, grid: [usize; 3], threads: usize, arguments: &[Argument]) {
        self.device
            .launch(kernel, grid, threads, arguments)
            .unwrap();
    }

    fn single(&self, memory: &Memory, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        self.device.copy_out(memory, &mut out).unwrap();
        out
    }

    /// The first `width` of each `columns` numbers in bf16; the rest must be zeros.
    fn rounded(&self, memory: &Memory, rows: usize, width: usize, columns: usize) -> Vec<f32> {
        let mut out = vec![0u16; rows * columns];
        self.device.copy_out(memory, &mut out).unwrap();
        let rows = out.chunks_exact(columns);
        let all = rows.flat_map(|row| {
            assert!(row[width..].iter().all(|rest| *rest == 0));
            row[..width]
                .iter()
                .map(|bits| f32::from_bits(u32::from(*bits) << 16))
        });
        all.collect()
    }

    /// Weights of a kind on the device, and the numbers that they stand for.
    fn matrix(&mut self, kind: Kind, rows: usize, columns: usize) -> (Matrix, Vec<f32>) {
        let mut packed = Packed::zeroed(kind, rows, columns).unwrap();
        let mut plain = vec![0.0; rows * columns];
        for (row, out) in plain.chunks_exact_mut(columns).enumerate() {
            packed.set_row(row, &self.random(columns)).unwrap();
            packed.row(row, out).unwrap();
        }
        (Matrix::new(&self.device, &packed).unwrap(), plain)
    }

    /// One row (a vector) to 96 (a matrix), by each of the kernels for 8, 16, 32 and 64 at a time.
    fn products(&mut self, kind: Kind) {
        const OUTPUTS: usize = 40;
        const INPUTS: usize = 1000;
        let (matrix, plain) = self.matrix(kind, OUTPUTS, INPUTS);
        let [weights, scales, minima] = matrix.arguments();
        let bias = self.random(OUTPUTS);
        let before = self.random(96 * OUTPUTS);
        let transposed = flex(&plain, [OUTPUTS, INPUTS]).transpose();
        for (rows, size) in [(1, 0), (7, 0), (16, 1), (30, 2), (64, 3), (96, 3)] {
            let x = self.random(rows * INPUTS);
            // Rows up to a whole number of the kernel's, columns up to the matrix's.
            let at_once = 8 << size;
            let mut padded = vec![0u16; rows.next_multiple_of(at_once) * matrix.columns];
            for (row, out) in padded
                .chunks_exact_mut(matrix.columns)
                .take(rows)
                .enumerate()
            {
                let row = &x[row * INPUTS..(row + 1) * INPUTS];
                out.iter_mut().zip(row).for_each(|(out, x)| *out = bf16(*x));
            }
            let (x_held, bias_held) = (self.held(&padded), self.held(&bias));
            let product = flex(&x, [rows, INPUTS]).matmul(transposed.clone());
            for add in [false, true] {
                let out = self.held(&before[..rows * OUTPUTS]);
                let arguments = [
                    weights,
                    scales,
                    minima,
                    (&x_held).into(),
                    (!add).then_some(&bias_held).into(),
                    (&out).into(),
                    (OUTPUTS as u32).into(),
                    (matrix.columns as u32).into(),
                    (rows as u32).into(),
                    u32::from(add).into(),
                ];
                let kernel = self.kernels.product[4 * matrix.index() + size];
                let grid = [OUTPUTS.div_ceil(16), rows.div_ceil(at_once), 1];
                self.launch(kernel, grid, 256, &arguments);
                let wanted = match add {
                    true => product.clone() + flex(&before[..rows * OUTPUTS], [rows, OUTPUTS]),
                    false => product.clone() + flex(&bias, [1, OUTPUTS]),
                };
                let what = format!("product of {rows} rows, {kind:?}");
                let got = self.single(&out, rows * OUTPUTS);
                near(&what, &got, &numbers(wanted), SINGLE);
            }
        }
    }

    fn embeddings(&mut self, kind: Kind) {
        const WIDTH: usize = 200;
        let (matrix, plain) = self.matrix(kind, 50, WIDTH);
        let [weights, scales, minima] = matrix.arguments();
        let tokens = [49u32, 0, 17, 17];
        let (held, out) = (self.held(&tokens), self.held(&[0f32; 4 * WIDTH]));
        let arguments = [
            weights,
            scales,
            minima,
            (&held).into(),
            (&out).into(),
            (WIDTH as u32).into(),
            (matrix.columns as u32).into(),
            8f32.into(),
        ];
        let kernel = self.kernels.embed[matrix.index()];
        self.launch(kernel, [tokens.len(), 1, 1], 256, &arguments);
        let ids = TensorData::new(tokens.map(|token| token as i32).to_vec(), [1, tokens.len()]);
        let wanted = burn::tensor::module::embedding(
            flex(&plain, [50, WIDTH]),
            Tensor::from_data(ids, &cpu()),
        );
        let got = self.single(&out, 4 * WIDTH);
        let what = format!("embedding, {kind:?}");
        near(&what, &got, &numbers(wanted.mul_scalar(8.0)), SINGLE);
    }

    fn norms(&mut self) {
        const ROWS: usize = 5;
        const WIDTH: usize = 600;
        const COLUMNS: usize = 640;
        let x: Vec<f32> = self.random(ROWS * WIDTH).iter().map(|x| x * 9.0).collect();
        let (y, weights) = (self.random(ROWS * WIDTH), self.random(WIDTH));
        let (x_held, y_held, held) = (self.held(&x), self.held(&y), self.held(&weights));
        let some = [3u32, 0, 4];
        let (named, out) = (self.held(&some), self.held(&[0u16; 3 * COLUMNS]));
        let arguments = [
            (&x_held).into(),
            (&named).into(),
            (&held).into(),
            (&out).into(),
            (WIDTH as u32).into(),
            (COLUMNS as u32).into(),
            EPSILON.into(),
        ];
        self.launch(self.kernels.rms_norm, [3, 1, 1], 256, &arguments);
        let all = numbers(normed(flex(&x, [ROWS, WIDTH]), &weights));
        let rows = some.iter().map(|row| *row as usize * WIDTH);
        let wanted: Vec<f32> = rows
            .flat_map(|row| all[row..row + WIDTH].to_vec())
            .collect();
        let got = self.rounded(&out, 3, WIDTH, COLUMNS);
        near("rms_norm", &got, &wanted, ROUNDED);

        let arguments = [
            (&x_held).into(),
            (&y_held).into(),
            (&held).into(),
            (WIDTH as u32).into(),
            EPSILON.into(),
        ];
        self.launch(self.kernels.add_norm, [ROWS, 1, 1], 256, &arguments);
        let wanted = flex(&x, [ROWS, WIDTH]) + normed(flex(&y, [ROWS, WIDTH]), &weights);
        let got = self.single(&x_held, ROWS * WIDTH);
        near("add_norm", &got, &numbers(wanted), SINGLE);
    }

    fn activations(&mut self) {
        const ROWS: usize = 3;
        const WIDTH: usize = 600;
        const COLUMNS: usize = 640;
        let gate = self.random(ROWS * WIDTH);
        let gate: Vec<f32> = gate.iter().map(|x| x * 12.0).collect();
        let up = self.random(ROWS * WIDTH);
        let (gate_held, up_held) = (self.held(&gate), self.held(&up));
        for gelu in [false, true] {
            let out = self.held(&[0u16; ROWS * COLUMNS]);
            let arguments = [
                (&gate_held).into(),
                (&up_held).into(),
                (&out).into(),
                (WIDTH as u32).into(),
                (COLUMNS as u32).into(),
                u32::from(gelu).into(),
            ];
            let grid = [ROWS, WIDTH.div_ceil(256), 1];
            self.launch(self.kernels.activate, grid, 256, &arguments);
            let gate = flex(&gate, [ROWS, WIDTH]);
            let active = if gelu {
                gelu_approximate(gate)
            } else {
                silu(gate)
            };
            let wanted = numbers(active * flex(&up, [ROWS, WIDTH]));
            let got = self.rounded(&out, ROWS, WIDTH, COLUMNS);
            let what = if gelu {
                "activate, gelu"
            } else {
                "activate, silu"
            };
            near(what, &got, &wanted, ROUNDED);
        }
    }

    fn capped_scores(&mut self) {
        const COUNT: usize = 3000;
        const CAP: f32 = 30.0;
        let scores: Vec<f32> = self.random(COUNT).iter().map(|x| x * 90.0).collect();
        let held = self.held(&scores);
        let arguments = [(&held).into(), (COUNT as u64).into(), CAP.into()];
        self.launch(self.kernels.cap_scores, [4, 1, 1], 256, &arguments);
        let wanted = flex(&scores, [COUNT]).div_scalar(CAP).tanh();
        let wanted = numbers(wanted.mul_scalar(CAP));
        near("cap_scores", &self.single(&held, COUNT), &wanted, SINGLE);
    }
}

/// A layer's attention over one sequence: six query heads on two key heads, three parts of 256 tokens, blocks in another order than
/// the tokens.
const KEY_HEADS: usize = 2;
const GROUP: usize = 3;
const HEADS: usize = KEY_HEADS * GROUP;
const WIDTH: usize = 64;
const TOKENS: usize = 554;
/// The last of them are computed; the others are in the cache.
const ROWS: usize = 4;
const BLOCK: usize = 32;
const BLOCKS: usize = 19;
const PARTS: usize = 3;
const OUT: usize = 512;

/// Where a token lies: its block times 32 and its place in that.
fn place(table: &[u32], token: usize) -> usize {
    table[token / BLOCK] as usize * BLOCK + token % BLOCK
}

/// The first number of a head of a place in the cache.
fn cell(place: usize, head: usize) -> usize {
    ((place / BLOCK * KEY_HEADS + head) * BLOCK + place % BLOCK) * WIDTH
}

/// Turns `[rows, heads, WIDTH]`, each row by its own half of cosines and sines.
fn turned(x: Tensor<Cpu, 3>, cosines: &[f32], sines: &[f32]) -> Tensor<Cpu, 3> {
    let [rows, heads, _] = x.dims();
    let half = WIDTH / 2;
    let [cosines, sines] = [cosines, sines].map(|table| flex(table, [rows, 1, half]));
    let part = |range| x.clone().slice([0..rows, 0..heads, range]);
    let (first, second) = (part(0..half), part(half..WIDTH));
    let turned = [
        first.clone() * cosines.clone() - second.clone() * sines.clone(),
        second * cosines + first * sines,
    ];
    Tensor::cat(turned.to_vec(), 2)
}

/// What a layer is given, and its tables.
struct Layer {
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    norm: Vec<f32>,
    cosines: Vec<f32>,
    sines: Vec<f32>,
    /// Of the tokens before the rows, as they lie in the cache.
    cached: [Vec<f32>; 2],
    table: Vec<u32>,
}

impl Layer {
    fn new(gpu: &mut Gpu) -> Layer {
        let half = WIDTH / 2;
        let angle = |at: usize| (at / half) as f32 / 10f32.powf((at % half) as f32 / 8.0);
        let angles: Vec<f32> = (0..TOKENS * half).map(angle).collect();
        Layer {
            queries: gpu.random(ROWS * HEADS * WIDTH),
            keys: gpu.random(ROWS * KEY_HEADS * WIDTH),
            values: gpu.random(ROWS * KEY_HEADS * WIDTH),
            norm: gpu.random(WIDTH),
            cosines: angles.iter().map(|angle| angle.cos()).collect(),
            sines: angles.iter().map(|angle| angle.sin()).collect(),
            cached: [(); 2].map(|()| gpu.random(BLOCKS * KEY_HEADS * BLOCK * WIDTH)),
            table: (0..18).map(|block| block * 7 % 19).collect(),
        }
    }

    /// Queries and keys of the rows as flex makes them, `[rows, heads, WIDTH]`.
    fn turned(&self, x: &[f32], heads: usize) -> Tensor<Cpu, 3> {
        let from = (TOKENS - ROWS) * WIDTH / 2;
        let x = normed(flex(x, [ROWS, heads, WIDTH]), &self.norm);
        turned(x, &self.cosines[from..], &self.sines[from..])
    }
}

/// All tokens of a cache, head by head: `[KEY_HEADS, TOKENS, WIDTH]`.
fn gathered(cache: &[f32], table: &[u32]) -> Tensor<Cpu, 3> {
    let mut all = Vec::new();
    for head in 0..KEY_HEADS {
        for token in 0..TOKENS {
            all.extend(&cache[cell(place(table, token), head)..][..WIDTH]);
        }
    }
    flex(&all, [KEY_HEADS, TOKENS, WIDTH])
}

/// What each row sees of keys and values, `[ROWS, HEADS * WIDTH]`.
fn attended(
    queries: Tensor<Cpu, 3>,
    [keys, values]: [Tensor<Cpu, 3>; 2],
    window: Option<usize>,
) -> Vec<f32> {
    let mut mask = vec![-1e9; GROUP * ROWS * TOKENS];
    for (row, mask) in mask.chunks_exact_mut(TOKENS).enumerate() {
        let last = TOKENS - ROWS + row % ROWS;
        let first = window.map_or(0, |window| last + 1 - window);
        mask[first..=last].fill(0.0);
    }
    let queries = queries.swap_dims(0, 1);
    let queries = queries.reshape([KEY_HEADS, GROUP * ROWS, WIDTH]);
    let scores = queries.matmul(keys.swap_dims(1, 2));
    let mixed = softmax(scores + flex(&mask, [1, GROUP * ROWS, TOKENS]), 2).matmul(values);
    numbers(mixed.reshape([HEADS, ROWS, WIDTH]).swap_dims(0, 1))
}

impl Gpu {
    /// Norm and rotation of queries and keys, the cache, attention and its join.
    fn attention(&mut self, window: Option<usize>) {
        let layer = Layer::new(self);
        let scale = 1.0 / (WIDTH as f32).sqrt();
        let queries = self.held(&layer.queries);
        let caches = layer.cached.each_ref().map(|numbers| {
            let halves: Vec<u16> = numbers.iter().map(|x| bf16(*x)).collect();
            self.held(&halves)
        });
        self.turn(&layer, &queries, HEADS, None, scale);
        self.turn(
            &layer,
            &self.held(&layer.keys),
            KEY_HEADS,
            Some((&caches[0], true)),
            1.0,
        );
        let values = self.held(&layer.values);
        self.turn(&layer, &values, KEY_HEADS, Some((&caches[1], false)), 1.0);
        let wanted_queries = layer.turned(&layer.queries, HEADS).mul_scalar(scale);
        let got = self.single(&queries, ROWS * HEADS * WIDTH);
        near(
            "heads, queries",
            &got,
            &numbers(wanted_queries.clone()),
            SINGLE,
        );

        let cached = BLOCKS * KEY_HEADS * BLOCK;
        let now = caches
            .each_ref()
            .map(|cache| self.rounded(cache, cached, WIDTH, WIDTH));
        let written = |cache: &[f32]| -> Vec<f32> {
            let rows = (TOKENS - ROWS..TOKENS).map(|token| place(&layer.table, token));
            let heads = rows.flat_map(|place| (0..KEY_HEADS).map(move |head| cell(place, head)));
            heads
                .flat_map(|at| cache[at..at + WIDTH].to_vec())
                .collect()
        };
        let wanted = numbers(layer.turned(&layer.keys, KEY_HEADS));
        near("heads, keys", &written(&now[0]), &wanted, ROUNDED);
        assert!(
            written(&now[1]) == layer.values,
            "values are kept as they are"
        );

        let got = self.mixed(&layer, &queries, &caches, window);
        let seen = now.each_ref().map(|cache| gathered(cache, &layer.table));
        let wanted = attended(wanted_queries, seen, window);
        near(
            &format!("attend and join, window {window:?}"),
            &got,
            &wanted,
            ROUNDED,
        );
    }

    /// The kernel `heads` on one of queries, keys and values; with a cache says whether norm and rotation go before it.
    fn turn(
        &self,
        layer: &Layer,
        x: &Memory,
        heads: usize,
        cache: Option<(&Memory, bool)>,
        scale: f32,
    ) {
        let turns = cache.is_none_or(|(_, turns)| turns);
        let positions: Vec<u32> = (0..ROWS).map(|row| (TOKENS - ROWS + row) as u32).collect();
        let places = positions
            .iter()
            .map(|token| place(&layer.table, *token as usize) as u32);
        let places = self.held(&places.collect::<Vec<u32>>());
        let [positions, norm, cosines, sines] = [
            self.held(&positions),
            self.held(&layer.norm),
            self.held(&layer.cosines),
            self.held(&layer.sines),
        ];
        let some = |memory| turns.then_some(memory);
        let arguments = [
            x.into(),
            some(&norm).into(),
            some(&cosines).into(),
            some(&sines).into(),
            cache.map(|(cache, _)| cache).into(),
            (&positions).into(),
            (&places).into(),
            (heads as u32).into(),
            (WIDTH as u32).into(),
            EPSILON.into(),
            scale.into(),
        ];
        self.launch(self.kernels.heads, [ROWS, heads, 1], 32, &arguments);
        self.device.wait().unwrap();
    }

    /// What attention and its join make of the queries.
    fn mixed(
        &self,
        layer: &Layer,
        queries: &Memory,
        [keys, values]: &[Memory; 2],
        window: Option<usize>,
    ) -> Vec<f32> {
        let positions: Vec<u32> = (0..ROWS).map(|row| (TOKENS - ROWS + row) as u32).collect();
        let [table, sequences, positions] = [
            self.held(&layer.table),
            self.held(&[0u32; ROWS]),
            self.held(&positions),
        ];
        let scratch = self.held(&vec![0f32; ROWS * HEADS * PARTS * (WIDTH + 2)]);
        let out = self.held(&[0u16; ROWS * OUT]);
        let window = window.unwrap_or(0) as u32;
        let arguments = [
            queries.into(),
            keys.into(),
            values.into(),
            (&table).into(),
            (&sequences).into(),
            (&positions).into(),
            (&scratch).into(),
            (KEY_HEADS as u32).into(),
            (WIDTH as u32).into(),
            (layer.table.len() as u32).into(),
            (PARTS as u32).into(),
            window.into(),
        ];
        let grid = [KEY_HEADS, ROWS, PARTS];
        self.launch(self.kernels.attend, grid, 32 * GROUP, &arguments);
        let arguments = [
            (&scratch).into(),
            (&positions).into(),
            (&out).into(),
            (HEADS as u32).into(),
            (WIDTH as u32).into(),
            (OUT as u32).into(),
            (PARTS as u32).into(),
            window.into(),
        ];
        self.launch(self.kernels.join, [ROWS, HEADS, 1], 32, &arguments);
        self.rounded(&out, ROWS, HEADS * WIDTH, OUT)
    }
}
