//! Q4_K in the form of Q4_1: a block of 256 is eight of 32, whose scale and minimum are products that are rounded to 11 bits.
//!
//! Source: `block_q4_K`, `get_scale_min_k4` and `dequantize_row_q4_K` in `ggml-quants.c`.

/// Bytes of a block of Q4_K, and of the eight blocks of Q4_1 for it.
pub(super) const BLOCK_BYTES: usize = 144;
pub(super) const OUT_BYTES: usize = 8 * 20;

/// Writes the blocks of Q4_1. A product beyond the largest half becomes infinite.
pub(super) fn to_q4_1(block: &[u8; BLOCK_BYTES], out: &mut [u8; OUT_BYTES]) {
    let half = |at: usize| from_half(u16::from_le_bytes([block[at], block[at + 1]]));
    let (scale_unit, minimum_unit) = (half(0), half(2));
    let six = &block[4..16];
    for (index, out) in out.chunks_exact_mut(20).enumerate() {
        let (scale, minimum) = match index < 4 {
            true => (six[index] & 63, six[index + 4] & 63),
            false => (
                (six[index + 4] & 15) | (six[index - 4] >> 6 << 4),
                (six[index + 4] >> 4) | (six[index] >> 6 << 4),
            ),
        };
        let scale = to_half(scale_unit * f32::from(scale));
        let minimum = to_half(-minimum_unit * f32::from(minimum));
        out[..2].copy_from_slice(&scale.to_le_bytes());
        out[2..4].copy_from_slice(&minimum.to_le_bytes());
        let (bytes, shift) = (&block[16 + index / 2 * 32..][..32], index % 2 * 4);
        for (place, out) in out[4..].iter_mut().enumerate() {
            let nibble = |at: usize| bytes[at] >> shift & 15;
            *out = nibble(place) | nibble(place + 16) << 4;
        }
    }
}

/// Whether the scales and minima of blocks of Q4_1 are finite.
pub(super) fn is_finite(blocks: &[u8]) -> bool {
    let mut blocks = blocks.chunks_exact(20);
    blocks.all(|block| block[1] & 0x7c != 0x7c && block[3] & 0x7c != 0x7c)
}

fn from_half(half: u16) -> f32 {
    let (exponent, fraction) = (i32::from(half >> 10 & 31), f32::from(half & 1023));
    let magnitude = match exponent {
        0 => fraction * 2f32.powi(-24),
        _ => (1024.0 + fraction) * 2f32.powi(exponent - 25),
    };
    if half >> 15 == 1 {
        -magnitude
    } else {
        magnitude
    }
}

/// The nearest half, ties to even.
fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    let (sign, magnitude) = ((bits >> 16 & 0x8000) as u16, bits & 0x7fff_ffff);
    let half = if magnitude < 113 << 23 {
        // Subnormal: adding a number whose last place is 2^-24 rounds to it.
        (f32::from_bits(magnitude) + 0.5).to_bits() - 0.5f32.to_bits()
    } else {
        let rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
        ((rounded - (112 << 23)) >> 13).min(0x7c00)
    };
    sign | half as u16
}

#[cfg(test)]
mod tests {
    use model::dtype::Dtype;

    use super::*;

    #[test]
    fn blocks_say_the_same_numbers_to_eleven_bits() {
        let mut seed = 1u32;
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        for _ in 0..200 {
            let mut block: [u8; BLOCK_BYTES] = std::array::from_fn(|_| next());
            // Units of some 0.001 to 0.1.
            (block[1], block[3]) = (0x14 | block[1] & 7, 0x14 | block[3] & 7);
            let mut out = [0; OUT_BYTES];
            to_q4_1(&block, &mut out);
            assert!(is_finite(&out));
            let (mut wanted, mut got) = ([0.0; 256], [0.0; 256]);
            Dtype::Q4K.dequantise(&block, &mut wanted);
            Dtype::Q4_1.dequantise(&out, &mut got);
            for (block, (wanted, got)) in wanted.chunks(32).zip(got.chunks(32)).enumerate() {
                let half = |at| from_half(u16::from_le_bytes([out[at], out[at + 1]]));
                let most = 15.0 * half(20 * block).abs() + half(20 * block + 2).abs();
                for (wanted, got) in wanted.iter().zip(got) {
                    assert!(
                        (wanted - got).abs() <= most / 1900.0,
                        "{wanted} {got} {most}"
                    );
                }
            }
        }
    }

    #[test]
    fn halves_are_rounded_to_the_nearest() {
        for (value, half) in [
            (1.0, 0x3c00),
            (-2.0, 0xc000),
            (65504.0, 0x7bff),
            (1e6, 0x7c00),
        ] {
            assert_eq!(to_half(value), half);
        }
        for half in (0..0x7c00).step_by(3) {
            assert_eq!(to_half(from_half(half)), half);
        }
        assert!(!is_finite(&[
            0, 0x7c, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
        ]));
    }
}
