//! A choice among all tokens as the best of scores and noise (Gumbel's): each token wins as often as its probability says, and
//! no sum over the vocabulary is needed first. So the best can be known as soon as the last score is.

use super::number::ln;
use crate::oblivious::argmax::{Best, Race, key};
use crate::oblivious::wide::{Block, LANES, Pass, Wide};

/// The noise of one step.
#[derive(Debug, Clone, Copy)]
pub struct Noise {
    inverse_temperature: f32,
    keys: [u32; 2],
}

impl Noise {
    /// From 64 random bits and the temperature.
    pub fn new(temperature: f32, bits: u64) -> Self {
        Noise {
            inverse_temperature: temperature.recip(),
            keys: [bits as u32, (bits >> 32) as u32],
        }
    }

    /// Scores at the temperature with noise, of the tokens with these numbers.
    #[inline(always)]
    pub fn add<W: Wide>(self, scores: W::Floats, at: W::Ints) -> W::Floats {
        let [low, high] = self.keys.map(W::splat);
        let mixed = W::mul(W::add(at, low), W::splat(0x9e37_79b9));
        let bits = mix::<W>(W::xor(mix::<W>(W::add(mixed, high)), low));
        let scaled = W::mul_floats(scores, W::splat_float(self.inverse_temperature));
        W::sub_floats(scaled, ln::<W>(exponential::<W>(bits)))
    }
}

/// Mixes 32 bits one to one. Source: C. Wellons, "Prospecting for hash functions", the best known with two multiplications.
#[inline(always)]
fn mix<W: Wide>(x: W::Ints) -> W::Ints {
    let x = W::mul(W::xor(x, W::shift_right::<16>(x)), W::splat(0x21f0_aaad));
    let x = W::mul(W::xor(x, W::shift_right::<15>(x)), W::splat(0xd35a_2d97));
    W::xor(x, W::shift_right::<15>(x))
}

/// -ln(1 - u) for u in (0, 1): exact where u is small, which is where a token of little probability wins.
#[inline(always)]
fn exponential<W: Wide>(bits: W::Ints) -> W::Floats {
    let one = W::splat_float(1.0);
    // 24 bits and a half: neither 0 nor 1.
    let high = W::to_floats(W::shift_right::<8>(bits));
    let low = W::to_floats(W::and(bits, W::splat(255)));
    let low = W::mul_floats(
        W::add_floats(low, W::splat_float(0.5)),
        W::splat_float(1.0 / 256.0),
    );
    let u = W::mul_floats(
        W::add_floats(high, low),
        W::splat_float(1.0 / (1u32 << 24) as f32),
    );
    // ln(1 - u) * u / (1 - (1 - u)) undoes the rounding of 1 - u (W. Kahan's method). The largest u rounds to 1.
    let rest = W::max_floats(W::sub_floats(one, u), W::splat_float(f32::EPSILON / 4.0));
    let lost = W::sub_floats(one, rest);
    let exact = W::div_floats(W::mul_floats(ln::<W>(rest), u), lost);
    let exact = W::mul_floats(exact, W::splat_float(-1.0));
    // Where 1 - u is 1, u is its own logarithm and 0 / 0 is not to be used.
    let zero = W::equal(W::bits(lost), W::splat(0));
    W::floats(W::select(zero, W::bits(u), W::bits(exact)))
}

/// The pass: the best of scores with noise.
pub struct Gumbel<'a> {
    pub scores: &'a [Block<f32>],
    pub noise: Noise,
}

impl Pass for Gumbel<'_> {
    type Output = Best;

    #[inline(always)]
    fn run<W: Wide>(self) -> Best {
        let (mut race, mut at) = (Race::<W>::new(), W::count());
        for scores in self.scores {
            let noisy = self.noise.add::<W>(W::load_floats(&scores.0), at);
            race.run(key::<W>(noisy), at);
            at = W::add(at, W::splat(LANES as u32));
        }
        race.best()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;
    use crate::oblivious::wide::pass;

    struct Exponential(u32);

    impl Pass for Exponential {
        type Output = [f32; LANES];

        fn run<W: Wide>(self) -> [f32; LANES] {
            let bits = W::add(W::splat(self.0), W::count());
            W::lanes(W::bits(exponential::<W>(bits))).map(f32::from_bits)
        }
    }

    #[test]
    fn the_noise_is_finite_and_exact_at_both_ends() {
        let middles = (0..1000u32).map(|n| n * 4_294_967);
        for start in middles.chain([0, 100, 1000, u32::MAX - 15]) {
            let all: Vec<_> = Path::ALL
                .into_iter()
                .filter(|path| path.is_here())
                .map(|path| pass(path, Exponential(start)))
                .collect();
            assert!(all.iter().all(|found| *found == all[0]));
            for (lane, found) in all[0].iter().enumerate() {
                let bits = start.wrapping_add(lane as u32);
                let exact = -(-(f64::from(bits) + 0.5) / 2f64.powi(32)).ln_1p();
                let error = f64::from(*found) / exact - 1.0;
                // A large number loses every race, however large it is; near u = 1 the rounding of 1 - u is all there is.
                let bound = if bits < 1 << 31 { 5e-7 } else { 0.25 };
                assert!(
                    *found > 0.0 && found.is_finite() && error.abs() < bound,
                    "{bits} {found} {exact}"
                );
            }
        }
    }
}
