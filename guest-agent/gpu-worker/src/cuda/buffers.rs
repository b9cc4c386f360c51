//! The kernels and the memory in which steps compute.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use model::decoder::Config;

use super::CudaError;
use super::device::{Device, Function, Memory};
use super::layout::COLUMNS_UNIT;
use super::step::{PART_TOKENS, SAMPLING_WORDS};

/// Rows that the largest product takes at a time: buffers have whole numbers of them.
const ROWS_UNIT: usize = 64;
/// What attention keeps between its two kernels, at most, but for one row.
const SCRATCH_BYTES: usize = 256 << 20;
/// Bytes of a cubin at most; the largest has 187 KB.
const CUBIN_BYTES_MAX: u64 = 16 << 20;

/// Every kernel, by its name in `kernels/*.cu`, where its arguments are.
#[expect(missing_docs)]
pub struct Kernels {
    /// By kind (bf16, q8, q4), then by rows: 8, 16, 32, 64.
    pub product: Vec<Function>,
    pub embed: Vec<Function>,
    pub rms_norm: Function,
    pub add_norm: Function,
    pub heads: Function,
    pub activate: Function,
    pub cap_scores: Function,
    pub attend: Function,
    pub join: Function,
    pub sample: Function,
}

impl Kernels {
    /// Loads the four cubins of a directory.
    pub fn load(device: &Device, directory: &Path) -> Result<Self, CudaError> {
        const PRODUCT: [&str; 15] = [
            "product_bf16_8",
            "product_bf16_16",
            "product_bf16_32",
            "product_bf16_64",
            "product_q8_8",
            "product_q8_16",
            "product_q8_32",
            "product_q8_64",
            "product_q4_8",
            "product_q4_16",
            "product_q4_32",
            "product_q4_64",
            "embed_bf16",
            "embed_q8",
            "embed_q4",
        ];
        const LAYER: [&str; 5] = ["rms_norm", "add_norm", "heads", "activate", "cap_scores"];
        let mut product = device.functions(&cubin(directory, "product.cubin")?, &PRODUCT)?;
        let embed = product.split_off(12);
        let layer = device.functions(&cubin(directory, "layer.cubin")?, &LAYER)?;
        let attention =
            device.functions(&cubin(directory, "attention.cubin")?, &["attend", "join"])?;
        let sample = device.functions(&cubin(directory, "sample.cubin")?, &["sample"])?;
        Ok(Kernels {
            product,
            embed,
            rms_norm: layer[0],
            add_norm: layer[1],
            heads: layer[2],
            activate: layer[3],
            cap_scores: layer[4],
            attend: attention[0],
            join: attention[1],
            sample: sample[0],
        })
    }
}

fn cubin(directory: &Path, file: &str) -> Result<Vec<u8>, CudaError> {
    let path = directory.join(file);
    let failed = |why: String| CudaError::Cubin {
        file: path.display().to_string(),
        why,
    };
    let opened = File::open(&path).map_err(|error| failed(error.to_string()))?;
    let mut bytes = Vec::new();
    let read = opened.take(CUBIN_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    match bytes.len() as u64 {
        0..64 => Err(failed("is too short for a cubin".into())),
        64..=CUBIN_BYTES_MAX => Ok(bytes),
        _ => Err(failed("is larger than a cubin is".into())),
    }
}

/// How much steps have at most.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    pub rows: usize,
    pub scored: usize,
    /// Tokens of a sequence.
    pub context: usize,
    /// Blocks of keys and values, without the one that rows which nobody wants are written to.
    pub blocks: usize,
}

/// The memory of steps. Rows are rows of numbers in f32, but for those that enter products, which are bf16 and have columns that
/// stay zeros.
pub struct Buffers {
    pub input: Memory,
    pub hidden: Memory,
    pub normed: Memory,
    pub queries: Memory,
    pub keys: Memory,
    pub values: Memory,
    pub mixed: Memory,
    pub gate: Memory,
    pub up: Memory,
    pub active: Memory,
    pub out: Memory,
    pub scratch: Memory,
    pub scores: Memory,
    pub weights: Memory,
    /// Chosen tokens, then scores that are kept for log probabilities.
    pub output: Memory,
    /// For each sequence and token: bias, counter, class.
    pub bias: Memory,
    pub counters: Memory,
    pub classes: Memory,
    /// Keys and values of each layer.
    pub cache: Vec<[Memory; 2]>,
}

