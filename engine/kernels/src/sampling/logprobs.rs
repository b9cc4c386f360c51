//! Log probabilities: of the chosen token and of the likeliest ones, as the model says them before any option.

use super::number::{exp, ln};
use crate::Path;
use crate::oblivious::argmax::{Best, Race, blocks, key, last};
use crate::oblivious::wide::{Block, LANES, Pass, Wide, pass};

/// How many vectors are summed in single precision before their sum is added in double.
const SUMMED: usize = 64;
/// Vectors of a run, in each lane of which the best is found first.
const RUN: usize = 8;
type Run = [[f32; LANES]; RUN];
/// The places in a run.
static PLACES: [[u32; LANES]; RUN] = {
    let (mut places, mut place) = ([[0; LANES]; RUN], 0);
    while place < RUN * LANES {
        places[place / LANES][place % LANES] = place as u32;
        place += 1;
    }
    places
};

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
        let count = count.min(scores.len());
        // What fills up the last run has the highest numbers and is nowhere before a token.
        let mut runs = vec![[[f32::MIN; LANES]; RUN]; scores.len().div_ceil(RUN * LANES)];
        runs.as_flattened_mut().as_flattened_mut()[..scores.len()].copy_from_slice(scores);
        let bests = pass(path, Bests(&runs));
        let top = in_order(path, &bests, 1)[0].score();
        let (powers, chosen) = pass(path, Normalise { scores, top, token });
        // `powers` is from 1 to 2^20, so single precision loses nothing that the result could show.
        let total = top + pass(path, Logarithm(powers as f32));
        // All of these are before any token of the other lanes of other runs. A run that is fetched twice changes nothing.
        let bests = in_order(path, &bests, count.min(LANES * runs.len()));
        let mut candidates = Vec::with_capacity(RUN * bests.len());
        for best in bests {
            candidates.extend(pass(path, Fetch(&runs, best.index / (RUN * LANES) as u32)));
        }
        let top = in_order(path, &candidates, count).into_iter();
        Logprobs {
            top: top.map(|best| (best.index, best.score() - total)).collect(),
            chosen: chosen - total,
        }
    }
}

/// Sixteen tokens, and their scores as keys.
struct Candidates(Block<u32>, Block<u32>);

impl Candidates {
    const NONE: Self = Candidates(Block([0; LANES]), Block([0; LANES]));
}

/// The first `count` in order of score, then number.
fn in_order(path: Path, candidates: &[Candidates], count: usize) -> Vec<Best> {
    let mut last = Best {
        key: i32::MAX,
        index: u32::MAX,
    };
    let next = |_| {
        last = pass(path, Next { candidates, last });
        last
    };
    (0..count).map(next).collect()
}

/// The best after `last`.
struct Next<'a> {
    candidates: &'a [Candidates],
    last: Best,
}

impl Pass for Next<'_> {
    type Output = Best;

    #[inline(always)]
    fn run<W: Wide>(self) -> Best {
        let (last_key, last_at) = (W::splat(self.last.key as u32), W::splat(self.last.index));
        let mut race = Race::<W>::new();
        for Candidates(numbers, keys) in self.candidates {
            let (at, keys) = (W::load(&numbers.0), W::load(&keys.0));
            let tie = W::both(W::equal(keys, last_key), W::greater(at, last_at));
            let after = W::either(W::greater(last_key, keys), tie);
            race.run_unordered(W::select(after, keys, W::splat(i32::MIN as u32)), at);
        }
        race.best()
    }
}

/// The best of each lane of each run.
struct Bests<'a>(&'a [Run]);

impl Pass for Bests<'_> {
    type Output = Vec<Candidates>;

    #[inline(always)]
    fn run<W: Wide>(self) -> Vec<Candidates> {
        let mut bests = Vec::with_capacity(self.0.len());
        for (number, run) in self.0.iter().enumerate() {
            let mut race = Race::<W>::new();
            // Loaded: numbers that the optimiser knows are added from memory under the mask of what is better.
            for (scores, places) in run.iter().zip(&PLACES) {
                race.run(key::<W>(W::load_floats(scores)), W::load(places));
            }
            let mut best = Candidates::NONE;
            race.store(&mut best.0.0, &mut best.1.0);
            let first = W::splat((number * RUN * LANES) as u32);
            W::store(W::add(W::load(&best.0.0), first), &mut best.0.0);
            bests.push(best);
        }
        bests
    }
}

/// The tokens of one run, whose number is secret.
struct Fetch<'a>(&'a [Run], u32);

impl Pass for Fetch<'_> {
    type Output = [Candidates; RUN];

    #[inline(always)]
    fn run<W: Wide>(self) -> [Candidates; RUN] {
        let (wanted, one) = (W::splat(self.1), W::splat(1));
        let (mut number, mut found) = (W::splat(0), [W::splat(0); RUN]);
        for run in self.0 {
            let wanted = W::conceal(W::equal(number, wanted));
            for (found, scores) in found.iter_mut().zip(run) {
                let scores = W::bits(W::load_floats(scores));
                *found = W::or(*found, W::keep(wanted, scores));
            }
            number = W::add(number, one);
        }
        let mut at = W::add(W::count(), W::splat(self.1 * (RUN * LANES) as u32));
        let mut candidates = [const { Candidates::NONE }; RUN];
        for (Candidates(numbers, keys), found) in candidates.iter_mut().zip(found) {
            W::store(at, &mut numbers.0);
            W::store(key::<W>(W::floats(found)), &mut keys.0);
            at = W::add(at, W::splat(LANES as u32));
        }
        candidates
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
        for run in self.scores.chunks(SUMMED * LANES) {
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
