//! Attention of rows of queries over keys and values in blocks.
//!
//! **Order.** Positions fall into tiles of [`TILE`] from position 0 on, wherever a row's first visible position is. In a tile a score is the
//! sum over the elements of a head, ascending; weights are `exp(score - largest of the tile)`; their sum is made in sixteen
//! lanes, positions ascending, and the weighted sum of values position by position. Tiles are joined one after the other. So the
//! bits of a row depend on its query, its position and the keys and values that it sees, not on the rows beside it or on how
//! the prompt was cut. Positions that a row does not see are not read into its sums, whatever stands there.

mod tile;

use crate::error::KernelError;
use crate::kernels::Kernels;
use crate::kv::{BLOCK_TOKENS, KvCache, KvKind, KvShape};
use crate::pool::Tile;
use crate::simd::{Compute, Simd};
use tile::{F16, F32, Heads};

/// Positions of a tile.
const TILE: usize = 512;
/// Rows of a chunk.
const CHUNK_ROWS: usize = 8;

/// What is the same for all rows of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttendShape {
    /// Heads of queries, a multiple of the heads of keys: query head h uses key head `h / (heads / key heads)`.
    pub heads: usize,
    /// What scores are multiplied with, `1 / sqrt(width)` mostly.
    pub scale: f32,
    /// How many positions a row sees, itself included; `None` for all before it.
    pub window: Option<usize>,
    /// `cap * tanh(score / cap)` in place of a score.
    pub cap: Option<f32>,
}

/// Consecutive rows of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Attend<'a> {
    /// The blocks of the sequence, in order; there are keys and values up to the last row's own position.
    pub blocks: &'a [u32],
    /// The position of the first row.
    pub position: usize,
    /// Rows.
    pub rows: usize,
}

impl Kernels {
    /// Causal attention: each row sees the positions up to its own, its own included, whose keys and values are written
    /// already. `queries` and `out` are the rows of all jobs one after the other, each `heads * width`.
    ///
    /// # Errors
    /// There is no such layer or block, a job has fewer blocks than positions, heads do not divide, or a slice has another
    /// length.
    pub fn attend(
        &self,
        cache: &KvCache,
        layer: usize,
        shape: &AttendShape,
        jobs: &[Attend<'_>],
        queries: &[f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let spans = { jobs.iter() }.map(|job| Span {
            blocks: job.blocks,
            rows: job.rows,
            visible: Visible::Before(job.position),
        });
        self.attend_spans(
            cache,
            layer,
            shape,
            &spans.collect::<Vec<_>>(),
            queries,
            out,
        )
    }

    /// Attention in both directions within sequences that stand one after the other, of `lengths` rows: all of `queries`, `keys`,
    /// `values` and `out` are rows of `heads * width`.
    ///
    /// # Errors
    /// A length is zero, the head too wide, there is no memory, or a slice has another length.
    #[expect(
        clippy::too_many_arguments,
        reason = "they are what attention is made of"
    )]
    pub fn attend_all(
        &self,
        queries: &[f32],
        keys: &[f32],
        values: &[f32],
        lengths: &[usize],
        shape: &AttendShape,
        width: usize,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let heads = shape.heads;
        let stride = heads.saturating_mul(width);
        let rows = lengths
            .iter()
            .fold(0usize, |sum, length| sum.saturating_add(*length));
        KernelError::length("keys", keys.len(), rows.saturating_mul(stride))?;
        KernelError::length("values", values.len(), rows.saturating_mul(stride))?;
        let count = lengths
            .iter()
            .map(|length| length.div_ceil(BLOCK_TOKENS))
            .sum::<usize>();
        let (kind, layers) = (KvKind::F32, 1);
        let mut cache = KvCache::temporary(
            KvShape {
                kind,
                layers,
                heads,
                width,
            },
            count,
        )?;
        let numbers: Vec<u32> = (0..count as u32).collect();
        let mut spans = Vec::with_capacity(lengths.len());
        let (mut free, mut pairs) = (
            &numbers[..],
            keys.chunks_exact(stride).zip(values.chunks_exact(stride)),
        );
        for length in lengths.iter().copied() {
            if length == 0 {
                return Err(KernelError::shape("length of a sequence", 0));
            }
            let (blocks, rest) = free.split_at(length.div_ceil(BLOCK_TOKENS));
            free = rest;
            for (token, (keys, values)) in pairs.by_ref().take(length).enumerate() {
                cache.write(
                    0,
                    blocks[token / BLOCK_TOKENS],
                    token % BLOCK_TOKENS,
                    keys,
                    values,
                )?;
            }
            spans.push(Span {
                blocks,
                rows: length,
                visible: Visible::All(length),
            });
        }
        self.attend_spans(&cache, 0, shape, &spans, queries, out)
    }

