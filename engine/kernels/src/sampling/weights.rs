//! Weights: what a token's probability is in proportion to, as a whole number, so that sums are exact and in any order.

use super::number::exp;
use crate::oblivious::wide::{Block, Pass, Wide};

/// The weight of the likeliest token. A token that is 2^31 times less likely has none.
pub const ONE: u32 = 1 << 30;

/// The pass: `ONE * e^((score - top) / temperature)`, rounded, for every lane.
pub struct Weigh<'a> {
    pub scores: &'a [Block<f32>],
    pub top: f32,
    pub temperature: f32,
    pub out: &'a mut [Block<u32>],
}

impl Pass for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let inverse = W::splat_float(self.temperature.recip());
        for (scores, out) in self.scores.iter().zip(self.out) {
            let below = W::sub_floats(W::load_floats(&scores.0), W::splat_float(self.top));
            let power = exp::<W>(W::mul_floats(below, inverse));
            let weight = W::mul_floats(power, W::splat_float(ONE as f32));
            let weight = W::truncate(W::add_floats(weight, W::splat_float(0.5)));
            W::store(weight, &mut out.0);
        }
    }
}

/// A sum of weights of each lane: modulo 2^32, and of their upper halves.
pub struct Mass<W: Wide> {
    sum: W::Ints,
    high: W::Ints,
}

impl<W: Wide> Mass<W> {
    /// Nothing.
    #[inline(always)]
    pub fn zero() -> Self {
        Mass {
            sum: W::splat(0),
            high: W::splat(0),
        }
    }

    /// Sixteen more, each of one weight or the sum of up to three. The lower halves of 65,536 of them, which are 2^20 tokens, are
    /// less than 2^32 together.
    #[inline(always)]
    pub fn add(&mut self, weights: W::Ints) {
        self.sum = W::add(self.sum, weights);
        self.high = W::add(self.high, W::shift_right::<16>(weights));
    }

    /// Of all lanes.
    #[inline(always)]
    pub fn total(self) -> u64 {
        let low = W::sub(self.sum, W::shift_left::<16>(self.high));
        sum::<W>(low) + (sum::<W>(self.high) << 16)
    }
}

/// All lanes together.
#[inline(always)]
pub fn sum<W: Wide>(lanes: W::Ints) -> u64 {
    W::lanes(lanes).into_iter().map(u64::from).sum()
}
