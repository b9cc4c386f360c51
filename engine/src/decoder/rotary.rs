//! Rotary positions: the cosines and sines of a row.
//!
//! The angle of a position is a product in single precision, as in PyTorch; its cosine and sine come from [`turn`] and not from the C
//! library, of which two machines may have two versions.

use model::decoder::Rope;

/// A rotation of the model's configuration, ready: pair `i` of a head turns by `position * frequencies[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rotation {
    /// One for each pair: half as many as a head is wide.
    pub frequencies: Vec<f32>,
    /// Both cosine and sine are multiplied by it: 1 except with YaRN.
    pub magnitude: f32,
}

impl Rotation {
    /// The rotation of heads of `width` numbers.
    pub fn new(rope: &Rope, width: usize) -> Self {
        let frequencies = rope.frequencies(width);
        Rotation {
            frequencies: frequencies.into_iter().map(|f| f as f32).collect(),
            magnitude: rope.attention_factor() as f32,
        }
    }

    /// Writes the cosines and sines of one position, as many as there are pairs.
    pub fn at(&self, position: u32, cosines: &mut [f32], sines: &mut [f32]) {
        let out = cosines.iter_mut().zip(sines);
        for (frequency, (cosine, sine)) in self.frequencies.iter().zip(out) {
            let (sin, cos) = turn(position as f32 * frequency);
            (*cosine, *sine) = (cos * self.magnitude, sin * self.magnitude);
        }
    }
}

/// Sine and cosine of a finite angle of at most some 10^8, each the nearest number of single precision but for rare ties: reduced by
/// quarter turns in two parts of pi / 2 (the first has 33 bits, so that its products are exact) and computed in double precision by
/// the polynomials of fdlibm (`k_sin.c`, `k_cos.c`). Only sums and products, so every machine has the same bits.
pub fn turn(angle: f32) -> (f32, f32) {
    let angle = f64::from(angle);
    let quarters = (angle * std::f64::consts::FRAC_2_PI).round();
    let x = angle - quarters * QUARTER_HIGH - quarters * QUARTER_LOW;
    let z = x * x;
    let sin = SIN.iter().rev().fold(0.0, |sum, c| sum * z + c);
    let cos = COS.iter().rev().fold(0.0, |sum, c| sum * z + c);
    let (sin, cos) = (x + x * z * sin, 1.0 - 0.5 * z + z * z * cos);
    let (sin, cos) = match (quarters as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    };
    (sin as f32, cos as f32)
}

const QUARTER_HIGH: f64 = 1.570_796_326_734_125_6;
const QUARTER_LOW: f64 = 6.077_100_506_506_192e-11;
const SIN: [f64; 6] = [
    -1.666_666_666_666_663_2e-1,
    8.333_333_333_322_49e-3,
    -1.984_126_982_985_795e-4,
    2.755_731_370_707_006_8e-6,
    -2.505_076_025_340_686_3e-8,
    1.589_690_995_211_55e-10,
];
const COS: [f64; 6] = [
    4.166_666_666_666_66e-2,
    -1.388_888_888_887_411e-3,
    2.480_158_728_947_673e-5,
    -2.755_731_435_139_066_3e-7,
    2.087_572_321_298_175e-9,
    -1.135_964_755_778_819_5e-11,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_and_cosines_are_those_of_double_precision() {
        let mut angle = 0.0f32;
        while angle < 2.0e6 {
            let (sin, cos) = turn(angle);
            let (wanted_sin, wanted_cos) = f64::from(angle).sin_cos();
            assert!((f64::from(sin) - wanted_sin).abs() < 6e-8, "{angle}");
            assert!((f64::from(cos) - wanted_cos).abs() < 6e-8, "{angle}");
            angle = angle * 1.003 + 0.013;
        }
        assert_eq!(turn(0.0), (0.0, 1.0));
    }
}
