//! The types in which numbers of weights are stored, and what the bytes of a row mean.
//!
//! Sources: safetensors' `Dtype`; ggml's `ggml-common.h` (block layouts) and `ggml-quants.c` (`dequantize_row_*`). Everything is
//! little-endian. A row is whole blocks.

use std::fmt;

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// IEEE 754, 32 bits.
    F32,
    /// IEEE 754, 16 bits.
    F16,
    /// The upper half of an F32.
    Bf16,
    /// Blocks of 32: an F16 scale, 32 signed bytes.
    Q8_0,
    /// Blocks of 32: an F16 scale, 32 nibbles that count from -8.
    Q4_0,
    /// Blocks of 32: an F16 scale, an F16 minimum, 32 nibbles.
    Q4_1,
    /// Blocks of 256: an F16 scale and an F16 scale of minima, 8 six-bit pairs of both, 256 nibbles.
    Q4K,
    /// Blocks of 256: 256 six-bit numbers that count from -32, 16 signed scales, an F16 scale of those.
    Q6K,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Dtype; 8] = [
        Dtype::F32,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::Q8_0,
        Dtype::Q4_0,
        Dtype::Q4_1,
        Dtype::Q4K,
        Dtype::Q6K,
    ];

    /// Its name in GGUF; safetensors spells the first three alike.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::Q8_0 => "Q8_0",
            Dtype::Q4_0 => "Q4_0",
            Dtype::Q4_1 => "Q4_1",
            Dtype::Q4K => "Q4_K",
            Dtype::Q6K => "Q6_K",
        }
    }

    /// Numbers in a block.
    pub const fn block(self) -> usize {
        match self {
            Dtype::F32 | Dtype::F16 | Dtype::Bf16 => 1,
            Dtype::Q8_0 | Dtype::Q4_0 | Dtype::Q4_1 => 32,
            Dtype::Q4K | Dtype::Q6K => 256,
        }
    }

    /// Bytes of a block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::Q8_0 => 2 + 32,
            Dtype::Q4_0 => 2 + 16,
            Dtype::Q4_1 => 2 + 2 + 16,
            Dtype::Q4K => 2 + 2 + 12 + 128,
            Dtype::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Bytes of a row of so many numbers; `None` if it is not whole blocks.
    pub const fn row_bytes(self, columns: usize) -> Option<usize> {
        match columns.is_multiple_of(self.block()) {
            true => (columns / self.block()).checked_mul(self.block_bytes()),
            false => None,
        }
    }

    /// Whether all numbers of whole blocks are finite: none is stored as an infinity or NaN, scales included.
    pub fn is_finite(self, blocks: &[u8]) -> bool {
        let f16 =
            |block: &[u8], at: usize| { block.get(at + 1) }.is_some_and(|high| high & 0x7c != 0x7c);
        let mut all = blocks.chunks_exact(self.block_bytes());
        match self {
            Dtype::F32 => all.all(|n| n[3] & 0x7f != 0x7f || n[2] & 0x80 == 0),
            Dtype::Bf16 => all.all(|n| n[1] & 0x7f != 0x7f || n[0] & 0x80 == 0),
            Dtype::F16 | Dtype::Q8_0 | Dtype::Q4_0 => all.all(|block| f16(block, 0)),
            Dtype::Q4_1 | Dtype::Q4K => all.all(|block| f16(block, 0) && f16(block, 2)),
            Dtype::Q6K => all.all(|block| f16(block, 208)),
        }
    }

    /// The numbers of whole blocks. What does not fit the shorter of the two sides is left alone.
    pub fn dequantise(self, blocks: &[u8], out: &mut [f32]) {
        let pairs = blocks.chunks_exact(self.block_bytes());
        let pairs = pairs.zip(out.chunks_exact_mut(self.block()));
        match self {
            Dtype::F32 => {
                pairs.for_each(|(n, y)| y[0] = f32::from_le_bytes([n[0], n[1], n[2], n[3]]))
            }
            Dtype::F16 => pairs.for_each(|(n, y)| y[0] = f16(n[0], n[1])),
            Dtype::Bf16 => pairs.for_each(|(n, y)| y[0] = f32::from_le_bytes([0, 0, n[0], n[1]])),
            Dtype::Q8_0 => pairs.for_each(|(block, y)| q8_0(block, y)),
            Dtype::Q4_0 => pairs.for_each(|(block, y)| q4_0(block, y)),
            Dtype::Q4_1 => pairs.for_each(|(block, y)| q4_1(block, y)),
            Dtype::Q4K => pairs.for_each(|(block, y)| q4_k(block, y)),
            Dtype::Q6K => pairs.for_each(|(block, y)| q6_k(block, y)),
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// IEEE 754 binary16, exactly.
fn f16(low: u8, high: u8) -> f32 {
    let bits = u32::from(u16::from_le_bytes([low, high]));
    let (sign, exponent, fraction) = (bits >> 15 << 31, bits >> 10 & 31, bits & 1023);
    let magnitude = match exponent {
        // Subnormal: a multiple of 2^-24.
        0 => return f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        31 => 255 << 23 | fraction << 13,
        _ => (exponent + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// `block_q8_0 { ggml_half d; int8_t qs[32]; }`
fn q8_0(block: &[u8], y: &mut [f32]) {
    let d = f16(block[0], block[1]);
    for (y, q) in y.iter_mut().zip(&block[2..]) {
        *y = f32::from(*q as i8) * d;
    }
}

/// `block_q4_0 { ggml_half d; uint8_t qs[16]; }`; low nibbles come first.
fn q4_0(block: &[u8], y: &mut [f32]) {
    let d = f16(block[0], block[1]);
    let (low, high) = y.split_at_mut(16);
    for ((low, high), q) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = f32::from((q & 15) as i8 - 8) * d;
        *high = f32::from((q >> 4) as i8 - 8) * d;
    }
}

/// `block_q4_1 { ggml_half d; ggml_half m; uint8_t qs[16]; }`; low nibbles come first.
fn q4_1(block: &[u8], y: &mut [f32]) {
    let (d, m) = (f16(block[0], block[1]), f16(block[2], block[3]));
    let (low, high) = y.split_at_mut(16);
    for ((low, high), q) in low.iter_mut().zip(high).zip(&block[4..]) {
        *low = f32::from(q & 15) * d + m;
        *high = f32::from(q >> 4) * d + m;
    }
}

/// `block_q4_K { ggml_half d; ggml_half dmin; uint8_t scales[12]; uint8_t qs[128]; }`
fn q4_k(block: &[u8], y: &mut [f32]) {
    let (d, minimum) = (f16(block[0], block[1]), f16(block[2], block[3]));
    let (scales, numbers) = (&block[4..16], &block[16..]);
    // `get_scale_min_k4`
    let pair = |j: usize| match j < 4 {
        true => (scales[j] & 63, scales[j + 4] & 63),
        false => (
            (scales[j + 4] & 15) | (scales[j - 4] >> 6 << 4),
            (scales[j + 4] >> 4) | (scales[j] >> 6 << 4),
        ),
    };
    for (group, (y, q)) in y
        .chunks_exact_mut(64)
        .zip(numbers.chunks_exact(32))
        .enumerate()
    {
        let (low, high) = y.split_at_mut(32);
        for (half, (out, shift)) in [(low, 0), (high, 4)].into_iter().enumerate() {
            let (scale, min) = pair(2 * group + half);
            let (scale, min) = (d * f32::from(scale), minimum * f32::from(min));
            for (y, q) in out.iter_mut().zip(q) {
                *y = scale * f32::from(q >> shift & 15) - min;
            }
        }
    }
}

/// `block_q6_K { uint8_t ql[128]; uint8_t qh[64]; int8_t scales[16]; ggml_half d; }`
fn q6_k(block: &[u8], y: &mut [f32]) {
    let d = f16(block[208], block[209]);
    for (half, y) in y.chunks_exact_mut(128).enumerate() {
        let low = &block[64 * half..][..64];
        let high = &block[128 + 32 * half..][..32];
        let scales = &block[192 + 8 * half..][..8];
        for (quarter, y) in y.chunks_exact_mut(32).enumerate() {
            for (l, y) in y.iter_mut().enumerate() {
                let four = low[32 * (quarter % 2) + l] >> (4 * (quarter / 2)) & 15;
                let two = high[l] >> (2 * quarter) & 3;
                let q = (four | two << 4) as i8 - 32;
                let scale = scales[2 * quarter + l / 16] as i8;
                *y = d * f32::from(scale) * f32::from(q);
            }
        }
    }
}
