//! Norms of rows. Sums are made in sixteen lanes, columns ascending, and then across the lanes in halves.

use crate::error::KernelError;
use crate::kernels::Kernels;
use crate::pool::Tile;
use crate::simd::{self, Compute, LANES, Simd};

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
                Some(_) => total(s, x) / width as f32,
                None => 0.0,
            };
            let squares = total_squares(s, x, s.splat(mean));
            let factor = 1.0 / (squares / width as f32 + self.epsilon).sqrt();
            let out = self.tile.row(index);
            for start in (0..width).step_by(LANES) {
                let centred = s.sub(simd::load_partial(s, &x[start..]), s.splat(mean));
                let gamma = simd::load_partial(s, &self.gamma[start..]);
                let mut scaled = s.mul(s.mul(centred, s.splat(factor)), gamma);
                if let Some(beta) = self.beta {
                    scaled = s.add(scaled, simd::load_partial(s, &beta[start..]));
                }
                simd::store_partial(s, scaled, &mut out[start..]);
            }
        }
    }
}

/// The sum of a row.
#[inline(always)]
fn total<S: Simd>(s: S, row: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for lanes in row.chunks(LANES) {
        sum = s.add(sum, simd::load_partial(s, lanes));
    }
    simd::sum(s, sum)
}

/// The sum of the squares of a row around `centre`. Lanes beyond the row count nothing.
#[inline(always)]
fn total_squares<S: Simd>(s: S, row: &[f32], centre: S::F) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut sum = s.splat(0.0);
    for lanes in whole {
        let centred = s.sub(s.load(lanes), centre);
        sum = s.mul_add(centred, centred, sum);
    }
    if !rest.is_empty() {
        let centred = s.sub(simd::load_partial(s, rest), centre);
        let mut lanes = [0.0; LANES];
        s.store(s.mul(centred, centred), &mut lanes);
        sum = s.add(sum, simd::load_partial(s, &lanes[..rest.len()]));
    }
    simd::sum(s, sum)
}
