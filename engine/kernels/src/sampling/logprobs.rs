//! Log probabilities: of the chosen token and of the likeliest ones, as the model says them before any option.

use super::number::{exp, ln};
use crate::Path;
use crate::oblivious::argmax::{Best, Race, blocks, key, last};
use crate::oblivious::wide::{LANES, Pass, Wide, pass};

/// How many vectors are summed in single precision before their sum is added in double.
const RUN: usize = 64;

/// Log probabilities at one token's place.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Of the chosen token.
    pub chosen: f32,
    /// The likeliest tokens, the likeliest first; the lower number among equals.
    pub top: Vec<(u32, f32)>,
}

impl Logprobs {
    /// Those of `token` and of `count` likeliest tokens. `scores` are finite.
    pub fn new(path: Path, scores: &[f32], token: u32, count: usize) -> Self {
        let before_all = Best {
            key: i32::MAX,
            index: u32::MAX,
        };
        let mut last = before_all;
        let next = |last| pass(path, Next { scores, last });
        let top = next(last).score();
        let (powers, chosen) = pass(path, Normalise { scores, top, token });
        // `powers` is from 1 to 2^20, so single precision loses nothing that the result could show.
        let total = top + pass(path, Logarithm(powers as f32));
        let top = (0..count.min(scores.len())).map(|_| {
            last = next(last);
            (last.index, last.score() - total)
        });
        Logprobs {
            top: top.collect(),
            chosen: chosen - total,
        }
    }
}

/// The best token after `last` in order of score, then number.
struct Next<'a> {
    scores: &'a [f32],
    last: Best,
}

impl Pass for Next<'_> {
    type Output = Best;

    #[inline(always)]
    fn run<W: Wide>(self) -> Best {
        let (last_key, last_at) = (W::splat(self.last.key as u32), W::splat(self.last.index));
        let (mut race, mut at) = (Race::<W>::new(), W::count());
        for scores in blocks(self.scores, &last(self.scores, f32::MIN)) {
            let keys = key::<W>(W::load_floats(scores));
            let tie = W::both(W::equal(keys, last_key), W::greater(at, last_at));
            let after = W::either(W::greater(last_key, keys), tie);
            race.run(W::select(after, keys, W::splat(i32::MIN as u32)), at);
            at = W::add(at, W::splat(LANES as u32));
        }
        race.best()
    }
}

/// The sum of `e^(score - top)`, and the score of `token`.
struct Normalise<'a> {
    scores: &'a [f32],
    top: f32,
    token: u32,
}

impl Pass for Normalise<'_> {
    type Output = (f64, f32);

    #[inline(always)]
    fn run<W: Wide>(self) -> (f64, f32) {
        let (top, token) = (W::splat_float(self.top), W::splat(self.token));
        let (mut total, mut chosen, mut at) = (0.0, W::splat(0), W::count());
        for run in self.scores.chunks(RUN * LANES) {
            let mut powers = W::splat_float(0.0);
            for scores in blocks(run, &last(run, f32::MIN)) {
                let scores = W::load_floats(scores);
                powers = W::add_floats(powers, exp::<W>(W::sub_floats(scores, top)));
                chosen = W::or(chosen, W::keep(W::equal(at, token), W::bits(scores)));
                at = W::add(at, W::splat(LANES as u32));
            }
            let lanes = W::lanes(W::bits(powers)).map(|bits| f64::from(f32::from_bits(bits)));
            total += lanes.iter().sum::<f64>();
        }
        let chosen = W::lanes(chosen).into_iter().fold(0, |all, lane| all | lane);
        (total, f32::from_bits(chosen))
    }
}

struct Logarithm(f32);

impl Pass for Logarithm {
    type Output = f32;

    #[inline(always)]
    fn run<W: Wide>(self) -> f32 {
        let [first, ..] = W::lanes(W::bits(ln::<W>(W::splat_float(self.0))));
        f32::from_bits(first)
    }
}
