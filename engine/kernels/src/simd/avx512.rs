//! Sixteen lanes as one register of 512 bits.

#![expect(
    unsafe_code,
    reason = "vector instructions exist on some processors only"
)]

use std::arch::x86_64::*;

use super::{Compute, LANES, Simd};
use crate::memory::Line;
use crate::path::Path;

/// The proof that this processor has AVX-512 F, BW, DQ, VL, VNNI and BF16.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The proof, if this processor has them.
    pub fn detect() -> Option<Self> {
        Path::Avx512.is_here().then_some(Avx512(()))
    }

    /// Runs a computation that is compiled for them.
    pub fn run<C: Compute>(self, computation: C) -> C::Output {
        #[target_feature(
            enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16"
        )]
        fn compiled<C: Compute>(s: Avx512, computation: C) -> C::Output {
            computation.compute(s)
        }
        // SAFETY: `self` is only made by `detect`, which found the features that `compiled` is compiled for.
        unsafe { compiled(self, computation) }
    }
}

/// Operations that are one expression of intrinsics.
macro_rules! operations {
    ($(fn $name:ident $(<const $n:ident: u32>)? ($($a:ident: $t:ty),*) -> $r:ty { $e:expr })*) => {$(
        #[inline(always)]
        fn $name $(<const $n: u32>)? (self, $($a: $t),*) -> $r {
            // SAFETY: `self` is only made by `detect`, which found the features that these intrinsics need. Those that load or
            // store do it at a reference to exactly as many bytes as they touch, and ask for no alignment.
            unsafe { $e }
        }
    )*};
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    const REGISTERS: usize = 32;
    const Q8_OFFSET: i32 = 128;

    operations! {
        fn splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn load(from: &[f32; LANES]) -> __m512 { _mm512_loadu_ps(from.as_ptr()) }
        fn store(value: __m512, to: &mut [f32; LANES]) -> () { _mm512_storeu_ps(to.as_mut_ptr(), value) }
        fn line_f32(line: &Line) -> __m512 { _mm512_loadu_ps(line.0.as_ptr().cast()) }
        fn load_f16(from: &[u8; 32]) -> __m512 { _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())) }
        fn add(a: __m512, b: __m512) -> __m512 { _mm512_add_ps(a, b) }
        fn sub(a: __m512, b: __m512) -> __m512 { _mm512_sub_ps(a, b) }
        fn mul(a: __m512, b: __m512) -> __m512 { _mm512_mul_ps(a, b) }
        fn div(a: __m512, b: __m512) -> __m512 { _mm512_div_ps(a, b) }
        fn max(a: __m512, b: __m512) -> __m512 { _mm512_max_ps(a, b) }
        fn min(a: __m512, b: __m512) -> __m512 { _mm512_min_ps(a, b) }
        fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 { _mm512_fmadd_ps(a, b, c) }
        fn if_less(x: __m512, y: __m512, a: __m512, b: __m512) -> __m512 {
            _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y), b, a)
        }
        fn splat_i(value: i32) -> __m512i { _mm512_set1_epi32(value) }
        fn line(line: &Line) -> __m512i { _mm512_loadu_si512(line.0.as_ptr().cast()) }
        fn store_i(value: __m512i, to: &mut [i32; LANES]) -> () {
            _mm512_storeu_si512(to.as_mut_ptr().cast(), value)
        }
        fn add_i(a: __m512i, b: __m512i) -> __m512i { _mm512_add_epi32(a, b) }
        fn and_i(a: __m512i, b: __m512i) -> __m512i { _mm512_and_si512(a, b) }
        fn shift_left<const N: u32>(a: __m512i) -> __m512i { _mm512_slli_epi32::<N>(a) }
        fn shift_right<const N: u32>(a: __m512i) -> __m512i { _mm512_srli_epi32::<N>(a) }
        fn to_f32(a: __m512i) -> __m512 { _mm512_cvtepi32_ps(a) }
        fn round(a: __m512) -> __m512i { _mm512_cvtps_epi32(a) }
        fn as_i32(a: __m512) -> __m512i { _mm512_castps_si512(a) }
        fn as_f32(a: __m512i) -> __m512 { _mm512_castsi512_ps(a) }
        fn dot_q8(acc: __m512i, w: __m512i, x: __m512i) -> __m512i { _mm512_dpbusd_epi32(acc, w, x) }
        fn dot_q4(acc: __m512i, w: __m512i, x: __m512i) -> __m512i { _mm512_dpbusd_epi32(acc, w, x) }
        fn dot_bf16(acc: __m512, w: __m512i, x: __m512i) -> __m512 {
            // The same 512 bits, as another type of the same registers.
            _mm512_dpbf16_ps(acc, std::mem::transmute::<__m512i, __m512bh>(w), std::mem::transmute::<__m512i, __m512bh>(x))
        }
    }
}
