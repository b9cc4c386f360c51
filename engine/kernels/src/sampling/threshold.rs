//! Which tokens are considered: the likeliest, whose least weight a bisection finds.

use super::weights::{Mass, ONE, sum};
use crate::Path;
use crate::oblivious::mask::{less, select, select_wide};
use crate::oblivious::wide::{Block, Pass, Wide, pass};

/// The considered tokens: those with more than the least weight, and so many of those with just the least, the lowest numbers
/// first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub least: u32,
    pub ties: u32,
}

impl Kept {
    /// Every token.
    pub const ALL: Kept = Kept {
        least: 0,
        ties: u32::MAX,
    };

    /// The weight of all of them.
    fn mass(self, path: Path, weights: &[Block<u32>]) -> u64 {
        mass(path, weights, self.least + 1) + u64::from(self.least) * u64::from(self.ties)
    }

    /// The `count` likeliest, `count` being at least 1. If there are not as many with any weight, all.
    pub fn top_k(path: Path, weights: &[Block<u32>], count: u32) -> Self {
        let count = u64::from(count);
        let least = largest(|least| !less(tokens(path, weights, least), count));
        let above = tokens(path, weights, least + 1);
        Kept {
            least,
            // By what `least` is, fewer than `count` are above it.
            ties: count.wrapping_sub(above) as u32,
        }
    }

    /// The likeliest of these whose weights together reach the share `top_p` of theirs.
    pub fn top_p(self, path: Path, weights: &[Block<u32>], top_p: f32) -> Self {
        let all = self.mass(path, weights);
        // A share of 32 binary digits; single precision has no more above 2^-8. The product has fewer than 90.
        let share = (f64::from(top_p) * (1u64 << 32) as f64) as u64;
        let nucleus = ((u128::from(all) * u128::from(share) + 0xffff_ffff) >> 32) as u64;
        let nucleus = select_wide(less(nucleus, 1), 1, nucleus);
        let least = largest(|least| !less(mass(path, weights, least), nucleus));
        let rest = nucleus - mass(path, weights, least + 1);
        // The fewest whose weight is not below the rest: a division that takes as long for all numbers.
        let mut ties = 0;
        for bit in (0..21).rev() {
            let more = ties + (1 << bit);
            let short = less(u64::from(more) * u64::from(least), rest);
            ties = select(short, more, ties);
        }
        Kept {
            least,
            ties: ties + 1,
        }
    }

    /// Those of these at least `min_p` times as likely as the likeliest.
    pub fn min_p(self, min_p: f32) -> Self {
        let least = (f64::from(min_p) * f64::from(ONE)).ceil() as u32;
        let raise = less(self.least.into(), least.into());
        Kept {
            least: select(raise, least, self.least),
            ties: select(raise, u32::MAX, self.ties),
        }
    }
}

/// The largest number up to [`ONE`] for which `holds` is all ones; it holds for all below that. 31 calls.
#[inline(always)]
fn largest(holds: impl Fn(u32) -> u32) -> u32 {
    let mut found = 0;
    for bit in (0..31).rev() {
        let tried = found | (1 << bit);
        found = select(holds(tried), tried, found);
    }
    found
}

/// How many weights are at least `least`, which is at least 1.
fn tokens(path: Path, weights: &[Block<u32>], least: u32) -> u64 {
    pass(path, Tokens(weights, least))
}

/// The sum of the weights that are at least `least`, which is at least 1.
fn mass(path: Path, weights: &[Block<u32>], least: u32) -> u64 {
    pass(path, Masses(weights, least))
}

struct Tokens<'a>(&'a [Block<u32>], u32);

impl Pass for Tokens<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<W: Wide>(self) -> u64 {
        let (below, one) = (W::splat(self.1 - 1), W::splat(1));
        let mut count = W::splat(0);
        for block in self.0 {
            let enough = W::greater(W::load(&block.0), below);
            count = W::add(count, W::keep(enough, one));
        }
        sum::<W>(count)
    }
}

struct Masses<'a>(&'a [Block<u32>], u32);

impl Pass for Masses<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<W: Wide>(self) -> u64 {
        let (below, mut mass) = (W::splat(self.1 - 1), Mass::<W>::zero());
        let (threes, rest) = self.0.as_chunks::<3>();
        for [a, b, c] in threes {
            let two = W::add(above::<W>(a, below), above::<W>(b, below));
            mass.add(W::add(two, above::<W>(c, below)));
        }
        for block in rest {
            mass.add(above::<W>(block, below));
        }
        mass.total()
    }
}

/// The weights above `below`.
#[inline(always)]
fn above<W: Wide>(block: &Block<u32>, below: W::Ints) -> W::Ints {
    let weights = W::load(&block.0);
    W::keep(W::greater(weights, below), weights)
}
