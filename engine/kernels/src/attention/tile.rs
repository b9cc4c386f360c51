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
use crate::simd::{self, LANES, Simd, unroll};

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

/// Vectors of queries that are worked on at once, at most.
pub(super) const VECTORS_MAX: usize = 4;

/// Memory of a few vectors of queries, made once for many of them: to clear it takes as long as a short text's attention. Weighted
/// sums of values are unfinished: relative to `exp(largest)`, with `sum` the weights'.
pub(super) struct Workspace {
    scores: [[f32; TILE]; VECTORS_MAX],
    /// Of the tile.
    part: [[f32; HEAD_WIDTH_MAX]; VECTORS_MAX],
    /// Of all tiles so far.
    total: [[f32; HEAD_WIDTH_MAX]; VECTORS_MAX],
    largest: [f32; VECTORS_MAX],
    sum: [f32; VECTORS_MAX],
}

impl Workspace {
    pub fn new() -> Self {
        Workspace {
            scores: [[0.0; TILE]; VECTORS_MAX],
            part: [[0.0; HEAD_WIDTH_MAX]; VECTORS_MAX],
            total: [[0.0; HEAD_WIDTH_MAX]; VECTORS_MAX],
            largest: [0.0; VECTORS_MAX],
            sum: [0.0; VECTORS_MAX],
        }
    }

    /// What vector `r` attended to.
    pub fn result(&self, r: usize, width: usize) -> &[f32] {
        &self.total[r][..width]
    }
}

/// Attends from `R` vectors of queries, each of which sees the positions `seen`.
#[inline(always)]
pub(super) fn attend<S: Simd, E: Elements, const R: usize>(
    s: S,
    heads: &Heads<'_>,
    shape: &AttendShape,
    queries: [&[f32]; R],
    seen: [Range<usize>; R],
    work: &mut Workspace,
) {
    const { assert!(R <= VECTORS_MAX) };
    let width = heads.cache.shape().width.next_multiple_of(BLOCK_TOKENS);
    let mut is_begun = [false; R];
    let (first, end) = hull(&seen);
    for tile in first / TILE..end.div_ceil(TILE) {
        let start = tile * TILE;
        let seen = seen
            .clone()
            .map(|seen| seen.start.max(start)..seen.end.min(start + TILE));
        let (from, to) = hull(&seen);
        for block in from / BLOCK_TOKENS..to.div_ceil(BLOCK_TOKENS) {
            let keys = heads
                .cache
                .keys(heads.layer, heads.blocks[block], heads.head);
            let at = block * BLOCK_TOKENS - start;
            if let Some(scores) = work.scores.first_chunk_mut::<R>() {
                score::<S, E, R>(s, keys, shape, queries, at, scores);
            }
        }
        let (mut largest, mut sum) = ([0.0; R], [0.0; R]);
        for r in 0..R {
            if !seen[r].is_empty() {
                let range = seen[r].start - start..seen[r].end - start;
                (largest[r], sum[r]) = weigh(s, &mut work.scores[r], range);
            }
        }
        for part in &mut work.part[..R] {
            part[..width].fill(0.0);
        }
        sum_tile::<S, E, R>(s, heads, &seen, start, work);
        for r in 0..R {
            if seen[r].is_empty() {
                continue;
            }
            if is_begun[r] {
                join(s, work, r, (largest[r], sum[r]), width);
            } else {
                is_begun[r] = true;
                (work.largest[r], work.sum[r]) = (largest[r], sum[r]);
                work.total[r][..width].copy_from_slice(&work.part[r][..width]);
            }
        }
    }
    for r in 0..R {
        let sum = s.splat(work.sum[r]);
        for lanes in work.total[r][..width].as_chunks_mut::<LANES>().0 {
            let value = s.div(s.load(lanes), sum);
            s.store(value, lanes);
        }
    }
}

/// From the first to behind the last position that any of the ranges has.
#[inline(always)]
fn hull<const R: usize>(ranges: &[Range<usize>; R]) -> (usize, usize) {
    let (mut first, mut end) = (usize::MAX, 0);
    for range in ranges {
        if !range.is_empty() {
            (first, end) = (first.min(range.start), end.max(range.end));
        }
    }
    (first.min(end), end)
}

/// Adds a later tile to the sums of vector `r`.
#[inline(always)]
fn join<S: Simd>(s: S, work: &mut Workspace, r: usize, (largest, sum): (f32, f32), width: usize) {
    let before = s.splat(work.largest[r]);
    let both = s.max(before, s.splat(largest));
    let old = exp_lanes(s, s.sub(before, both));
    let new = exp_lanes(s, s.sub(s.splat(largest), both));
    work.largest[r] = first_lane(s, both);
    let sums = s.mul_add(s.splat(sum), new, s.mul(s.splat(work.sum[r]), old));
    work.sum[r] = first_lane(s, sums);
    let parts = work.part[r][..width].as_chunks::<LANES>().0;
    for (total, part) in work.total[r]
        .as_chunks_mut::<LANES>()
        .0
        .iter_mut()
        .zip(parts)
    {
        let value = s.mul_add(s.load(part), new, s.mul(s.load(total), old));
        s.store(value, total);
    }
}

