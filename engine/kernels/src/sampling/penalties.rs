//! How often each token occurred: a counter for every token of the vocabulary, all of which are looked at for each token.

use crate::Path;
use crate::oblivious::wide::{Block, LANES, Pass, Wide, pass};

/// The bit of a counter that says whether the token is in the prompt; the others count its places in the completion.
const IN_PROMPT: u32 = 1 << 31;

/// A counter for each token.
pub struct Occurrences(Vec<Block<u32>>);

impl Occurrences {
    /// Those of a prompt and no completion yet. Sixteen tokens of the prompt are looked for in one pass.
    pub fn new(path: Path, vocabulary: usize, prompt: &[u32]) -> Self {
        let mut counters = vec![Block([0; LANES]); vocabulary.div_ceil(LANES)];
        for tokens in prompt.chunks(LANES) {
            let mut wanted = [u32::MAX; LANES];
            for (lane, token) in wanted.iter_mut().zip(tokens) {
                *lane = *token;
            }
            pass(path, Mark(&mut counters, wanted));
        }
        Occurrences(counters)
    }

    /// Counts a token of the completion.
    pub fn count(&mut self, path: Path, token: u32) {
        pass(path, Count(&mut self.0, token));
    }

    /// The counters, sixteen in a block.
    pub fn counters(&self) -> &[Block<u32>] {
        &self.0
    }
}

/// What is taken off.
#[derive(Clone, Copy)]
pub struct Penalties {
    repetition: f32,
    presence: f32,
    frequency: f32,
}

impl Penalties {
    /// As [`super::Sampling`] says them.
    pub fn new(repetition: f32, presence: f32, frequency: f32) -> Self {
        Penalties {
            repetition,
            presence,
            frequency,
        }
    }

    /// The scores without the penalties of tokens with these counters.
    #[inline(always)]
    pub fn apply<W: Wide>(self, scores: W::Floats, counters: W::Ints) -> W::Floats {
        let (zero, bits) = (W::splat(0), W::bits(scores));
        let lower = W::select(
            W::greater(bits, zero),
            W::bits(W::div_floats(scores, W::splat_float(self.repetition))),
            W::bits(W::mul_floats(scores, W::splat_float(self.repetition))),
        );
        let repeated = W::select(W::equal(counters, zero), bits, lower);
        let count = W::and(counters, W::splat(!IN_PROMPT));
        let present = W::bits(W::splat_float(self.presence));
        let present = W::keep(W::greater(count, zero), present);
        let often = W::mul_floats(W::to_floats(count), W::splat_float(self.frequency));
        W::sub_floats(
            W::sub_floats(W::floats(repeated), often),
            W::floats(present),
        )
    }
}

struct Mark<'a>(&'a mut [Block<u32>], [u32; LANES]);

impl Pass for Mark<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let wanted = self.1.map(W::splat);
        let (mut at, bit) = (W::count(), W::splat(IN_PROMPT));
        for block in self.0 {
            let mut hit = W::equal(at, wanted[0]);
            for wanted in &wanted[1..] {
                hit = W::either(hit, W::equal(at, *wanted));
            }
            let counters = W::or(W::load(&block.0), W::keep(hit, bit));
            W::store(counters, &mut block.0);
            at = W::add(at, W::splat(LANES as u32));
        }
    }
}

struct Count<'a>(&'a mut [Block<u32>], u32);

impl Pass for Count<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Wide>(self) {
        let (mut at, wanted, one) = (W::count(), W::splat(self.1), W::splat(1));
        for block in self.0 {
            let hit = W::keep(W::equal(at, wanted), one);
            W::store(W::add(W::load(&block.0), hit), &mut block.0);
            at = W::add(at, W::splat(LANES as u32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_is_counted_where_it_is() {
        let prompt: Vec<u32> = (0..40).map(|n| n * 7 % 100).collect();
        for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
            let mut seen = Occurrences::new(path, 100, &prompt);
            for token in [0, 99, 99, 50] {
                seen.count(path, token);
            }
            let counters = seen.counters().iter().flat_map(|block| block.0);
            for (token, counter) in (0u32..100).zip(counters) {
                let in_prompt = if prompt.contains(&token) {
                    IN_PROMPT
                } else {
                    0
                };
                let times = [0, 99, 99, 50].iter().filter(|t| **t == token).count() as u32;
                assert_eq!(counter, in_prompt | times, "token {token}");
            }
        }
    }
}
