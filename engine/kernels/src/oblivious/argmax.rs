//! The best of many scores, the lowest number among equals.

use super::mask::{equal, greater_signed, less, select};
use super::wide::{LANES, Pass, Wide, pass};
use crate::Path;

/// The best so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Best {
    /// Its score as [`key`] orders it.
    pub key: i32,
    /// Its number.
    pub index: u32,
}

impl Best {
    /// Worse than any score.
    pub const NONE: Best = Best {
        key: i32::MIN,
        index: u32::MAX,
    };

    /// The score that the key stands for.
    #[inline(always)]
    pub fn score(self) -> f32 {
        f32::from_bits(self.key as u32 ^ ((self.key >> 31) as u32 >> 1))
    }

    /// All ones if this one is better than `other`, else zeros.
    #[inline(always)]
    pub fn beats(self, other: Best) -> u32 {
        let tie = equal(self.key as u32, other.key as u32);
        greater_signed(self.key, other.key) | (tie & less(self.index.into(), other.index.into()))
    }

    /// The better of the two.
    #[inline(always)]
    pub fn or(self, other: Best) -> Best {
        let better = other.beats(self);
        Best {
            key: select(better, other.key as u32, self.key as u32) as i32,
            index: select(better, other.index, self.index),
        }
    }
}

/// Bits whose signed order is the order of the numbers. Both zeros have one key.
#[inline(always)]
pub fn key<W: Wide>(score: W::Floats) -> W::Ints {
    let bits = W::bits(W::add_floats(score, W::splat_float(0.0)));
    W::xor(bits, W::shift_right::<1>(W::shift_right_signed::<31>(bits)))
}

/// All ones in lanes that are infinite or not a number. [`not_finite`] makes a mask of the lanes of many.
#[inline(always)]
pub fn exponent<W: Wide>(score: W::Floats) -> W::Mask {
    let ones = W::splat(0x7f80_0000);
    W::equal(W::and(W::bits(score), ones), ones)
}

/// The best of sixteen lanes, over many blocks.
pub struct Race<W: Wide> {
    keys: W::Ints,
    at: W::Ints,
}

impl<W: Wide> Race<W> {
    /// Nobody runs yet.
    #[inline(always)]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Race {
            keys: W::splat(i32::MIN as u32),
            at: W::splat(u32::MAX),
        }
    }

    /// Sixteen more, with their numbers, which grow from call to call.
    #[inline(always)]
    pub fn run(&mut self, keys: W::Ints, at: W::Ints) {
        let better = W::greater(keys, self.keys);
        self.keys = W::select(better, keys, self.keys);
        self.at = W::select(better, at, self.at);
    }

    /// The same with numbers in any order.
    #[inline(always)]
    pub fn run_unordered(&mut self, keys: W::Ints, at: W::Ints) {
        let tie = W::both(W::equal(keys, self.keys), W::greater(self.at, at));
        let better = W::either(W::greater(keys, self.keys), tie);
        self.keys = W::select(better, keys, self.keys);
        self.at = W::select(better, at, self.at);
    }

    /// The best of each lane.
    #[inline(always)]
    pub fn store(self, at: &mut [u32; LANES], keys: &mut [u32; LANES]) {
        W::store(self.at, at);
        W::store(self.keys, keys);
    }

    /// The best of all lanes.
    #[inline(always)]
    pub fn best(self) -> Best {
        let lanes = W::lanes(self.keys).into_iter().zip(W::lanes(self.at));
        lanes.fold(Best::NONE, |best, (key, index)| {
            best.or(Best {
                key: key as i32,
                index,
            })
        })
    }
}

/// The best of `scores`, and all ones if one of them is infinite or not a number, else zeros.
pub fn argmax(path: Path, scores: &[f32]) -> (Best, u32) {
    pass(path, Argmax(scores))
}

struct Argmax<'a>(&'a [f32]);

impl Pass for Argmax<'_> {
    type Output = (Best, u32);

    #[inline(always)]
    fn run<W: Wide>(self) -> (Best, u32) {
        let (mut race, mut bad) = (Race::<W>::new(), W::splat(0));
        let mut at = W::count();
        for scores in blocks(self.0, &last(self.0, f32::MIN)) {
            let scores = W::load_floats(scores);
            race.run(key::<W>(scores), at);
            bad = W::or(bad, W::keep(exponent::<W>(scores), W::splat(u32::MAX)));
            at = W::add(at, W::splat(LANES as u32));
        }
        (race.best(), any::<W>(bad))
    }
}

/// All lanes, by or.
#[inline(always)]
pub fn any<W: Wide>(lanes: W::Ints) -> u32 {
    W::lanes(lanes).into_iter().fold(0, |any, lane| any | lane)
}

/// What is not a whole block at the end of `values`, filled up with `fill`.
#[inline(always)]
pub fn last(values: &[f32], fill: f32) -> [f32; LANES] {
    let mut block = [fill; LANES];
    for (lane, value) in block.iter_mut().zip(values.as_chunks::<LANES>().1) {
        *lane = *value;
    }
    block
}

/// Sixteen of `values` at a time, and what [`last`] makes of the rest. No closure: one would be compiled without the path's
/// instructions.
#[inline(always)]
pub fn blocks<'a>(
    values: &'a [f32],
    last: &'a [f32; LANES],
) -> impl Iterator<Item = &'a [f32; LANES]> {
    let (whole, rest) = values.as_chunks::<LANES>();
    let last = std::slice::from_ref(last);
    let last = if rest.is_empty() { &last[..0] } else { last };
    whole.iter().chain(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(scores: &[f32], expected: Option<u32>) {
        for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
            let (best, bad) = argmax(path, scores);
            let found = (bad == 0).then_some(best.index);
            assert_eq!(found, expected, "{path:?} {scores:?}");
            if let Some(index) = expected {
                assert_eq!(best.score(), scores[index as usize]);
            }
        }
    }

    #[test]
    fn the_best_wins_and_the_lowest_number_among_equals() {
        check(&[0.5, 2.0, 1.0, 2.0, -3.0], Some(1));
        check(&[-0.0, 0.0], Some(0));
        check(&[0.0, -0.0], Some(0));
        check(&[-5.0, -4.0, -4.5], Some(1));
        check(&[f32::MIN, f32::MIN], Some(0));
        let long: Vec<f32> = (0..1001u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as f32)
            .collect();
        for length in [15, 16, 17, 32, 100, 1001] {
            let mut scores = long[..length].to_vec();
            let top = scores.iter().copied().fold(f32::MIN, f32::max);
            let first = scores.iter().position(|score| *score == top).unwrap();
            check(&scores, Some(first as u32));
            // The same score once more, behind it: the first still wins.
            scores.push(top);
            check(&scores, Some(first as u32));
        }
    }

    #[test]
    fn what_is_not_finite_is_seen_wherever_it_is() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 7, 16, 39] {
                let mut scores = [1.0; 40];
                scores[at] = bad;
                check(&scores, None);
            }
        }
    }
}
