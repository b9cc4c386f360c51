//! A few vectors of queries over the keys and values of one head, tile by tile.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over registers, unrolled: several arrays share an index"
)]

use std::ops::Range;

use super::{AttendShape, TILE};
use crate::activation::tanh;
use crate::exp::exp_lanes;
use crate::kv::{BLOCK_TOKENS, HEAD_WIDTH_MAX, KvCache};
use crate::memory::Line;
use crate::simd::{self, LANES, Simd};

/// How 32 elements are stored.
pub(super) trait Elements {
    /// Elements 32 * `index` and on.
    fn group<S: Simd>(s: S, lines: &[Line], index: usize) -> [S::F; 2];
}

pub(super) struct F32;

impl Elements for F32 {
    #[inline(always)]
    fn group<S: Simd>(s: S, lines: &[Line], index: usize) -> [S::F; 2] {
        [
            s.line_f32(&lines[2 * index]),
            s.line_f32(&lines[2 * index + 1]),
        ]
    }
}

pub(super) struct F16;

impl Elements for F16 {
    #[inline(always)]
    fn group<S: Simd>(s: S, lines: &[Line], index: usize) -> [S::F; 2] {
        let [low, high] = lines[index].halves();
        [s.load_f16(low), s.load_f16(high)]
    }
}

/// Keys and values of one head of one sequence.
pub(super) struct Heads<'a> {
    pub cache: &'a KvCache,
    pub layer: usize,
    pub head: usize,
    pub blocks: &'a [u32],
}

/// For each vector a weighted sum of values, unfinished: weights are relative to `exp(largest)`, and `sum` is theirs.
struct Partial<const R: usize> {
    largest: [f32; R],
    sum: [f32; R],
    values: [[f32; HEAD_WIDTH_MAX]; R],
}

type Scores<const R: usize> = [[f32; TILE]; R];

/// Attends from `R` vectors of queries, each of which sees the positions `seen`.
#[inline(always)]
pub(super) fn attend<S: Simd, E: Elements, const R: usize>(
    s: S,
    heads: &Heads<'_>,
    shape: &AttendShape,
    queries: [&[f32]; R],
    seen: [Range<usize>; R],
) -> [[f32; HEAD_WIDTH_MAX]; R] {
    let width = heads.cache.shape().width.next_multiple_of(BLOCK_TOKENS);
    let mut total = Partial {
        largest: [0.0; R],
        sum: [0.0; R],
        values: [[0.0; HEAD_WIDTH_MAX]; R],
    };
    let mut is_begun = [false; R];
    let first = seen.iter().map(|seen| seen.start).min().unwrap_or(0);
    let end = seen.iter().map(|seen| seen.end).max().unwrap_or(0);
    for tile in first / TILE..end.div_ceil(TILE) {
        let tile = tile * TILE..(tile + 1) * TILE;
        let seen = seen
            .clone()
            .map(|seen| seen.start.max(tile.start)..seen.end.min(tile.end));
        let part = partial::<S, E, R>(s, heads, shape, queries, &seen, tile.start);
        for r in 0..R {
            if seen[r].is_empty() {
                continue;
            }
            if is_begun[r] {
                join(s, &mut total, &part, r, width);
            } else {
                is_begun[r] = true;
                total.largest[r] = part.largest[r];
                total.sum[r] = part.sum[r];
                total.values[r] = part.values[r];
            }
        }
    }
    for r in 0..R {
        let sum = s.splat(total.sum[r]);
        for lanes in total.values[r][..width].as_chunks_mut::<LANES>().0 {
            let value = s.div(s.load(lanes), sum);
            s.store(value, lanes);
        }
    }
    total.values
}

/// Adds what a later tile gave for vector `r`.
#[inline(always)]
fn join<S: Simd, const R: usize>(
    s: S,
    total: &mut Partial<R>,
    part: &Partial<R>,
    r: usize,
    width: usize,
) {
    let largest = s.max(s.splat(total.largest[r]), s.splat(part.largest[r]));
    let old = exp_lanes(s, s.sub(s.splat(total.largest[r]), largest));
    let new = exp_lanes(s, s.sub(s.splat(part.largest[r]), largest));
    let weighed = |a: S::F, b: S::F| s.mul_add(b, new, s.mul(a, old));
    total.largest[r] = first_lane(s, largest);
    total.sum[r] = first_lane(s, weighed(s.splat(total.sum[r]), s.splat(part.sum[r])));
    let parts = part.values[r][..width].as_chunks::<LANES>().0;
    for (a, b) in total.values[r]
        .as_chunks_mut::<LANES>()
        .0
        .iter_mut()
        .zip(parts)
    {
        let value = weighed(s.load(a), s.load(b));
        s.store(value, a);
    }
}

