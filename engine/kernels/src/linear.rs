//! Products of activations with packed weights.
//!
//! **Order of the sums**, the same for every number of rows of `x`, thread and position: one accumulator per output, columns
//! ascending. f32: `acc = w * x + acc`. bf16: activations are rounded to bf16; for each two columns the odd product is added, then
//! the even one, each sum rounded (`vdpbf16ps`). q8 and q4: activations become i8 with a scale for each 32 columns; the integer
//! dot of a block is exact; then `acc = (w_scale * x_scale) * dot + acc`, and for q4 before that
//! `acc = minimum * (x_scale * sum of x) + acc`.
//!
//! **Equal bits**: bf16 on all three paths; f32, q8 and q4 on AVX2 and AVX-512, while the portable path rounds product and sum
//! apart.

mod tile;

use crate::activations::{self, Block, Form};
use crate::error::KernelError;
use crate::kernels::Kernels;
use crate::memory::Line;
use crate::packed::{Kind, Packed};
use crate::pool::Tile;
use crate::simd::{Compute, LANES, Simd};
use tile::{Activations, Multiply};

/// Bytes of weights that one thread works on for all rows of `x`, so that they stay in its second cache.
const CHUNK_BYTES: usize = 384 << 10;
/// The fewest panels of a chunk, a multiple of what a kernel takes at once.
const CHUNK_PANELS: usize = 4;
/// Chunks per thread, so that a thread that is held up does not hold up the others for long.
const CHUNKS_PER_THREAD: usize = 4;

/// One product of [`Kernels::linears`]: weights, and where the result goes.
pub struct Product<'a> {
    /// `rows` by `columns`.
    pub weights: &'a Packed,
    /// `n * rows`.
    pub out: &'a mut [f32],
}

/// How a single product is cut, and what is done with each part.
#[derive(Clone, Copy)]
struct Chunks<'a> {
    panels: usize,
    then: &'a (dyn Fn(&mut Tile<'_, f32>) + Sync),
}

impl Kernels {
    /// `y = x * transposed w`: `x` is `n * columns`, `y` is `n * rows`, n from 1 to any.
    ///
    /// # Errors
    /// `x` is no whole number of rows, or `y` does not fit.
    pub fn linear(&self, weights: &Packed, x: &[f32], y: &mut [f32]) -> Result<(), KernelError> {
        self.linears(x, &mut [Product { weights, out: y }])
    }

