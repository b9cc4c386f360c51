//! Sixteen lanes of 32 bits on every path, so that each pass is written once.
//!
//! Loads are whole: no gather, and none under a mask, since those leave out what the mask leaves out and who sees addresses sees
//! it. No operation fuses a product with a sum, so all paths give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::mask::hide;
use crate::Path;

/// Lanes of one vector.
pub const LANES: usize = 16;

/// Sixteen numbers where vectors are loaded from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[repr(C, align(64))]
pub struct Block<T>(pub [T; LANES]);

/// What a path computes on sixteen lanes. Comparisons are signed.
#[expect(missing_docs)]
pub trait Wide {
    type Ints: Copy;
    type Floats: Copy;
    type Mask: Copy;

    fn load(from: &[u32; LANES]) -> Self::Ints;
    /// Sixteen little-endian numbers.
    fn load_bytes(from: &[u8; 4 * LANES]) -> Self::Ints;
    fn load_floats(from: &[f32; LANES]) -> Self::Floats;
    fn store(ints: Self::Ints, to: &mut [u32; LANES]);
    fn store_floats(floats: Self::Floats, to: &mut [f32; LANES]);
    fn splat(value: u32) -> Self::Ints;
    fn splat_float(value: f32) -> Self::Floats;

    fn add(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn sub(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    /// The low 32 bits of each product.
    fn mul(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn and(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn or(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn xor(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    fn shift_left<const BY: u32>(a: Self::Ints) -> Self::Ints;
    /// Zeros come in.
    fn shift_right<const BY: u32>(a: Self::Ints) -> Self::Ints;
    /// The sign comes in.
    fn shift_right_signed<const BY: u32>(a: Self::Ints) -> Self::Ints;
    /// Each lane right by its own number of bits, below 32.
    fn shift_right_each(a: Self::Ints, by: Self::Ints) -> Self::Ints;
    /// Lane `index` of `table` for each index below 16, without memory.
    fn look_up(table: Self::Ints, index: Self::Ints) -> Self::Ints;

    fn equal(a: Self::Ints, b: Self::Ints) -> Self::Mask;
    fn greater(a: Self::Ints, b: Self::Ints) -> Self::Mask;
    fn both(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn either(a: Self::Mask, b: Self::Mask) -> Self::Mask;
    fn select(mask: Self::Mask, yes: Self::Ints, no: Self::Ints) -> Self::Ints;

    fn add_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn sub_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn mul_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn div_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// The larger; `b` where either is not a number.
    fn max_floats(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    fn bits(a: Self::Floats) -> Self::Ints;
    fn floats(a: Self::Ints) -> Self::Floats;
    /// As signed numbers.
    fn to_floats(a: Self::Ints) -> Self::Floats;
    /// Towards zero; the value must be within the range of `i32`.
    fn truncate(a: Self::Floats) -> Self::Ints;

    /// The mask, about which the optimiser knows nothing. For one that a loop does not change: where masks are plain numbers,
    /// it makes two loops of one and a jump by the mask between them.
    #[inline(always)]
    fn conceal(mask: Self::Mask) -> Self::Mask {
        mask
    }

    /// The lanes where the mask is set.
    #[inline(always)]
    fn keep(mask: Self::Mask, a: Self::Ints) -> Self::Ints {
        Self::select(mask, a, Self::splat(0))
    }

    /// The lanes as numbers, about which the optimiser knows nothing.
    #[inline(always)]
    fn lanes(a: Self::Ints) -> [u32; LANES] {
        let mut lanes = [0; LANES];
        Self::store(a, &mut lanes);
        for lane in &mut lanes {
            *lane = hide(*lane);
        }
        lanes
    }

    /// 0, 1, 2 and so on to 15.
    #[inline(always)]
    fn count() -> Self::Ints {
        const COUNT: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        Self::load(&COUNT)
    }
}

/// A pass over memory that any path can make.
pub trait Pass {
    /// What it finds.
    type Output;

    /// Makes the pass. Implementations are `#[inline(always)]`, so that each path compiles its own.
    fn run<W: Wide>(self) -> Self::Output;
}

/// Makes a pass with the instructions of `path`, or of [`Path::Portable`] if this processor lacks them.
#[inline]
#[expect(unsafe_code)]
pub fn pass<P: Pass>(path: Path, pass: P) -> P::Output {
    match path {
        // SAFETY: `is_here` has looked for every feature that the function enables.
        #[cfg(target_arch = "x86_64")]
        Path::Avx512 if path.is_here() => unsafe { avx512::run(pass) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Path::Avx2 if path.is_here() => unsafe { avx2::run(pass) },
        _ => pass.run::<portable::Portable>(),
    }
}

#[cfg(test)]
mod tests;