#[inline(always)]
fn first_lane<S: Simd>(s: S, value: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(value, &mut lanes);
    lanes[0]
}

/// Scores of a block of 32 positions, the first of which is number `at` of the tile.
#[inline(always)]
fn score<S: Simd, E: Elements, const R: usize>(
    s: S,
    keys: &[Line],
    shape: &AttendShape,
    queries: [&[f32]; R],
    at: usize,
    scores: &mut [[f32; TILE]; R],
) {
    let mut sums = [[s.splat(0.0); 2]; R];
    let width = queries[0].len();
    let queries = queries.map(|query| &query[..width]);
    for element in 0..width {
        let [low, high] = E::group(s, keys, element);
        unroll!(r < R {
            let query = s.splat(queries[r][element]);
            sums[r][0] = s.mul_add(low, query, sums[r][0]);
            sums[r][1] = s.mul_add(high, query, sums[r][1]);
        });
    }
    unroll!(r < R {
        if let [low, high, ..] = scores[r][at..].as_chunks_mut::<LANES>().0 {
            s.store(scaled(s, sums[r][0], shape), low);
            s.store(scaled(s, sums[r][1], shape), high);
        }
    });
}

/// A score from a sum of products.
#[inline(always)]
fn scaled<S: Simd>(s: S, sum: S::F, shape: &AttendShape) -> S::F {
    let score = s.mul(sum, s.splat(shape.scale));
    match shape.cap {
        Some(cap) => s.mul(s.splat(cap), tanh(s, s.div(score, s.splat(cap)))),
        None => score,
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

/// Adds the weighted values of a tile. Vectors that see different positions go alone before and after what all of them see.
#[inline(always)]
fn sum_tile<S: Simd, E: Elements, const R: usize>(
    s: S,
    heads: &Heads<'_>,
    seen: &[Range<usize>; R],
    start: usize,
    work: &mut Workspace,
) {
    let (mut first, mut end) = (0, usize::MAX);
    for seen in seen {
        (first, end) = (first.max(seen.start), end.min(seen.end));
    }
    let is_common = first < end;
    let scores = &work.scores;
    for r in 0..R {
        let alone = if is_common {
            seen[r].start..first
        } else {
            seen[r].clone()
        };
        sum_values::<S, E, 1>(s, heads, [&scores[r]], [&mut work.part[r]], alone, start);
    }
    if is_common {
        let weights = std::array::from_fn(|r| &scores[r]);
        if let Some(parts) = work.part.first_chunk_mut::<R>() {
            sum_values::<S, E, R>(s, heads, weights, parts.each_mut(), first..end, start);
        }
        for r in 0..R {
            let alone = end..seen[r].end;
            sum_values::<S, E, 1>(s, heads, [&scores[r]], [&mut work.part[r]], alone, start);
        }
    }
}

/// Adds the weighted values of `positions` to the sums of `R` vectors.
#[inline(always)]
fn sum_values<S: Simd, E: Elements, const R: usize>(
    s: S,
    heads: &Heads<'_>,
    weights: [&[f32; TILE]; R],
    mut sums: [&mut [f32; HEAD_WIDTH_MAX]; R],
    positions: Range<usize>,
    start: usize,
) {
    if positions.is_empty() {
        return;
    }
    let groups = heads.cache.shape().width.div_ceil(BLOCK_TOKENS);
    let mut group = 0;
    while group < groups {
        if S::REGISTERS == 32 && group + 2 <= groups {
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
    let mut acc = [[[s.splat(0.0); 2]; G]; R];
    unroll!(r < R {
        unroll!(g < G {
            let at = (group + g) * BLOCK_TOKENS;
            acc[r][g][0] = simd::load_partial(s, &sums[r][at..at + LANES]);
            acc[r][g][1] = simd::load_partial(s, &sums[r][at + LANES..at + 2 * LANES]);
        });
    });
    let mut position = positions.start;
    while position < positions.end {
        let block = position / BLOCK_TOKENS;
        let end = positions.end.min((block + 1) * BLOCK_TOKENS);
        let values = heads
            .cache
            .values(heads.layer, heads.blocks[block], heads.head);
        for position in position..end {
            let slot = position % BLOCK_TOKENS;
            let mut value = [[s.splat(0.0); 2]; G];
            unroll!(g < G {
                value[g] = E::group(s, values, slot * groups + group + g);
            });
            unroll!(r < R {
                let weight = s.splat(weights[r][position - start]);
                unroll!(g < G {
                    acc[r][g][0] = s.mul_add(value[g][0], weight, acc[r][g][0]);
                    acc[r][g][1] = s.mul_add(value[g][1], weight, acc[r][g][1]);
                });
            });
        }
        position = end;
    }
    unroll!(r < R {
        unroll!(g < G {
            let at = (group + g) * BLOCK_TOKENS;
            simd::store_partial(s, acc[r][g][0], &mut sums[r][at..at + LANES]);
            simd::store_partial(s, acc[r][g][1], &mut sums[r][at + LANES..at + 2 * LANES]);
        });
    });
}