#[inline(always)]
fn first_lane<S: Simd>(s: S, value: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(value, &mut lanes);
    lanes[0]
}

/// One tile, from position `start` on.
#[inline(always)]
fn partial<S: Simd, E: Elements, const R: usize>(
    s: S,
    heads: &Heads<'_>,
    shape: &AttendShape,
    queries: [&[f32]; R],
    seen: &[Range<usize>; R],
    start: usize,
) -> Partial<R> {
    let width = heads.cache.shape().width;
    let mut part = Partial {
        largest: [0.0; R],
        sum: [0.0; R],
        values: [[0.0; HEAD_WIDTH_MAX]; R],
    };
    let mut scores: Scores<R> = [[0.0; TILE]; R];
    let visible = seen.iter().filter(|seen| !seen.is_empty());
    let from = visible
        .clone()
        .map(|seen| seen.start)
        .min()
        .unwrap_or(start);
    let to = visible.map(|seen| seen.end).max().unwrap_or(start);
    for block in from / BLOCK_TOKENS..to.div_ceil(BLOCK_TOKENS) {
        let (keys, _) = heads
            .cache
            .head(heads.layer, heads.blocks[block], heads.head);
        let at = block * BLOCK_TOKENS - start;
        score::<S, E, R>(s, keys, shape, queries, at, &mut scores);
    }
    for r in 0..R {
        if !seen[r].is_empty() {
            let range = seen[r].start - start..seen[r].end - start;
            (part.largest[r], part.sum[r]) = weigh(s, &mut scores[r], range);
        }
    }
    // Vectors that see different positions go their own ways before and after what all of them see.
    let common = seen.iter().map(|seen| seen.start).max().unwrap_or(0)
        ..seen.iter().map(|seen| seen.end).min().unwrap_or(0);
    let is_common = common.start < common.end && seen.iter().all(|seen| !seen.is_empty());
    if !is_common {
        for r in 0..R {
            sum_values_alone::<S, E, R>(
                s,
                heads,
                &scores,
                &mut part,
                r,
                seen[r].clone(),
                start,
                width,
            );
        }
        return part;
    }
    for r in 0..R {
        sum_values_alone::<S, E, R>(
            s,
            heads,
            &scores,
            &mut part,
            r,
            seen[r].start..common.start,
            start,
            width,
        );
    }
    let weights = scores.each_ref();
    sum_values::<S, E, R>(
        s,
        heads,
        weights,
        part.values.each_mut(),
        common.clone(),
        start,
        width,
    );
    for r in 0..R {
        sum_values_alone::<S, E, R>(
            s,
            heads,
            &scores,
            &mut part,
            r,
            common.end..seen[r].end,
            start,
            width,
        );
    }
    part
}

/// Scores of a block of 32 positions, the first of which is number `at` of the tile.
#[inline(always)]
fn score<S: Simd, E: Elements, const R: usize>(
    s: S,
    keys: &[Line],
    shape: &AttendShape,
    queries: [&[f32]; R],
    at: usize,
    scores: &mut Scores<R>,
) {
    let mut sums = [[s.splat(0.0); 2]; R];
    for element in 0..queries[0].len() {
        let keys = E::group(s, keys, element);
        for r in 0..R {
            let query = s.splat(queries[r][element]);
            sums[r] = [0, 1].map(|half| s.mul_add(keys[half], query, sums[r][half]));
        }
    }
    for (sums, scores) in sums.into_iter().zip(scores) {
        for (sum, lanes) in sums
            .into_iter()
            .zip(scores[at..].as_chunks_mut::<LANES>().0)
        {
            let score = s.mul(sum, s.splat(shape.scale));
            let score = match shape.cap {
                Some(cap) => s.mul(s.splat(cap), tanh(s, s.div(score, s.splat(cap)))),
                None => score,
            };
            s.store(score, lanes);
        }
    }
}

