//! Where a weight stands in its panel, and how a block of weights is quantised.

use super::BLOCK_COLUMNS;
use crate::half::{from_f16, to_f16};
use crate::memory::Line;

/// Bytes of a unit of q8: scales of two blocks, then the blocks.
const Q8_UNIT: usize = 17 * Line::BYTES;
/// Bytes of a unit of q4: scales and minima, then the block.
const Q4_UNIT: usize = 5 * Line::BYTES;

pub(super) fn f32_at(column: usize, lane: usize) -> usize {
    column * Line::BYTES + lane * 4
}

pub(super) fn bf16_at(column: usize, lane: usize) -> usize {
    column / 2 * Line::BYTES + lane * 4 + column % 2 * 2
}

pub(super) fn q8_scale_at(block: usize, lane: usize) -> usize {
    block / 2 * Q8_UNIT + block % 2 * 32 + lane * 2
}

/// The byte of weight `k` of a block.
pub(super) fn q8_at(block: usize, lane: usize, k: usize) -> usize {
    let first = block / 2 * Q8_UNIT + Line::BYTES + block % 2 * 8 * Line::BYTES;
    first + k / 4 * Line::BYTES + lane * 4 + k % 4
}

pub(super) fn q4_scale_at(block: usize, lane: usize) -> usize {
    block * Q4_UNIT + lane * 2
}

pub(super) fn q4_minimum_at(block: usize, lane: usize) -> usize {
    block * Q4_UNIT + 32 + lane * 2
}

/// The byte of weight `k` of a block, and by how much it is shifted in it.
pub(super) fn q4_at(block: usize, lane: usize, k: usize) -> (usize, u32) {
    let (half, k) = (k / 16, k % 16);
    let at = block * Q4_UNIT + Line::BYTES + k / 4 * Line::BYTES + lane * 4 + k % 4;
    (at, 4 * half as u32)
}

/// The two halves of 16 bytes as GGUF stores a block of u4: weight k and weight k + 16 in byte k.
pub(super) fn unpack_q4(bytes: [u8; 16]) -> [u8; BLOCK_COLUMNS] {
    std::array::from_fn(|k| (bytes[k % 16] >> (4 * (k / 16))) & 15)
}

/// -8 times an f16, unless that is beyond f16. Below, it is exact: a factor of 8 shifts the exponent.
pub(super) fn times_minus_8(scale: [u8; 2]) -> Option<[u8; 2]> {
    let scale = from_f16(u16::from_le_bytes(scale));
    let minimum = to_f16(-8.0 * scale);
    (from_f16(minimum) == -8.0 * scale).then_some(minimum.to_le_bytes())
}

/// Scale and weights of at most 32 numbers; the largest magnitude becomes 127. `None` where the scale is beyond f16.
pub(super) fn quantise_q8(weights: &[f32]) -> Option<([u8; 2], [i8; BLOCK_COLUMNS])> {
    let largest = weights.iter().fold(0f32, |largest, w| largest.max(w.abs()));
    let (scale, half) = scale_of(largest / 127.0)?;
    let quant = |w: &f32| (w / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
    Some((half, filled(weights.iter().map(quant))))
}

/// Scale, minimum and weights of at most 32 numbers; the range becomes 0 to 15. `None` where one is beyond f16.
pub(super) fn quantise_q4(weights: &[f32]) -> Option<([u8; 2], [u8; 2], [u8; BLOCK_COLUMNS])> {
    let lowest = weights.iter().copied().fold(f32::INFINITY, f32::min);
    let highest = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let minimum = to_f16(lowest);
    let from = from_f16(minimum);
    let (scale, half) = scale_of((highest - from).max(0.0) / 15.0)?;
    let quant = |w: &f32| ((w - from) / scale).round_ties_even().clamp(0.0, 15.0) as u8;
    let quants = filled(weights.iter().map(quant));
    from.is_finite()
        .then_some((half, minimum.to_le_bytes(), quants))
}

/// A scale rounded to f16, as a divisor that is not zero, and its bytes.
fn scale_of(scale: f32) -> Option<(f32, [u8; 2])> {
    let half = to_f16(scale);
    let scale = from_f16(half);
    let divisor = if scale == 0.0 { 1.0 } else { scale };
    scale.is_finite().then_some((divisor, half.to_le_bytes()))
}

fn filled<T: Default + Copy>(values: impl Iterator<Item = T>) -> [T; BLOCK_COLUMNS] {
    let mut filled = [T::default(); BLOCK_COLUMNS];
    filled
        .iter_mut()
        .zip(values)
        .for_each(|(to, from)| *to = from);
    filled
}
