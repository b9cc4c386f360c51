//! Norms of rows. Sums are made in sixteen lanes, columns ascending, and then across the lanes in halves.

use crate::dispatch::Compute;
use crate::error::KernelError;
use crate::kernels::Kernels;
use crate::pool::Tile;
use crate::simd::{self, LANES, Simd};

/// Rows of a chunk.
const CHUNK_ROWS: usize = 16;

impl Kernels {
    /// `out = x / sqrt(mean of x^2 + epsilon) * gamma` for each row of `x`, as wide as `gamma`.
    ///
    /// # Errors
    /// `gamma` is empty, `x` no whole number of rows, or `out` not as long as `x`.
    pub fn rms_norm(
        &self,
        x: &[f32],
        gamma: &[f32],
        epsilon: f32,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        self.norm(x, gamma, None, epsilon, out)
    }

    /// `out = (x - mean) / sqrt(variance + epsilon) * gamma + beta` for each row of `x`, as wide as `gamma` and `beta`.
    ///
    /// # Errors
    /// As [`rms_norm`](Self::rms_norm); `beta` is not as long as `gamma`.
    pub fn layer_norm(
        &self,
        x: &[f32],
        gamma: &[f32],
        beta: &[f32],
        epsilon: f32,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        KernelError::length("beta", beta.len(), gamma.len())?;
        self.norm(x, gamma, Some(beta), epsilon, out)
    }

    fn norm(
        &self,
        x: &[f32],
        gamma: &[f32],
        beta: Option<&[f32]>,
        epsilon: f32,
        out: &mut [f32],
    ) -> Result<(), KernelError> {
        let width = gamma.len();
        if width == 0 {
            return Err(KernelError::shape("width of a norm", 0));
        }
        KernelError::length("rows to normalise", x.len(), x.len() / width * width)?;
        KernelError::length("normalised rows", out.len(), x.len())?;
        self.pool.tiles(out, width, (CHUNK_ROWS, width), |tile| {
            self.instructions.run(Norm {
                x,
                gamma,
                beta,
                epsilon,
                tile,
            });
        });
        Ok(())
    }
}

struct Norm<'a> {
    x: &'a [f32],
    gamma: &'a [f32],
    beta: Option<&'a [f32]>,
    epsilon: f32,
    tile: Tile<'a, f32>,
}

impl Compute for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Simd>(mut self, s: S) {
        let width = self.gamma.len();
        let rows = self.x.chunks_exact(width).skip(self.tile.top);
        for (index, x) in rows.take(self.tile.height).enumerate() {
            let mean = match self.beta {
                Some(_) => total(s, x, |x| x) / width as f32,
                None => 0.0,
            };
            let centre = s.splat(mean);
            let square = |x: S::F| s.mul(x, x);
            let squares = total(s, x, |x| square(s.sub(x, centre)));
            let factor = 1.0 / (squares / width as f32 + self.epsilon).sqrt();
            let out = self.tile.row(index);
            for start in (0..width).step_by(LANES) {
                let part = |of: &[f32]| s.load(&simd::partial(&of[start..]));
                let scaled = s.mul(
                    s.mul(s.sub(part(x), centre), s.splat(factor)),
                    part(self.gamma),
                );
                let scaled = match self.beta {
                    Some(beta) => s.add(scaled, part(beta)),
                    None => scaled,
                };
                simd::store_partial(s, scaled, &mut out[start..]);
            }
        }
    }
}

/// The sum of `of` over a row. Lanes beyond it count nothing.
#[inline(always)]
fn total<S: Simd>(s: S, row: &[f32], of: impl Fn(S::F) -> S::F) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for lanes in whole {
        sum = s.add(sum, of(s.load(lanes)));
    }
    if !rest.is_empty() {
        let mut lanes = [0.0; LANES];
        s.store(of(s.load(&simd::partial(rest))), &mut lanes);
        sum = s.add(sum, s.load(&simd::partial(&lanes[..rest.len()])));
    }
    simd::sum(s, sum)
}
