//! Sixteen lanes as an array: what every processor can do.

use super::{LANES, Simd};
use crate::half::{from_bf16, from_f16};
use crate::memory::Line;
use crate::oblivious::mask::hide;

/// The portable path.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

#[inline(always)]
fn lanes<T>(of: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(of)
}

#[inline(always)]
fn words(line: &Line) -> [i32; LANES] {
    let words = line.0.as_chunks::<4>().0;
    lanes(|i| i32::from_le_bytes(words[i]))
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    const REGISTERS: usize = 4;
    const Q8_OFFSET: i32 = 128;

    #[inline(always)]
    fn splat(self, value: f32) -> Self::F {
        [value; LANES]
    }
    #[inline(always)]
    fn load(self, from: &[f32; LANES]) -> Self::F {
        *from
    }
    #[inline(always)]
    fn store(self, value: Self::F, to: &mut [f32; LANES]) {
        *to = value;
    }
    #[inline(always)]
    fn line_f32(self, line: &Line) -> Self::F {
        words(line).map(|word| f32::from_bits(word as u32))
    }
    #[inline(always)]
    fn load_f16(self, from: &[u8; 32]) -> Self::F {
        let halves = from.as_chunks::<2>().0;
        lanes(|i| from_f16(u16::from_le_bytes(halves[i])))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        lanes(|i| a[i] * b[i] + c[i])
    }
    #[inline(always)]
    fn if_less(self, x: Self::F, y: Self::F, a: Self::F, b: Self::F) -> Self::F {
        lanes(|i| {
            // Memcheck found a jump here where the optimiser saw what the mask is.
            let mask = hide(crate::half::mask(x[i] < y[i]));
            f32::from_bits((a[i].to_bits() & mask) | (b[i].to_bits() & !mask))
        })
    }
    #[inline(always)]
    fn splat_i(self, value: i32) -> Self::I {
        [value; LANES]
    }
    #[inline(always)]
    fn line(self, line: &Line) -> Self::I {
        words(line)
    }
    #[inline(always)]
    fn store_i(self, value: Self::I, to: &mut [i32; LANES]) {
        *to = value;
    }
    #[inline(always)]
    fn add_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn and_i(self, a: Self::I, b: Self::I) -> Self::I {
        lanes(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn shift_left<const N: u32>(self, a: Self::I) -> Self::I {
        lanes(|i| a[i] << N)
    }
    #[inline(always)]
    fn shift_right<const N: u32>(self, a: Self::I) -> Self::I {
        lanes(|i| (a[i] as u32 >> N) as i32)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I) -> Self::F {
        lanes(|i| a[i] as f32)
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::I {
        // 1.5 * 2^23: adding it leaves the nearest integer in the last bits. Enough for |a| <= 2^22.
        lanes(|i| ((a[i] + 12_582_912.0).to_bits() as i32).wrapping_sub(0x4b40_0000))
    }
    #[inline(always)]
    fn as_i32(self, a: Self::F) -> Self::I {
        lanes(|i| a[i].to_bits() as i32)
    }
    #[inline(always)]
    fn as_f32(self, a: Self::I) -> Self::F {
        lanes(|i| f32::from_bits(a[i] as u32))
    }
    #[inline(always)]
    fn dot_q8(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
        lanes(|i| {
            let (w, x) = (w[i].to_le_bytes(), x[i].to_le_bytes());
            let dot = |k: usize| i32::from(w[k]) * i32::from(x[k] as i8);
            acc[i].wrapping_add(dot(0) + dot(1) + dot(2) + dot(3))
        })
    }
    #[inline(always)]
    fn dot_q4(self, acc: Self::I, w: Self::I, x: Self::I) -> Self::I {
        self.dot_q8(acc, w, x)
    }
    #[inline(always)]
    fn dot_bf16(self, acc: Self::F, w: Self::I, x: Self::I) -> Self::F {
        let upper = |word: i32| f32::from_bits(word as u32 & 0xffff_0000);
        let lower = |word: i32| from_bf16(word as u16);
        lanes(|i| acc[i] + upper(w[i]) * upper(x[i]) + lower(w[i]) * lower(x[i]))
    }
}
