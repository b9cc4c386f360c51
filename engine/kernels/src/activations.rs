//! Rows of activations in the form that a kind of weights is multiplied with.

use crate::half::to_bf16;
use crate::packed::{BLOCK_COLUMNS, Kind};
use crate::simd::{self, LANES, Simd};

/// 32 activations as i8 with one scale: the largest magnitude is 127.
#[derive(Clone, Copy, Default)]
pub(crate) struct Block {
    /// Four i8 each, the first in the lowest byte.
    pub quants: [i32; 8],
    pub scale: f32,
    /// The scale times the sum of the i8: what a minimum of q4 is multiplied with.
    pub sum: f32,
    /// What a dot product with q8 starts at, since these weights are stored with an offset on some paths.
    pub start: i32,
}

/// Blocks of a row: as many as q8's units of two need.
pub(crate) fn blocks_of(columns: usize) -> usize {
    columns.div_ceil(2 * BLOCK_COLUMNS) * 2
}

/// Pairs of a row for bf16.
pub(crate) fn pairs_of(columns: usize) -> usize {
    columns.div_ceil(2)
}

/// Quantises a row into blocks; the columns that it lacks are zero.
#[inline(always)]
pub(crate) fn quantise<S: Simd>(s: S, row: &[f32], blocks: &mut [Block]) {
    let (whole, rest) = row.as_chunks::<BLOCK_COLUMNS>();
    let mut last = [0.0; BLOCK_COLUMNS];
    last[..rest.len()].copy_from_slice(rest);
    let mut rows = whole.iter().chain([&last, &[0.0; BLOCK_COLUMNS]]);
    for block in blocks {
        let Some(row) = rows.next() else { return };
        *block = quantised(s, row);
    }
}

#[inline(always)]
fn quantised<S: Simd>(s: S, row: &[f32; BLOCK_COLUMNS]) -> Block {
    let [low, high] = halves(row);
    let (low, high) = (s.load(low), s.load(high));
    let (minus_low, minus_high) = (s.sub(s.splat(0.0), low), s.sub(s.splat(0.0), high));
    let largest = simd::maximum(s, s.max(s.max(low, minus_low), s.max(high, minus_high)));
    // A block of zeros, or of numbers that nobody can tell from it, becomes zeros without a branch.
    let (largest, tiny) = (s.splat(largest), s.splat(1e-30));
    let scale = s.if_less(largest, tiny, s.splat(0.0), s.div(largest, s.splat(127.0)));
    let inverse = s.if_less(largest, tiny, s.splat(0.0), s.div(s.splat(127.0), largest));
    let (low, high) = (s.round(s.mul(low, inverse)), s.round(s.mul(high, inverse)));
    let sum = simd::sum(s, s.to_f32(s.add_i(low, high)));
    let mut quants = [[0; LANES]; 2];
    s.store_i(low, &mut quants[0]);
    s.store_i(high, &mut quants[1]);
    let mut scales = [0.0; LANES];
    s.store(scale, &mut scales);
    let byte = |k: usize| quants[k / LANES][k % LANES] as u8;
    Block {
        quants: std::array::from_fn(|g| {
            i32::from_le_bytes(std::array::from_fn(|k| byte(4 * g + k)))
        }),
        scale: scales[0],
        sum: scales[0] * sum,
        start: -S::Q8_OFFSET * sum as i32,
    }
}

#[inline(always)]
fn halves(row: &[f32; BLOCK_COLUMNS]) -> [&[f32; LANES]; 2] {
    const NONE: &[f32; LANES] = &[0.0; LANES];
    match row.as_chunks::<LANES>().0 {
        [low, high] => [low, high],
        _ => [NONE; 2],
    }
}

/// Rounds a row to bf16, two to a word, the even column in the lower half.
#[inline(always)]
pub(crate) fn round_to_bf16(row: &[f32], pairs: &mut [i32]) {
    let (whole, rest) = row.as_chunks::<2>();
    let last = [rest.first().copied().unwrap_or(0.0), 0.0];
    for (pair, [even, odd]) in pairs.iter_mut().zip(whole.iter().chain([&last])) {
        *pair = (u32::from(to_bf16(*even)) | u32::from(to_bf16(*odd)) << 16) as i32;
    }
}

/// What a kind multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Plain,
    Pairs,
    Blocks,
}

impl From<Kind> for Form {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::F32 => Form::Plain,
            Kind::Bf16 => Form::Pairs,
            Kind::Q8 | Kind::Q4 => Form::Blocks,
        }
    }
}
