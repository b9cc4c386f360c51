//! AVX-512: one register of sixteen lanes, and masks in registers of their own.

#![expect(unsafe_code)]

use super::{LANES, Pass, Wide};
use std::arch::x86_64::*;

/// [`crate::Path::Avx512`].
pub struct Avx512;

/// Makes a pass with AVX-512.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
pub fn run<P: Pass>(pass: P) -> P::Output {
    pass.run::<Avx512>()
}

/// An intrinsic, from a function that enables nothing itself.
macro_rules! op {
    ($call:expr) => {{
        // SAFETY: methods of `Avx512` are reached through `run` alone, whose callers have looked for the features. Loads and
        // stores are of a reference to 64 bytes.
        unsafe { $call }
    }};
}

/// Sixteen lanes, loaded whole: the optimiser must not fold the load into an operation under a mask, which leaves out lanes.
#[inline]
#[target_feature(enable = "avx512f")]
fn load<T>(from: &T) -> __m512i {
    const { assert!(size_of::<T>() == 4 * LANES) };
    let mut lanes = op!(_mm512_loadu_si512((&raw const *from).cast()));
    // SAFETY: no instruction at all; the register stays as it is.
    unsafe {
        std::arch::asm!("/* {0} */", inout(zmm_reg) lanes, options(pure, nomem, nostack, preserves_flags))
    };
    lanes
}

impl Wide for Avx512 {
    type Ints = __m512i;
    type Floats = __m512;
    type Mask = __mmask16;

    #[inline(always)]
    fn load(from: &[u32; LANES]) -> __m512i {
        op!(load(from))
    }
    #[inline(always)]
    fn load_bytes(from: &[u8; 4 * LANES]) -> __m512i {
        op!(load(from))
    }
    #[inline(always)]
    fn load_floats(from: &[f32; LANES]) -> __m512 {
        op!(_mm512_castsi512_ps(load(from)))
    }
    #[inline(always)]
    fn store(ints: __m512i, to: &mut [u32; LANES]) {
        op!(_mm512_storeu_si512((&raw mut *to).cast(), ints))
    }
    #[inline(always)]
    fn store_floats(floats: __m512, to: &mut [f32; LANES]) {
        op!(_mm512_storeu_ps((&raw mut *to).cast(), floats))
    }
    #[inline(always)]
    fn splat(value: u32) -> __m512i {
        op!(_mm512_set1_epi32(value as i32))
    }
    #[inline(always)]
    fn splat_float(value: f32) -> __m512 {
        op!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn add(a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub(a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn mul(a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn and(a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or(a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn xor(a: __m512i, b: __m512i) -> __m512i {
        op!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn shift_left<const BY: u32>(a: __m512i) -> __m512i {
        op!(_mm512_slli_epi32::<BY>(a))
    }
    #[inline(always)]
    fn shift_right<const BY: u32>(a: __m512i) -> __m512i {
        op!(_mm512_srli_epi32::<BY>(a))
    }
    #[inline(always)]
    fn shift_right_signed<const BY: u32>(a: __m512i) -> __m512i {
        op!(_mm512_srai_epi32::<BY>(a))
    }
    #[inline(always)]
    fn shift_right_each(a: __m512i, by: __m512i) -> __m512i {
        op!(_mm512_srlv_epi32(a, by))
    }
    #[inline(always)]
    fn look_up(table: __m512i, index: __m512i) -> __m512i {
        op!(_mm512_permutexvar_epi32(index, table))
    }

    #[inline(always)]
    fn equal(a: __m512i, b: __m512i) -> __mmask16 {
        op!(_mm512_cmpeq_epi32_mask(a, b))
    }
    #[inline(always)]
    fn greater(a: __m512i, b: __m512i) -> __mmask16 {
        op!(_mm512_cmpgt_epi32_mask(a, b))
    }
    #[inline(always)]
    fn both(a: __mmask16, b: __mmask16) -> __mmask16 {
        a & b
    }
    #[inline(always)]
    fn either(a: __mmask16, b: __mmask16) -> __mmask16 {
        a | b
    }
    #[inline(always)]
    fn select(mask: __mmask16, yes: __m512i, no: __m512i) -> __m512i {
        op!(_mm512_mask_blend_epi32(mask, no, yes))
    }

    #[inline(always)]
    fn add_floats(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub_floats(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul_floats(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div_floats(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn max_floats(a: __m512, b: __m512) -> __m512 {
        op!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn bits(a: __m512) -> __m512i {
        op!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn floats(a: __m512i) -> __m512 {
        op!(_mm512_castsi512_ps(a))
    }
    #[inline(always)]
    fn to_floats(a: __m512i) -> __m512 {
        op!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn truncate(a: __m512) -> __m512i {
        op!(_mm512_cvttps_epi32(a))
    }
}
