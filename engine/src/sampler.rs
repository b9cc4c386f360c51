//! From scores to one token: temperature, nucleus, and a seeded counter for chance.
//!
//! Everything runs in single precision and in one fixed order (score descending, then token number ascending), so the
//! same scores and the same seed give the same token, and step `n` needs no state of the steps before it.

use model::limits;

use crate::error::RequestError;

/// How completion tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the best token; larger values flatten the choice. At most 2.
    pub temperature: f32,
    /// Only the best tokens whose probabilities together reach this are considered. Above 0, at most 1.
    pub top_p: f32,
    /// The seed of every chance in this completion.
    pub seed: u64,
    /// Completion tokens at most, the end token included.
    pub tokens_max: u32,
}

impl Sampling {
    /// Always the best token.
    pub fn greedy(tokens_max: u32) -> Self {
        Sampling {
            temperature: 0.0,
            top_p: 1.0,
            seed: 0,
            tokens_max,
        }
    }

    /// Refuses values out of bounds, NaN among them.
    pub fn check(&self) -> Result<(), RequestError> {
        if !(0.0..=2.0).contains(&self.temperature) {
            return Err(RequestError::Sampling("temperature"));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(RequestError::Sampling("top_p"));
        }
        if !(1..=limits::COMPLETION_TOKENS_MAX).contains(&self.tokens_max) {
            return Err(RequestError::Sampling("tokens_max"));
        }
        Ok(())
    }

    /// The token that completion step `step` takes, or `None` if `scores` is empty or holds a number that is not finite.
    pub fn choose(&self, scores: &[f32], step: u64) -> Option<u32> {
        if !scores.iter().all(|score| score.is_finite()) {
            return None;
        }
        if self.temperature == 0.0 {
            return best(scores);
        }
        let mut candidates: Vec<(u32, f32)> = (0u32..).zip(scores.iter().copied()).collect();
        candidates.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let top = candidates.first()?.1;
        for candidate in &mut candidates {
            candidate.1 = ((candidate.1 - top) / self.temperature).exp();
        }
        let total: f32 = candidates.iter().map(|candidate| candidate.1).sum();
        let nucleus = self.top_p * total;
        let mut mass = 0.0;
        let kept = candidates
            .iter()
            .take_while(|candidate| {
                let wanted = mass < nucleus;
                mass += candidate.1;
                wanted
            })
            .count()
            .max(1);
        let candidates = candidates.get(..kept)?;
        let mass: f32 = candidates.iter().map(|candidate| candidate.1).sum();
        let mut left = Chance::new(self.seed).unit(step) * mass;
        for (token, weight) in candidates {
            left -= weight;
            if left < 0.0 {
                return Some(*token);
            }
        }
        // Rounding can leave a crumb after the last candidate.
        candidates.last().map(|candidate| candidate.0)
    }
}

/// The highest score; among equals the lowest token.
fn best(scores: &[f32]) -> Option<u32> {
    let mut best: Option<(u32, f32)> = None;
    for (token, score) in (0u32..).zip(scores) {
        if best.is_none_or(|(_, top)| *score > top) {
            best = Some((token, *score));
        }
    }
    best.map(|(token, _)| token)
}

/// Numbers drawn by place, not in sequence: SplitMix64's mixing function over a seed and a counter. Not for secrets.
#[derive(Debug, Clone, Copy)]
struct Chance {
    seed: u64,
}

impl Chance {
    /// The numbers that belong to `seed`.
    fn new(seed: u64) -> Self {
        Chance { seed }
    }

    /// The 64 bits at `place`.
    fn bits(&self, place: u64) -> u64 {
        let step = place.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed.wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The number in `[0, 1)` at `place`, a multiple of 2^-24.
    fn unit(&self, place: u64) -> f32 {
        (self.bits(place) >> 40) as f32 / (1u64 << 24) as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCORES: [f32; 5] = [0.5, 2.0, 1.0, 2.0, -3.0];

    fn sampling(temperature: f32, top_p: f32, seed: u64) -> Sampling {
        Sampling {
            temperature,
            top_p,
            seed,
            tokens_max: 1,
        }
    }

    #[test]
    fn greedy_takes_the_best_token_and_the_lowest_among_equals() {
        assert_eq!(Sampling::greedy(1).choose(&SCORES, 0), Some(1));
        assert_eq!(sampling(0.0, 0.1, 9).choose(&SCORES, 7), Some(1));
    }

    #[test]
    fn a_small_nucleus_is_greedy() {
        for seed in 0..50 {
            assert_eq!(sampling(1.0, 1e-6, seed).choose(&SCORES, seed), Some(1));
        }
    }

    #[test]
    fn same_seed_and_step_give_the_same_token_and_frequencies_follow_the_scores() {
        let mut counts = [0u32; 5];
        for step in 0..20_000 {
            let token = sampling(1.0, 1.0, 3).choose(&SCORES, step);
            assert_eq!(token, sampling(1.0, 1.0, 3).choose(&SCORES, step));
            counts[token.expect("finite scores") as usize] += 1;
        }
        let total: f32 = SCORES.iter().map(|score| score.exp()).sum();
        for (count, score) in counts.iter().zip(SCORES) {
            let (seen, wanted) = (*count as f32 / 20_000.0, score.exp() / total);
            assert!((seen - wanted).abs() < 0.012, "{seen} instead of {wanted}");
        }
    }

    #[test]
    fn the_counter_gives_the_published_splitmix64_sequence() {
        // First outputs of the reference splitmix64.c for the seed 1234567.
        let chance = Chance::new(1_234_567);
        assert_eq!(chance.bits(0), 6_457_827_717_110_365_317);
        assert_eq!(chance.bits(1), 3_203_168_211_198_807_973);
    }

    #[test]
    fn no_token_comes_from_scores_that_are_not_finite() {
        assert_eq!(Sampling::greedy(1).choose(&[0.0, f32::NAN], 0), None);
        assert_eq!(sampling(1.0, 1.0, 0).choose(&[f32::INFINITY, 0.0], 0), None);
        assert_eq!(Sampling::greedy(1).choose(&[], 0), None);
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        let good = sampling(1.0, 1.0, 0);
        assert_eq!(good.check(), Ok(()));
        for (bad, what) in [
            (
                Sampling {
                    temperature: f32::NAN,
                    ..good
                },
                "temperature",
            ),
            (
                Sampling {
                    temperature: -0.1,
                    ..good
                },
                "temperature",
            ),
            (Sampling { top_p: 0.0, ..good }, "top_p"),
            (
                Sampling {
                    top_p: f32::NAN,
                    ..good
                },
                "top_p",
            ),
            (
                Sampling {
                    tokens_max: 0,
                    ..good
                },
                "tokens_max",
            ),
            (
                Sampling {
                    tokens_max: u32::MAX,
                    ..good
                },
                "tokens_max",
            ),
        ] {
            assert_eq!(bad.check(), Err(RequestError::Sampling(what)));
        }
    }
}