/// Turns the scores of `range` into weights; the largest score and the sum of the weights.
#[inline(always)]
fn weigh<S: Simd>(s: S, scores: &mut [f32; TILE], range: Range<usize>) -> (f32, f32) {
    let (first, end) = (
        range.start / LANES * LANES,
        range.end.next_multiple_of(LANES),
    );
    scores[first..range.start].fill(f32::NEG_INFINITY);
    scores[range.end..end].fill(f32::NEG_INFINITY);
    let vectors = scores[first..end].as_chunks_mut::<LANES>().0;
    let mut largest = s.splat(f32::NEG_INFINITY);
    for lanes in vectors.iter() {
        largest = s.max(largest, s.load(lanes));
    }
    let largest = simd::maximum(s, largest);
    let mut sum = s.splat(0.0);
    for lanes in vectors {
        let weight = exp_lanes(s, s.sub(s.load(lanes), s.splat(largest)));
        sum = s.add(sum, weight);
        s.store(weight, lanes);
    }
    (largest, simd::sum(s, sum))
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined into its only caller")]
fn sum_values_alone<S: Simd, E: Elements, const R: usize>(
    s: S,
    heads: &Heads<'_>,
    weights: &Scores<R>,
    part: &mut Partial<R>,
    r: usize,
    positions: Range<usize>,
    start: usize,
    width: usize,
) {
    sum_values::<S, E, 1>(
        s,
        heads,
        [&weights[r]],
        [&mut part.values[r]],
        positions,
        start,
        width,
    );
}

/// Adds the weighted values of `positions` to the sums of `R` vectors.
#[inline(always)]
fn sum_values<S: Simd, E: Elements, const R: usize>(
    s: S,
    heads: &Heads<'_>,
    weights: [&[f32; TILE]; R],
    sums: [&mut [f32; HEAD_WIDTH_MAX]; R],
    positions: Range<usize>,
    start: usize,
    width: usize,
) {
    if positions.is_empty() {
        return;
    }
    let groups = width.div_ceil(BLOCK_TOKENS);
    let mut sums = sums;
    let mut group = 0;
    while group < groups {
        if group + 2 <= groups {
            sum_groups::<S, E, R, 2>(
                s,
                heads,
                &weights,
                &mut sums,
                positions.clone(),
                start,
                (group, groups),
            );
            group += 2;
        } else {
            sum_groups::<S, E, R, 1>(
                s,
                heads,
                &weights,
                &mut sums,
                positions.clone(),
                start,
                (group, groups),
            );
            group += 1;
        }
    }
}

/// The same for `G` groups of 32 elements from `group` on, of `groups`.
#[inline(always)]
fn sum_groups<S: Simd, E: Elements, const R: usize, const G: usize>(
    s: S,
    heads: &Heads<'_>,
    weights: &[&[f32; TILE]; R],
    sums: &mut [&mut [f32; HEAD_WIDTH_MAX]; R],
    positions: Range<usize>,
    start: usize,
    (group, groups): (usize, usize),
) {
    let at = |g: usize, half: usize| (group + g) * BLOCK_TOKENS + half * LANES;
    let lanes = |of: &[f32], at: usize| s.load(&simd::partial(&of[at..at + LANES]));
    let mut acc: [[[S::F; 2]; G]; R] = std::array::from_fn(|r| {
        std::array::from_fn(|g| std::array::from_fn(|half| lanes(&sums[r][..], at(g, half))))
    });
    let mut position = positions.start;
    while position < positions.end {
        let block = position / BLOCK_TOKENS;
        let end = positions.end.min((block + 1) * BLOCK_TOKENS);
        let (_, values) = heads
            .cache
            .head(heads.layer, heads.blocks[block], heads.head);
        for position in position..end {
            let slot = position % BLOCK_TOKENS;
            let values: [[S::F; 2]; G] =
                std::array::from_fn(|g| E::group(s, values, slot * groups + group + g));
            for r in 0..R {
                let weight = s.splat(weights[r][position - start]);
                for g in 0..G {
                    for half in 0..2 {
                        acc[r][g][half] = s.mul_add(values[g][half], weight, acc[r][g][half]);
                    }
                }
            }
        }
        position = end;
    }
    for r in 0..R {
        for g in 0..G {
            for half in 0..2 {
                simd::store_partial(s, acc[r][g][half], &mut sums[r][at(g, half)..]);
            }
        }
    }
}
