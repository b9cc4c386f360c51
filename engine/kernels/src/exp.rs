//! `exp` by a polynomial: no table, no branch, the same bits on every path where it is computed one number at a time.

use crate::half::mask;
use crate::simd::Simd;

const LOG2_E: f32 = std::f32::consts::LOG2_E;
/// ln 2 in two parts; the first has so few bits that its product with an exponent is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;
/// Below, the result is subnormal: it is flushed to zero.
const LOWEST: f32 = -87.33654;
/// Above, the result is infinite.
const HIGHEST: f32 = 88.72283;
/// 1.5 * 2^23: adding it rounds to an integer that stands in the last bits.
const MAGIC: f32 = 12_582_912.0;
/// Of (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2 (Cephes, `expf`), the highest power first.
const COEFFICIENTS: [f32; 6] = [
    1.987_569_1e-4,
    1.398_199_9e-3,
    8.333_452e-3,
    4.166_579_5e-2,
    1.666_666_5e-1,
    5e-1,
];

/// e to the `x`, with a relative error below 2e-7. Zero below -87.33654 (a subnormal result is flushed), infinite above 88.72283, not a number
/// for what is none. Equal bits on every processor; takes the same instructions for every `x`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let outside = mask(x < LOWEST) | mask(x > HIGHEST);
    let clamped = f32::from_bits(
        (LOWEST.to_bits() & mask(x < LOWEST))
            | (HIGHEST.to_bits() & mask(x > HIGHEST))
            | (x.to_bits() & !outside),
    );
    let shifted = clamped * LOG2_E + MAGIC;
    let n = shifted - MAGIC;
    let r = clamped - n * LN2_HIGH - n * LN2_LOW;
    let polynomial = COEFFICIENTS.iter().fold(0.0, |sum, c| sum * r + c);
    let mantissa = polynomial * (r * r) + r + 1.0;
    // 2^n in two factors, since n = 128 has no single one.
    let n = (shifted.to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32);
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    let half = n >> 1;
    let result = mantissa * power(half) * power(n.wrapping_sub(half));
    let infinite = f32::INFINITY.to_bits() & mask(x > HIGHEST);
    f32::from_bits((result.to_bits() & !outside) | infinite)
}

/// The same for sixteen numbers that are at most 0 or so: what softmax and the sigmoid need. Zero below -87.33654; above 87 the
/// result is that of 87. Fused multiply-adds give other bits than [`exp`].
#[inline(always)]
pub(crate) fn exp_lanes<S: Simd>(s: S, x: S::F) -> S::F {
    let clamped = s.min(s.splat(87.0), s.max(s.splat(LOWEST), x));
    let shifted = s.mul_add(clamped, s.splat(LOG2_E), s.splat(MAGIC));
    let n = s.sub(shifted, s.splat(MAGIC));
    let r = s.mul_add(n, s.splat(-LN2_HIGH), clamped);
    let r = s.mul_add(n, s.splat(-LN2_LOW), r);
    let mut polynomial = s.splat(COEFFICIENTS[0]);
    for coefficient in &COEFFICIENTS[1..] {
        polynomial = s.mul_add(polynomial, r, s.splat(*coefficient));
    }
    let mantissa = s.add(s.mul_add(polynomial, s.mul(r, r), r), s.splat(1.0));
    // The last bits of `shifted` are n; 127 + n is the exponent of 2^n.
    let biased = s.add_i(s.as_i32(shifted), s.splat_i(127 - MAGIC.to_bits() as i32));
    let power = s.as_f32(s.shift_left::<23>(biased));
    let result = s.mul(mantissa, power);
    s.if_less(x, s.splat(LOWEST), s.splat(0.0), result)
}
