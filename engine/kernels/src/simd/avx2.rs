//! Sixteen lanes as two registers of 256 bits. Each lane computes what it computes on AVX-512.

#![expect(
    unsafe_code,
    reason = "vector instructions exist on some processors only"
)]

use std::arch::x86_64::*;

use super::{Compute, LANES, Simd};
use crate::memory::Line;
use crate::path::Path;

/// The proof that this processor has AVX2, FMA and F16C.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The proof, if this processor has them.
    pub fn detect() -> Option<Self> {
        Path::Avx2.is_here().then_some(Avx2(()))
    }

    /// Runs a computation that is compiled for them.
    pub fn run<C: Compute>(self, computation: C) -> C::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<C: Compute>(s: Avx2, computation: C) -> C::Output {
            computation.compute(s)
        }
        // SAFETY: `self` is only made by `detect`, which found the features that `compiled` is compiled for.
        unsafe { compiled(self, computation) }
    }
}

/// Eight lanes and eight lanes.
type F = [__m256; 2];
type I = [__m256i; 2];

/// Operations that are one expression of intrinsics.
macro_rules! operations {
    ($(fn $name:ident $(<const $n:ident: u32>)? ($($a:ident: $t:ty),*) -> $r:ty { $e:expr })*) => {$(
        #[inline(always)]
        fn $name $(<const $n: u32>)? (self, $($a: $t),*) -> $r {
            // SAFETY: `self` is only made by `detect`, which found the features that these intrinsics need. Those that load or
            // store do it at the halves of a reference to exactly twice as many bytes as they touch, and ask for no alignment.
            unsafe { $e }
        }
    )*};
}

impl Simd for Avx2 {
    type F = F;
    type I = I;
    const REGISTERS: usize = 8;
    const Q8_OFFSET: i32 = 0;

    operations! {
        fn splat(value: f32) -> F { [_mm256_set1_ps(value); 2] }
        fn load(from: &[f32; LANES]) -> F { [_mm256_loadu_ps(from.as_ptr()), _mm256_loadu_ps(from.as_ptr().add(8))] }
        fn store(value: F, to: &mut [f32; LANES]) -> () {{
            _mm256_storeu_ps(to.as_mut_ptr(), value[0]);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), value[1]);
        }}
        fn line_f32(line: &Line) -> F {
            [_mm256_loadu_ps(line.0.as_ptr().cast()), _mm256_loadu_ps(line.0.as_ptr().add(32).cast())]
        }
        fn load_f16(from: &[u8; 32]) -> F {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())),
                _mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().add(16).cast())),
            ]
        }
        fn add(a: F, b: F) -> F { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
        fn sub(a: F, b: F) -> F { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
        fn mul(a: F, b: F) -> F { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
        fn div(a: F, b: F) -> F { [_mm256_div_ps(a[0], b[0]), _mm256_div_ps(a[1], b[1])] }
        fn max(a: F, b: F) -> F { [_mm256_max_ps(a[0], b[0]), _mm256_max_ps(a[1], b[1])] }
        fn min(a: F, b: F) -> F { [_mm256_min_ps(a[0], b[0]), _mm256_min_ps(a[1], b[1])] }
        fn mul_add(a: F, b: F, c: F) -> F {
            [_mm256_fmadd_ps(a[0], b[0], c[0]), _mm256_fmadd_ps(a[1], b[1], c[1])]
        }
        fn if_less(x: F, y: F, a: F, b: F) -> F {
            [
                _mm256_blendv_ps(b[0], a[0], _mm256_cmp_ps::<_CMP_LT_OQ>(x[0], y[0])),
                _mm256_blendv_ps(b[1], a[1], _mm256_cmp_ps::<_CMP_LT_OQ>(x[1], y[1])),
            ]
        }
        fn splat_i(value: i32) -> I { [_mm256_set1_epi32(value); 2] }
        fn line(line: &Line) -> I {
            [_mm256_loadu_si256(line.0.as_ptr().cast()), _mm256_loadu_si256(line.0.as_ptr().add(32).cast())]
        }
        fn store_i(value: I, to: &mut [i32; LANES]) -> () {{
            _mm256_storeu_si256(to.as_mut_ptr().cast(), value[0]);
            _mm256_storeu_si256(to.as_mut_ptr().add(8).cast(), value[1]);
        }}
        fn add_i(a: I, b: I) -> I { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
        fn and_i(a: I, b: I) -> I { [_mm256_and_si256(a[0], b[0]), _mm256_and_si256(a[1], b[1])] }
        fn shift_left<const N: u32>(a: I) -> I { [_mm256_sll_epi32(a[0], _mm_cvtsi32_si128(N as i32)), _mm256_sll_epi32(a[1], _mm_cvtsi32_si128(N as i32))] }
        fn shift_right<const N: u32>(a: I) -> I { [_mm256_srl_epi32(a[0], _mm_cvtsi32_si128(N as i32)), _mm256_srl_epi32(a[1], _mm_cvtsi32_si128(N as i32))] }
        fn to_f32(a: I) -> F { [_mm256_cvtepi32_ps(a[0]), _mm256_cvtepi32_ps(a[1])] }
        fn round(a: F) -> I { [_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1])] }
        fn as_i32(a: F) -> I { [_mm256_castps_si256(a[0]), _mm256_castps_si256(a[1])] }
        fn as_f32(a: I) -> F { [_mm256_castsi256_ps(a[0]), _mm256_castsi256_ps(a[1])] }
        fn dot_q8(acc: I, w: I, x: I) -> I { [dot_q8(acc[0], w[0], x[0]), dot_q8(acc[1], w[1], x[1])] }
        fn dot_q4(acc: I, w: I, x: I) -> I {
            [
                _mm256_add_epi32(acc[0], _mm256_madd_epi16(_mm256_maddubs_epi16(w[0], x[0]), _mm256_set1_epi16(1))),
                _mm256_add_epi32(acc[1], _mm256_madd_epi16(_mm256_maddubs_epi16(w[1], x[1]), _mm256_set1_epi16(1))),
            ]
        }
        fn dot_bf16(acc: F, w: I, x: I) -> F {
            [dot_bf16(acc[0], w[0], x[0]), dot_bf16(acc[1], w[1], x[1])]
        }
    }
}

/// Sums of two products of u8 and i8 saturate at 16 bits; with the weight's magnitude (at most 128) and its sign moved to the activation
/// (at most 127) they do not get there.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_q8(acc: __m256i, w: __m256i, x: __m256i) -> __m256i {
    let w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// Products of two bf16 are exact in f32, so a fused multiply-add rounds as `vdpbf16ps` does.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_bf16(acc: __m256, w: __m256i, x: __m256i) -> __m256 {
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let [w_odd, x_odd] = [_mm256_and_si256(w, upper), _mm256_and_si256(x, upper)];
    let [w_even, x_even] = [_mm256_slli_epi32::<16>(w), _mm256_slli_epi32::<16>(x)];
    let acc = _mm256_fmadd_ps(_mm256_castsi256_ps(w_odd), _mm256_castsi256_ps(x_odd), acc);
    _mm256_fmadd_ps(
        _mm256_castsi256_ps(w_even),
        _mm256_castsi256_ps(x_even),
        acc,
    )
}
