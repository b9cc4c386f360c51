//! Sixteen numbers at a time, by three sets of instructions.
//!
//! Kernels are written once, over [`Simd`]; [`dispatch`](crate::dispatch) compiles them for each path. AVX2 computes sixteen
//! lanes as two halves and fuses multiply and add like AVX-512, so **these two give equal bits** wherever no product or sum of a
//! bf16 dot is subnormal; the portable path rounds twice where they fuse and gives other bits.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
pub(crate) mod portable;

use crate::memory::Line;

/// Repeats `$body` with the constant `$i` from 0 to below `$n`, which is at most 8.
///
/// Unlike a loop it leaves arrays of vectors in registers, and unlike a closure it is compiled for the instructions of the
/// function around it: in the body of a closure an intrinsic is a call.
macro_rules! unroll {
    ($i:ident < $n:ident $body:block) => { unroll!(@ $i $n $body 0 1 2 3 4 5 6 7) };
    (@ $i:ident $n:ident $body:block $($k:literal)*) => {$(
        if $k < $n {
            #[allow(non_upper_case_globals, reason = "it stands where a loop has its variable")]
            const $i: usize = $k;
            $body
        }
    )*};
}
pub(crate) use unroll;

/// Lanes of a vector.
pub(crate) const LANES: usize = 16;

/// What a set of instructions can do with sixteen lanes. A value of it is the proof that the processor has the instructions.
pub(crate) trait Simd: Copy + Send + Sync {
    /// Sixteen f32.
    type F: Copy;
    /// Sixteen i32, or 64 bytes.
    type I: Copy;
    /// How many vectors the registers hold.
    const REGISTERS: usize;
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

/// A computation written over [`Simd`]. `compute` and all that it calls are inlined into one function per path.
pub(crate) trait Compute {
    type Output;
    fn compute<S: Simd>(self, simd: S) -> Self::Output;
}

/// The sum of all lanes, in halves: lane i and i + 8, then i + 4, i + 2, i + 1.
#[inline(always)]
pub(crate) fn sum<S: Simd>(s: S, value: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(value, &mut lanes);
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// The largest lane.
#[inline(always)]
pub(crate) fn maximum<S: Simd>(s: S, value: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    s.store(value, &mut lanes);
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            let (a, b) = (lanes[lane], lanes[lane + half]);
            lanes[lane] = if a > b { a } else { b };
        }
    }
    lanes[0]
}

/// As many lanes as `from` has, the rest zero.
#[inline(always)]
pub(crate) fn load_partial<S: Simd>(s: S, from: &[f32]) -> S::F {
    match from.first_chunk::<LANES>() {
        Some(from) => s.load(from),
        None => {
            let mut lanes = [0.0; LANES];
            lanes[..from.len()].copy_from_slice(from);
            s.load(&lanes)
        }
    }
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
