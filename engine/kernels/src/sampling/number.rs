//! Exponential and logarithm by polynomials: no table, no branch, and the same bits on every path.
//! Source: S. L. Moshier, Cephes Mathematical Library, `expf` and `logf`.

use crate::oblivious::wide::Wide;

/// e to the power of each, which is at most 0; below -87 it is nearly 0. The error is below two units of the last place.
#[inline(always)]
pub fn exp<W: Wide>(x: W::Floats) -> W::Floats {
    let x = W::max_floats(x, W::splat_float(-87.0));
    // Adding 1.5 * 2^23 rounds to a whole number, which is then in the low bits.
    let round = W::splat_float(12_582_912.0);
    let scaled = W::add_floats(
        W::mul_floats(x, W::splat_float(std::f32::consts::LOG2_E)),
        round,
    );
    let whole = W::sub_floats(scaled, round);
    let rest = W::sub_floats(x, W::mul_floats(whole, W::splat_float(0.693_359_4)));
    let rest = W::sub_floats(rest, W::mul_floats(whole, W::splat_float(-2.121_944_4e-4)));
    let tail = polynomial::<W>(
        rest,
        &[
            1.987_569_1e-4,
            1.398_2e-3,
            8.333_452e-3,
            4.166_579_6e-2,
            0.166_666_65,
            0.5,
        ],
    );
    let tail = W::mul_floats(tail, W::mul_floats(rest, rest));
    let power = W::add_floats(W::add_floats(tail, rest), W::splat_float(1.0));
    W::floats(W::add(W::bits(power), W::shift_left::<23>(W::bits(scaled))))
}

/// The natural logarithm of each, which is a positive normal number.
#[inline(always)]
pub fn ln<W: Wide>(x: W::Floats) -> W::Floats {
    let bits = W::bits(x);
    // The exponent for a mantissa between the roots of 1/2 and 2.
    let exponent = W::shift_right_signed::<23>(W::sub(bits, W::splat(0x3f35_04f3)));
    let mantissa = W::floats(W::sub(bits, W::shift_left::<23>(exponent)));
    let (f, e) = (
        W::sub_floats(mantissa, W::splat_float(1.0)),
        W::to_floats(exponent),
    );
    let square = W::mul_floats(f, f);
    let tail = polynomial::<W>(
        f,
        &[
            7.037_683_6e-2,
            -0.115_146_1,
            0.116_769_99,
            -0.124_201_41,
            0.142_493_23,
            -0.166_680_58,
            0.200_007_14,
            -0.249_999_94,
            0.333_333_3,
        ],
    );
    let tail = W::mul_floats(W::mul_floats(tail, f), square);
    let tail = W::add_floats(tail, W::mul_floats(e, W::splat_float(-2.121_944_4e-4)));
    let tail = W::sub_floats(tail, W::mul_floats(square, W::splat_float(0.5)));
    let sum = W::add_floats(f, tail);
    W::add_floats(sum, W::mul_floats(e, W::splat_float(0.693_359_4)))
}

/// The polynomial with these coefficients, the highest first.
#[inline(always)]
fn polynomial<W: Wide>(x: W::Floats, coefficients: &[f32]) -> W::Floats {
    let mut sum = W::splat_float(0.0);
    for coefficient in coefficients {
        sum = W::add_floats(W::mul_floats(sum, x), W::splat_float(*coefficient));
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;
    use crate::oblivious::wide::{LANES, Pass, pass};

    struct Both([f32; LANES]);

    impl Pass for Both {
        type Output = [[f32; LANES]; 2];

        fn run<W: Wide>(self) -> Self::Output {
            let x = W::load_floats(&self.0);
            let negative = W::mul_floats(x, W::splat_float(-1.0));
            [exp::<W>(negative), ln::<W>(x)].map(|y| W::lanes(W::bits(y)).map(f32::from_bits))
        }
    }

    #[test]
    fn they_are_as_exact_as_single_precision_allows_and_equal_on_every_path() {
        for step in 1u32..4000 {
            let x: [f32; LANES] = std::array::from_fn(|lane| {
                // From 2^-30 to 85.
                let exponent = (step * 16 + lane as u32) as f32 / 64000.0 * 36.4 - 30.0;
                exponent.exp2()
            });
            let here = Path::ALL.into_iter().filter(|path| path.is_here());
            let all: Vec<_> = here.map(|path| pass(path, Both(x))).collect();
            assert!(all.iter().all(|results| *results == all[0]));
            let [powers, logarithms] = all[0];
            for ((x, power), logarithm) in x.into_iter().zip(powers).zip(logarithms) {
                let exact = (-f64::from(x)).exp();
                assert!((f64::from(power) / exact - 1.0).abs() < 2.5e-7, "exp(-{x})");
                let exact = f64::from(x).ln();
                let bound = 2e-7 * exact.abs().max(0.01);
                assert!((f64::from(logarithm) - exact).abs() < bound, "ln({x})");
            }
        }
    }
}