/// Columns of what enters a product.
pub fn columns(width: usize) -> usize {
    width.next_multiple_of(COLUMNS_UNIT)
}

/// Parts of a sequence in attention, a power of two so that few graphs are captured.
pub fn parts(tokens: usize) -> usize {
    tokens.div_ceil(PART_TOKENS).next_power_of_two()
}

/// Rows that attention takes at a time.
pub fn attended(config: &Config, parts: usize, rows: usize) -> usize {
    (SCRATCH_BYTES / scratch_row(config, parts)).clamp(1, rows.max(1))
}

fn scratch_row(config: &Config, parts: usize) -> usize {
    4 * config.heads * parts * (config.head_width + 2)
}

/// Bytes of one layer's keys, or values, in `blocks` blocks and one.
pub fn cache_bytes(config: &Config, blocks: usize) -> usize {
    2 * (blocks + 1) * engine::BLOCK_TOKENS * config.key_value_heads * config.head_width
}

/// The sizes of [`Buffers`] in their order, without the cache.
fn sizes(config: &Config, extent: &Extent) -> [usize; 18] {
    let rows = extent.rows.next_multiple_of(ROWS_UNIT);
    let (queries, keys) = (
        config.heads * config.head_width,
        config.key_value_heads * config.head_width,
    );
    let parts = parts(extent.context);
    let scores = extent.scored.next_multiple_of(ROWS_UNIT) * config.vocabulary;
    let tables = extent.scored * parts * PART_TOKENS / engine::BLOCK_TOKENS;
    let input = 4 * rows + 2 + extent.scored * (1 + SAMPLING_WORDS) + tables;
    [
        4 * input,
        4 * rows * config.hidden,
        2 * rows * columns(config.hidden),
        4 * rows * queries,
        4 * rows * keys,
        4 * rows * keys,
        2 * rows * columns(queries),
        4 * rows * config.intermediate,
        4 * rows * config.intermediate,
        2 * rows * columns(config.intermediate),
        4 * rows * config.hidden,
        scratch_row(config, parts) * attended(config, parts, extent.rows),
        4 * scores,
        4 * scores,
        4 * (ROWS_UNIT + scores),
        4 * extent.scored * config.vocabulary,
        4 * extent.scored * config.vocabulary,
        2 * extent.scored * config.vocabulary,
    ]
}

impl Buffers {
    /// Bytes of all of it. Sizes are within the limits of a configuration and of a step, so their sums are within 64 bits.
    pub fn bytes(config: &Config, extent: &Extent) -> u64 {
        let cache = (2 * config.layers.len()) as u64 * cache_bytes(config, extent.blocks) as u64;
        cache
            + sizes(config, extent)
                .iter()
                .map(|bytes| *bytes as u64)
                .sum::<u64>()
    }

    /// Zeros.
    pub fn new(device: &Device, config: &Config, extent: &Extent) -> Result<Self, CudaError> {
        let mut sizes = sizes(config, extent).into_iter();
        let mut next = || device.zeros(sizes.next().unwrap_or_default());
        let bytes = cache_bytes(config, extent.blocks);
        let cache = config
            .layers
            .iter()
            .map(|_| Ok([device.zeros(bytes)?, device.zeros(bytes)?]));
        Ok(Buffers {
            cache: cache.collect::<Result<_, CudaError>>()?,
            input: next()?,
            hidden: next()?,
            normed: next()?,
            queries: next()?,
            keys: next()?,
            values: next()?,
            mixed: next()?,
            gate: next()?,
            up: next()?,
            active: next()?,
            out: next()?,
            scratch: next()?,
            scores: next()?,
            weights: next()?,
            output: next()?,
            bias: next()?,
            counters: next()?,
            classes: next()?,
        })
    }
}
