//! Sixteen numbers at a time, by three sets of instructions.
//!
//! Kernels are written once, over [`Simd`]; [`dispatch`](crate::dispatch) compiles them for each path. AVX2 computes sixteen
//! lanes as two halves and fuses multiply and add like AVX-512, so **these two give equal bits** wherever no product or sum of a
//! bf16 dot is subnormal; the portable path rounds twice where they fuse and gives other bits.

pub(crate) mod portable;

use crate::memory::Line;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// What a set of instructions can do with sixteen lanes. A value of it is the proof that the processor has the instructions.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32, or 64 bytes.
    type I: Copy;
    /// Added to q8 weights in [`dot_q8`](Simd::dot_q8): the caller starts with minus this times the sum of the activations.
    const Q8_OFFSET: i32;

    fn splat(self, value: f32) -> Self::F;
    fn load(self, from: &[f32; LANES]) -> Self::F;
    fn store(self, value: Self::F, to: &mut [f32; LANES]);
    fn line_f32(self, line: &Line) -> Self::F;
    /// Sixteen little-endian f16.
    fn load_f16(self, from: &[u8; 32]) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger; `b` where one is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` where one is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once on AVX2 and AVX-512, twice on the portable path.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a` where `x < y`, else `b`.
    fn if_less(self, x: Self::F, y: Self::F, a: Self::F, b: Self::F) -> Self::F;

    fn splat_i(self, value: i32) -> Self::I;
    fn line(self, line: &Line) -> Self::I;
    fn store_i(self, value: Self::I, to: &mut [i32; LANES]);
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I;
    fn shift_left<const N: u32>(self, a: Self::I) -> Self::I;
    fn shift_right<const N: u32>(self, a: Self::I) -> Self::I;
    fn to_f32(self, a: Self::I) -> Self::F;
    /// The nearest integer, ties to even.
    fn round(self, a: Self::F) -> Self::I;
    fn as_i32(self, a: Self::F) -> Self::I;
    fn as_f32(self, a: Self::I) -> Self::F;

    /// `acc` plus, lane by lane, the dot product of four bytes of `w` (q8 weights plus 128) and four i8 of `x`.
    fn dot_q8(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// `acc` plus, lane by lane, the dot product of four bytes of `w`, each at most 15, and four i8 of `x`.
    fn dot_q4(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I;
    /// `acc` plus, lane by lane, the products of two bf16 of `w` and `x`: first the upper ones, then the lower ones.
    fn dot_bf16(self, acc: Self::F, w: Self::I, x: Self::I) -> Self::F;
}

/// The sum of all lanes, in halves: lane i and i + 8, then i + 4, i + 2, i + 1.
#[inline(always)]
pub(crate) fn sum<S: Simd>(s: S, value: S::F) -> f32 {
    fold(s, value, |a, b| a + b)
}

/// The largest lane.
#[inline(always)]
pub(crate) fn maximum<S: Simd>(s: S, value: S::F) -> f32 {
    fold(s, value, |a, b| if a > b { a } else { b })
}

#[inline(always)]
fn fold<S: Simd>(s: S, value: S::F, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(value, &mut lanes);
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}

/// The first lanes of a slice that may be shorter than a vector, the rest zero.
#[inline(always)]
pub(crate) fn partial(from: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    let count = from.len().min(LANES);
    lanes[..count].copy_from_slice(&from[..count]);
    lanes
}

/// Stores as many lanes as `to` takes.
#[inline(always)]
pub(crate) fn store_partial<S: Simd>(s: S, value: S::F, to: &mut [f32]) {
    match to.first_chunk_mut::<LANES>() {
        Some(to) => s.store(value, to),
        None => {
            let mut lanes = [0.0; LANES];
            s.store(value, &mut lanes);
            let count = to.len();
            to.copy_from_slice(&lanes[..count]);
        }
    }
}
