//! Numbers of 16 bits: f16 (IEEE 754 binary16) and bf16 (the upper half of an f32). No branch depends on a value.

/// The f32 of an f16, exactly.
#[inline(always)]
pub(crate) fn from_f16(half: u16) -> f32 {
    let sign = (half as u32 & 0x8000) << 16;
    let rest = (half as u32 & 0x7fff) << 13;
    // The exponent is too small by 112, and by twice that for infinities and NaN. Multiplying by 2^112 would do for normal and
    // subnormal numbers alike; as integers it is exact without a subnormal in between.
    let normal = rest + (112 << 23);
    let special = normal + (112 << 23);
    let subnormal = f32::from_bits(rest + (113 << 23)) - f32::from_bits(113 << 23);
    let is_special = mask(rest >= 0x7c00 << 13);
    let is_subnormal = mask(rest < 0x0400 << 13);
    let magnitude = (special & is_special)
        | (subnormal.to_bits() & is_subnormal)
        | (normal & !(is_special | is_subnormal));
    f32::from_bits(sign | magnitude)
}

/// The nearest f16, ties to even; infinity beyond the largest.
#[inline(always)]
pub(crate) fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16) & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let rounded = magnitude.wrapping_add(0x0fff + ((magnitude >> 13) & 1));
    let normal = (rounded.wrapping_sub(112 << 23) >> 13).min(0x7c00);
    // Adding a number whose last place is 2^-24 rounds a subnormal as the hardware does.
    let magic = f32::from_bits(126 << 23);
    let subnormal = (f32::from_bits(magnitude) + magic)
        .to_bits()
        .wrapping_sub(126 << 23);
    let is_subnormal = mask(magnitude < 113 << 23);
    let is_large = mask(magnitude >= 143 << 23);
    let is_nan = mask(magnitude > 255 << 23);
    let half = (subnormal & is_subnormal)
        | (0x7c00 & is_large & !is_nan)
        | (0x7e00 & is_nan)
        | (normal & !(is_subnormal | is_large | is_nan));
    (sign | half) as u16
}

/// The nearest bf16, ties to even; a subnormal f32 becomes zero, as `vdpbf16ps` reads it.
#[inline(always)]
pub(crate) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7fff_ffff;
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let is_nan = mask(magnitude > 255 << 23);
    let is_normal = mask(magnitude >= 1 << 23);
    let quiet = bits | 0x0040_0000;
    let kept = (rounded & !is_nan & is_normal) | (quiet & is_nan) | (bits & 0x8000_0000);
    (kept >> 16) as u16
}

/// The f32 of a bf16, exactly.
#[inline(always)]
pub(crate) fn from_bf16(half: u16) -> f32 {
    f32::from_bits((half as u32) << 16)
}

/// All bits where `condition` holds.
#[inline(always)]
pub(crate) fn mask(condition: bool) -> u32 {
    (condition as u32).wrapping_neg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_survives_the_way_to_f32_and_back() {
        for half in 0..=u16::MAX {
            let wide = from_f16(half);
            if wide.is_nan() {
                assert!(from_f16(to_f16(wide)).is_nan());
            } else {
                assert_eq!(to_f16(wide), half, "{wide}");
            }
        }
        assert_eq!(from_f16(0x3c00), 1.0);
        assert_eq!(from_f16(1), 2f32.powi(-24));
        assert_eq!(from_f16(0x7bff), 65504.0);
    }

    #[test]
    fn f16_rounds_to_the_nearest_and_ties_to_even() {
        for half in (0..0x7bff_u16).step_by(7) {
            let (low, high) = (from_f16(half) as f64, from_f16(half + 1) as f64);
            let middle = ((low + high) / 2.0) as f32;
            assert_eq!(to_f16(middle), half + (half & 1), "{middle}");
            let nearer = (low + (high - low) * 0.4375) as f32;
            assert_eq!(to_f16(nearer), half, "{nearer}");
            assert_eq!(to_f16(-nearer), half | 0x8000);
        }
        assert_eq!(to_f16(65520.0), 0x7c00);
        assert_eq!(to_f16(1e30), 0x7c00);
        assert_eq!(to_f16(f32::INFINITY), 0x7c00);
        assert_eq!(to_f16(1e-30), 0);
    }

    #[test]
    fn bf16_rounds_to_even_and_flushes_subnormals() {
        assert_eq!(to_bf16(1.0), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(to_bf16(-1e-40), 0x8000);
        assert!(from_bf16(to_bf16(f32::NAN)).is_nan());
        assert_eq!(to_bf16(f32::MAX), 0x7f80);
    }
}