    /// Several products with the same `x`, which is brought into the form for the weights only once.
    ///
    /// # Errors
    /// As [`linear`](Self::linear), or the weights differ in their columns.
    pub fn linears(&self, x: &[f32], products: &mut [Product<'_>]) -> Result<(), KernelError> {
        self.all::<false>(x, products, None)
    }

    /// [`linear`](Self::linear) of `panels` panels at a time; what each gave is shown to `then` while its weights are in a cache.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    pub(crate) fn linear_in_chunks(
        &self,
        weights: &Packed,
        x: &[f32],
        y: &mut [f32],
        panels: usize,
        then: &(dyn Fn(&mut Tile<'_, f32>) + Sync),
    ) -> Result<(), KernelError> {
        let chunks = Some(Chunks { panels, then });
        self.all::<false>(x, &mut [Product { weights, out: y }], chunks)
    }

    /// [`linear`](Self::linear) with sums in any order, for the benchmark that says what the fixed order costs.
    ///
    /// # Errors
    /// As [`linear`](Self::linear).
    #[cfg(feature = "reorder")]
    pub fn linear_reordered(
        &self,
        weights: &Packed,
        x: &[f32],
        y: &mut [f32],
    ) -> Result<(), KernelError> {
        self.all::<true>(x, &mut [Product { weights, out: y }], None)
    }

    fn all<const REORDER: bool>(
        &self,
        x: &[f32],
        products: &mut [Product<'_>],
        chunks: Option<Chunks<'_>>,
    ) -> Result<(), KernelError> {
        let Some(columns) = products.first().map(|product| product.weights.columns()) else {
            return Ok(());
        };
        let n = x.len() / columns;
        KernelError::length("activations", x.len(), n * columns)?;
        for Product { weights, out } in products.iter() {
            KernelError::length(
                "columns of weights beside others",
                weights.columns(),
                columns,
            )?;
            let expected = n.saturating_mul(weights.rows());
            KernelError::length("a product", out.len(), expected)?;
        }
        let is_used = |form| {
            products
                .iter()
                .any(|product| Form::from(product.weights.kind()) == form)
        };
        let blocks = if is_used(Form::Blocks) {
            self.quantised(x, columns)?
        } else {
            Vec::new()
        };
        let pairs = if is_used(Form::Pairs) {
            self.rounded(x, columns)?
        } else {
            Vec::new()
        };
        let blocks = Activations {
            x: &blocks[..],
            stride: activations::blocks_of(columns),
        };
        let pairs = Activations {
            x: &pairs[..],
            stride: activations::pairs_of(columns),
        };
        let plain = Activations { x, stride: columns };
        for Product { weights, out } in products {
            match weights.kind() {
                Kind::F32 => self.product::<tile::F32, REORDER>(weights, &plain, n, out, chunks),
                Kind::Bf16 => self.product::<tile::Bf16, REORDER>(weights, &pairs, n, out, chunks),
                Kind::Q8 => self.product::<tile::Q8, REORDER>(weights, &blocks, n, out, chunks),
                Kind::Q4 => self.product::<tile::Q4, REORDER>(weights, &blocks, n, out, chunks),
            }
        }
        Ok(())
    }

    fn product<M: Multiply, const REORDER: bool>(
        &self,
        weights: &Packed,
        x: &Activations<'_, M::X>,
        n: usize,
        out: &mut [f32],
        chunks: Option<Chunks<'_>>,
    ) {
        let panels = match chunks {
            Some(Chunks { panels, .. }) => panels,
            None => self.chunk_panels(weights, n),
        };
        let rectangle = (n, panels * LANES);
        self.pool.tiles(out, weights.rows(), rectangle, |mut tile| {
            let tile = &mut tile;
            self.instructions
                .run(Outputs::<M, REORDER> { weights, x, tile });
            if let Some(Chunks { then, .. }) = chunks {
                then(tile);
            }
        });
    }

    /// Panels of a chunk. It has no influence on any bit.
    fn chunk_panels(&self, weights: &Packed, n: usize) -> usize {
        let panels = weights.rows().div_ceil(LANES);
        let fair = match self.threads() {
            1 => panels,
            threads => panels.div_ceil(threads * CHUNKS_PER_THREAD),
        };
        let cached = match n {
            1 => panels,
            _ => CHUNK_BYTES / (weights.panel_lines() * Line::BYTES),
        };
        fair.min(cached).next_multiple_of(CHUNK_PANELS)
    }

    fn quantised(&self, x: &[f32], columns: usize) -> Result<Vec<Block>, KernelError> {
        let count = activations::blocks_of(columns);
        let mut blocks = filled(Block::default(), x.len() / columns * count)?;
        self.pool
            .tiles(&mut blocks, count, (PREPARED_ROWS, count), |tile| {
                self.instructions.run(Quantise { x, columns, tile });
            });
        Ok(blocks)
    }

    fn rounded(&self, x: &[f32], columns: usize) -> Result<Vec<i32>, KernelError> {
        let count = activations::pairs_of(columns);
        let mut pairs = filled(0, x.len() / columns * count)?;
        self.pool
            .tiles(&mut pairs, count, (PREPARED_ROWS, count), |tile| {
                self.instructions.run(Round { x, columns, tile });
            });
        Ok(pairs)
    }
}

/// Rows of `x` that one thread prepares at a time.
const PREPARED_ROWS: usize = 16;

fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, KernelError> {
    let mut values = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    values
        .try_reserve_exact(count)
        .map_err(|_| KernelError::Memory { bytes })?;
    values.resize(count, value);
    Ok(values)
}

struct Quantise<'a> {
    x: &'a [f32],
    columns: usize,
    tile: Tile<'a, Block>,
}

impl Compute for Quantise<'_> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Simd>(mut self, s: S) {
        let rows = self.x.chunks_exact(self.columns).skip(self.tile.top);
        for (index, row) in rows.take(self.tile.height).enumerate() {
            activations::quantise(s, row, self.tile.row(index));
        }
    }
}

struct Round<'a> {
    x: &'a [f32],
    columns: usize,
    tile: Tile<'a, i32>,
}

impl Compute for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Simd>(mut self, _: S) {
        let rows = self.x.chunks_exact(self.columns).skip(self.tile.top);
        for (index, row) in rows.take(self.tile.height).enumerate() {
            activations::round_to_bf16(row, self.tile.row(index));
        }
    }
}

/// Some outputs, for all rows of `x`. Compiled for each kind apart: in one large function the compiler leaves sums in memory.
struct Outputs<'a, 'b, M: Multiply, const REORDER: bool> {
    weights: &'a Packed,
    x: &'a Activations<'a, M::X>,
    tile: &'a mut Tile<'b, f32>,
}

impl<M: Multiply, const REORDER: bool> Compute for Outputs<'_, '_, M, REORDER> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Simd>(self, s: S) {
        tile::outputs::<S, M, REORDER>(s, self.weights, self.x, self.tile);
    }
}
