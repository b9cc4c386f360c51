//! AVX2: two registers of eight lanes.

#![expect(unsafe_code)]

use super::{LANES, Pass, Wide};
use std::arch::x86_64::*;

/// [`crate::Path::Avx2`].
pub struct Avx2;

/// Makes a pass with AVX2.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn run<P: Pass>(pass: P) -> P::Output {
    pass.run::<Avx2>()
}

/// An intrinsic, from a function that enables nothing itself.
macro_rules! op {
    ($call:expr) => {{
        // SAFETY: methods of `Avx2` are reached through `run` alone, whose callers have looked for the features. Loads and
        // stores are of the halves of a reference to 64 bytes.
        unsafe { $call }
    }};
}

/// Sixteen lanes, loaded whole: the optimiser must not fold the load into an operation that leaves out lanes.
#[inline]
#[target_feature(enable = "avx2")]
fn load<T>(from: &T) -> Ints {
    const { assert!(size_of::<T>() == 4 * LANES) };
    let from = (&raw const *from).cast::<__m256i>();
    let mut lanes = [
        op!(_mm256_loadu_si256(from)),
        op!(_mm256_loadu_si256(from.add(1))),
    ];
    let [low, high] = &mut lanes;
    // SAFETY: no instruction at all; the registers stay as they are.
    unsafe {
        std::arch::asm!(
            "/* {0} {1} */",
            inout(ymm_reg) * low,
            inout(ymm_reg) * high,
            options(pure, nomem, nostack, preserves_flags),
        )
    };
    lanes
}

/// An operation on both halves.
macro_rules! halves {
    ($call:ident, $a:expr) => {
        [op!($call($a[0])), op!($call($a[1]))]
    };
    ($call:ident, $a:expr, $b:expr) => {
        [op!($call($a[0], $b[0])), op!($call($a[1], $b[1]))]
    };
}

type Ints = [__m256i; 2];
type Floats = [__m256; 2];

impl Wide for Avx2 {
    type Ints = Ints;
    type Floats = Floats;
    type Mask = Ints;

    #[inline(always)]
    fn load(from: &[u32; LANES]) -> Ints {
        op!(load(from))
    }
    #[inline(always)]
    fn load_bytes(from: &[u8; 4 * LANES]) -> Ints {
        op!(load(from))
    }
    #[inline(always)]
    fn load_floats(from: &[f32; LANES]) -> Floats {
        Self::floats(op!(load(from)))
    }
    #[inline(always)]
    fn store(ints: Ints, to: &mut [u32; LANES]) {
        let to = (&raw mut *to).cast::<__m256i>();
        op!(_mm256_storeu_si256(to, ints[0]));
        op!(_mm256_storeu_si256(to.add(1), ints[1]));
    }
    #[inline(always)]
    fn store_floats(floats: Floats, to: &mut [f32; LANES]) {
        let to = (&raw mut *to).cast::<f32>();
        op!(_mm256_storeu_ps(to, floats[0]));
        op!(_mm256_storeu_ps(to.add(8), floats[1]));
    }
    #[inline(always)]
    fn splat(value: u32) -> Ints {
        [op!(_mm256_set1_epi32(value as i32)); 2]
    }
    #[inline(always)]
    fn splat_float(value: f32) -> Floats {
        [op!(_mm256_set1_ps(value)); 2]
    }

    #[inline(always)]
    fn add(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn sub(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_sub_epi32, a, b)
    }
    #[inline(always)]
    fn mul(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_mullo_epi32, a, b)
    }
    #[inline(always)]
    fn and(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn or(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn xor(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_xor_si256, a, b)
    }
    #[inline(always)]
    fn shift_left<const BY: u32>(a: Ints) -> Ints {
        let by = op!(_mm_cvtsi32_si128(BY as i32));
        halves!(_mm256_sll_epi32, a, [by; 2])
    }
    #[inline(always)]
    fn shift_right<const BY: u32>(a: Ints) -> Ints {
        let by = op!(_mm_cvtsi32_si128(BY as i32));
        halves!(_mm256_srl_epi32, a, [by; 2])
    }
    #[inline(always)]
    fn shift_right_signed<const BY: u32>(a: Ints) -> Ints {
        let by = op!(_mm_cvtsi32_si128(BY as i32));
        halves!(_mm256_sra_epi32, a, [by; 2])
    }
    #[inline(always)]
    fn shift_right_each(a: Ints, by: Ints) -> Ints {
        halves!(_mm256_srlv_epi32, a, by)
    }
    #[inline(always)]
    fn look_up(table: Ints, index: Ints) -> Ints {
        let low = halves!(_mm256_permutevar8x32_epi32, [table[0]; 2], index);
        let high = halves!(_mm256_permutevar8x32_epi32, [table[1]; 2], index);
        Self::select(Self::greater(index, Self::splat(7)), high, low)
    }

    #[inline(always)]
    fn equal(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_cmpeq_epi32, a, b)
    }
    #[inline(always)]
    fn greater(a: Ints, b: Ints) -> Ints {
        halves!(_mm256_cmpgt_epi32, a, b)
    }
    #[inline(always)]
    fn both(a: Ints, b: Ints) -> Ints {
        Self::and(a, b)
    }
    #[inline(always)]
    fn either(a: Ints, b: Ints) -> Ints {
        Self::or(a, b)
    }
    #[inline(always)]
    fn select(mask: Ints, yes: Ints, no: Ints) -> Ints {
        [
            op!(_mm256_blendv_epi8(no[0], yes[0], mask[0])),
            op!(_mm256_blendv_epi8(no[1], yes[1], mask[1])),
        ]
    }

    #[inline(always)]
    fn add_floats(a: Floats, b: Floats) -> Floats {
        halves!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn sub_floats(a: Floats, b: Floats) -> Floats {
        halves!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn mul_floats(a: Floats, b: Floats) -> Floats {
        halves!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn div_floats(a: Floats, b: Floats) -> Floats {
        halves!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn max_floats(a: Floats, b: Floats) -> Floats {
        halves!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn bits(a: Floats) -> Ints {
        halves!(_mm256_castps_si256, a)
    }
    #[inline(always)]
    fn floats(a: Ints) -> Floats {
        halves!(_mm256_castsi256_ps, a)
    }
    #[inline(always)]
    fn to_floats(a: Ints) -> Floats {
        halves!(_mm256_cvtepi32_ps, a)
    }
    #[inline(always)]
    fn truncate(a: Floats) -> Ints {
        halves!(_mm256_cvttps_epi32, a)
    }
}
