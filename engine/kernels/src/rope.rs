//! Rotary positions.

use crate::error::KernelError;
use crate::kernels::Kernels;
use crate::pool::Tile;
use crate::simd::{self, Compute, LANES, Simd};

/// Rows of a chunk.
const CHUNK_ROWS: usize = 16;

impl Kernels {
    /// Rotates each head of `x` in place: `x` is n rows of `heads * width`, `cosines` and `sines` are n rows of `width / 2`. Element
    /// i of a head pairs with element i + width / 2 ("rotate half").
    ///
    /// # Errors
    /// `heads` or `width` is zero, `width` odd, or a slice has another length.
    pub fn rope(
        &self,
        x: &mut [f32],
        cosines: &[f32],
        sines: &[f32],
        heads: usize,
        width: usize,
    ) -> Result<(), KernelError> {
        if width == 0 || !width.is_multiple_of(2) {
            return Err(KernelError::shape("width of a rotated head", width));
        }
        let stride = heads.saturating_mul(width);
        if stride == 0 {
            return Err(KernelError::shape("heads to rotate", heads));
        }
        let n = x.len() / stride;
        KernelError::length("rows to rotate", x.len(), n * stride)?;
        KernelError::length("cosines", cosines.len(), n * (width / 2))?;
        KernelError::length("sines", sines.len(), n * (width / 2))?;
        self.pool.tiles(x, stride, (CHUNK_ROWS, stride), |tile| {
            self.instructions.run(Rotate {
                cosines,
                sines,
                width,
                tile,
            });
        });
        Ok(())
    }
}

struct Rotate<'a> {
    cosines: &'a [f32],
    sines: &'a [f32],
    width: usize,
    tile: Tile<'a, f32>,
}

impl Compute for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn compute<S: Simd>(mut self, s: S) {
        let half = self.width / 2;
        for row in 0..self.tile.height {
            let at = (self.tile.top + row) * half;
            let (cosines, sines) = (&self.cosines[at..at + half], &self.sines[at..at + half]);
            for head in self.tile.row(row).chunks_exact_mut(self.width) {
                let (low, high) = head.split_at_mut(half);
                for start in (0..half).step_by(LANES) {
                    let a = simd::load_partial(s, &low[start..]);
                    let b = simd::load_partial(s, &high[start..]);
                    let cosine = simd::load_partial(s, &cosines[start..]);
                    let sine = simd::load_partial(s, &sines[start..]);
                    let rotated = [
                        s.sub(s.mul(a, cosine), s.mul(b, sine)),
                        s.add(s.mul(b, cosine), s.mul(a, sine)),
                    ];
                    simd::store_partial(s, rotated[0], &mut low[start..]);
                    simd::store_partial(s, rotated[1], &mut high[start..]);
                }
            }
        }
    }
}