    fn attend_spans(
        &self,
        cache: &KvCache,
        layer: usize,
        shape: &AttendShape,
        spans: &[Span<'_>],
        queries: &[f32],
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let KvShape {
            layers,
            heads,
            width,
            ..
        } = *cache.shape();
        if layer >= layers {
            return Err(KernelError::shape("layer of a cache", layer));
        }
        if shape.heads == 0 || !shape.heads.is_multiple_of(heads) {
            return Err(KernelError::shape("heads of queries", shape.heads));
        }
        if shape.window == Some(0) {
            return Err(KernelError::shape("window of attention", 0));
        }
        let mut rows = 0usize;
        for span in spans {
            rows = rows.saturating_add(span.rows);
            let room = span.blocks.len().saturating_mul(BLOCK_TOKENS);
            let length = span.visible.end(span.rows);
            if length.is_none_or(|length| length > room) {
                return Err(KernelError::shape(
                    "positions beyond the blocks of a sequence",
                    span.rows,
                ));
            }
            span.blocks
                .iter()
                .try_for_each(|block| cache.checked(*block).map(drop))?;
        }
        let stride = shape.heads.saturating_mul(width);
        KernelError::length("queries", queries.len(), rows.saturating_mul(stride))?;
        KernelError::length("attended rows", out.len(), queries.len())?;
        let group = shape.heads / heads;
        self.pool
            .tiles(out, stride, (CHUNK_ROWS, group * width), |tile| {
                self.instructions.run(Rows {
                    cache,
                    layer,
                    shape,
                    spans,
                    queries,
                    tile,
                });
            });
        Ok(())
    }
}

/// Rows of one sequence and what they see.
struct Span<'a> {
    blocks: &'a [u32],
    rows: usize,
    visible: Visible,
}

#[derive(Clone, Copy)]
enum Visible {
    /// The first row has this position; each sees what is not behind it.
    Before(usize),
    /// All rows see so many.
    All(usize),
}

impl Visible {
    /// How many positions the last of `rows` sees without a window, if that is a number.
    fn end(self, rows: usize) -> Option<usize> {
        match self {
            Visible::Before(position) => position.checked_add(rows),
            Visible::All(length) => Some(length),
        }
    }

    /// The positions that row number `row` sees.
    fn range(self, row: usize, window: Option<usize>) -> std::ops::Range<usize> {
        match self {
            Visible::Before(position) => {
                let end = position + row + 1;
                end.saturating_sub(window.unwrap_or(end))..end
            }
            Visible::All(length) => 0..length,
        }
    }
}

/// A rectangle of the output: some rows, the query heads of one key head.
struct Rows<'a> {
    cache: &'a KvCache,
    layer: usize,
    shape: &'a AttendShape,
    spans: &'a [Span<'a>],
    queries: &'a [f32],
    tile: Tile<'a, f32>,
}

impl Compute for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Simd>(mut self, s: S) {
        match self.cache.shape().kind {
            KvKind::F32 => self.rows::<S, F32>(s),
            KvKind::F16 => self.rows::<S, F16>(s),
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn rows<S: Simd, E: tile::Elements>(&mut self, s: S) {
        let width = self.cache.shape().width;
        let head = self.tile.left / self.tile.width;
        let (top, end) = (self.tile.top, self.tile.top + self.tile.height);
        let mut work = tile::Workspace::new();
        let mut before = 0;
        for span in self.spans {
            let (first, last) = (before.max(top), (before + span.rows).min(end));
            if first < last {
                let heads = Heads {
                    cache: self.cache,
                    layer: self.layer,
                    head,
                    blocks: span.blocks,
                };
                // Each row has as many vectors of queries as there are query heads for a key head.
                let group = self.tile.width / width;
                let count = (last - first) * group;
                let mut vector = 0;
                while vector < count {
                    let vectors = (count - vector).min(if S::REGISTERS == 32 { 4 } else { 2 });
                    let at = (first * group + vector, before, span.visible);
                    match vectors {
                        1 => self.vectors::<S, E, 1>(s, &heads, at, &mut work),
                        2 => self.vectors::<S, E, 2>(s, &heads, at, &mut work),
                        3 if S::REGISTERS == 32 => {
                            self.vectors::<S, E, 3>(s, &heads, at, &mut work);
                        }
                        4 if S::REGISTERS == 32 => {
                            self.vectors::<S, E, 4>(s, &heads, at, &mut work);
                        }
                        _ => {}
                    }
                    vector += vectors;
                }
            }
            before += span.rows;
        }
    }

    /// `R` vectors of queries from number `first` on (rows times query heads) of a sequence whose first row is number `before`.
    #[inline(always)]
    fn vectors<S: Simd, E: tile::Elements, const R: usize>(
        &mut self,
        s: S,
        heads: &Heads<'_>,
        (first, before, visible): (usize, usize, Visible),
        work: &mut tile::Workspace,
    ) {
        let width = self.cache.shape().width;
        let group = self.tile.width / width;
        let place = |r: usize| ((first + r) / group, (first + r) % group * width);
        let stride = self.shape.heads * width;
        let queries: [&[f32]; R] = std::array::from_fn(|r| {
            let (row, column) = place(r);
            let at = row * stride + self.tile.left + column;
            &self.queries[at..at + width]
        });
        let seen: [_; R] =
            std::array::from_fn(|r| visible.range(place(r).0 - before, self.shape.window));
        tile::attend::<S, E, R>(s, heads, self.shape, queries, seen, work);
        for r in 0..R {
            let (row, column) = place(r);
            let row = row - self.tile.top;
            self.tile.row(row)[column..column + width].copy_from_slice(work.result(r, width));
        }
    }
}
