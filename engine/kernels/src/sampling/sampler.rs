//! The sampler of one completion.

use super::adjust::Adjust;
use super::automaton::Place;
use super::chance::Chance;
use super::draw::{GROUP, draw};
use super::ends::Ends;
use super::gumbel::{Gumbel, Noise};
use super::logprobs::Logprobs;
use super::options::{Constraints, Sampling, SamplingError};
use super::penalties::{Occurrences, Penalties};
use super::threshold::Kept;
use super::weights::Weigh;
use crate::Path;
use crate::oblivious::argmax::{Best, argmax};
use crate::oblivious::mask::{declassify, equal, select};
use crate::oblivious::wide::{Block, LANES, pass};

/// Tokens of the largest vocabulary.
const VOCABULARY_MAX: usize = 1 << 20;

/// A chosen token.
#[derive(Debug, Clone, PartialEq)]
pub struct Choice {
    /// Which.
    pub token: u32,
    /// Its log probability and those of the likeliest, if they are asked for.
    pub logprobs: Option<Logprobs>,
    /// Whether it is an end token or the last one of a stop sequence. This is public.
    pub ends: bool,
}

/// Chooses the tokens of one completion. Its memory is a few numbers for each token of the vocabulary.
pub struct Sampler {
    path: Path,
    vocabulary: usize,
    sampling: Sampling,
    step: u64,
    bias: Vec<Block<f32>>,
    occurrences: Option<Occurrences>,
    place: Option<Place>,
    ends: Ends,
    scores: Vec<Block<f32>>,
    weights: Vec<Block<u32>>,
}

impl Sampler {
    /// Checks the options, and the constraints against a vocabulary of so many tokens. `prompt` is what repetition counts from
    /// the start.
    pub fn new(
        path: Path,
        vocabulary: usize,
        sampling: Sampling,
        constraints: Constraints<'_>,
        prompt: &[u32],
    ) -> Result<Self, SamplingError> {
        sampling.check()?;
        if !(1..=VOCABULARY_MAX).contains(&vocabulary) {
            return Err(SamplingError::Vocabulary(vocabulary));
        }
        if let Some(grammar) = constraints.grammar
            && grammar.vocabulary() != vocabulary
        {
            return Err(SamplingError::GrammarVocabulary {
                vocabulary,
                grammar: grammar.vocabulary(),
            });
        }
        let repetition = sampling.repetition != 1.0;
        let prompt = if repetition { prompt } else { &[] };
        let penalties = sampling.has_penalties();
        let drawn = !sampling.is_greedy() && !sampling.is_whole();
        let blocks = vocabulary.div_ceil(LANES);
        let groups = if drawn {
            blocks.next_multiple_of(GROUP)
        } else {
            0
        };
        Ok(Sampler {
            bias: dense(constraints.bias, vocabulary)?,
            occurrences: penalties.then(|| Occurrences::new(path, vocabulary, prompt)),
            place: { constraints.grammar }.map(|grammar| Place::new(path, grammar.clone())),
            ends: Ends::new(constraints.ends, constraints.stops)?,
            scores: vec![Block([0.0; LANES]); blocks],
            weights: vec![Block([0; LANES]); groups],
            path,
            vocabulary,
            sampling,
            step: 0,
        })
    }

    /// The next token. `scores` has one for each token of the vocabulary.
    pub fn choose(&mut self, scores: &[f32]) -> Result<Choice, SamplingError> {
        if scores.len() != self.vocabulary {
            return Err(SamplingError::Scores {
                expected: self.vocabulary,
                found: scores.len(),
            });
        }
        let (best, bad) = self.adjust(scores);
        if declassify(bad) {
            return Err(SamplingError::NotFinite);
        }
        let token = self.pick(best);
        Ok(self.take(scores, token))
    }

    /// Takes a token that a device chose by [`Rules`]. Log probabilities, where they are asked for, are those of `scores`.
    pub fn took(&mut self, token: u32, scores: &[f32]) -> Choice {
        self.take(scores, token)
    }

    /// What a device needs to choose the next token in this sampler's place.
    pub fn rules(&self) -> Rules<'_> {
        Rules(self)
    }

    /// Whether the token is always that of the best score as it comes, the lowest id among equals.
    pub fn takes_the_best(&self) -> bool {
        let plain = self.bias.is_empty() && self.occurrences.is_none() && self.place.is_none();
        plain && self.sampling.is_greedy()
    }

    fn adjust(&mut self, scores: &[f32]) -> (Best, u32) {
        if self.takes_the_best() {
            return argmax(self.path, scores);
        }
        let Sampling {
            repetition,
            presence,
            frequency,
            ..
        } = self.sampling;
        let penalties = Penalties::new(repetition, presence, frequency);
        let counters = self.occurrences.as_ref().map(Occurrences::counters);
        let adjust = Adjust {
            scores,
            bias: &self.bias,
            penalties: counters.map(|counters| (penalties, counters)),
            allowed: self.place.as_ref().map(Place::allowed),
            out: &mut self.scores,
        };
        pass(self.path, adjust)
    }

    /// The token for adjusted scores.
    fn pick(&mut self, best: Best) -> u32 {
        let (path, sampling) = (self.path, &self.sampling);
        if sampling.is_greedy() {
            return best.index;
        }
        let bits = Chance::new(sampling.seed).bits(self.step);
        if sampling.is_whole() {
            let noise = Noise::new(sampling.temperature, bits);
            let scores = &self.scores;
            return pass(path, Gumbel { scores, noise }).index;
        }
        let weigh = Weigh {
            scores: &self.scores,
            top: best.score(),
            temperature: sampling.temperature,
            out: &mut self.weights,
        };
        pass(path, weigh);
        let mut kept = match sampling.top_k {
            0 => Kept::ALL,
            count => Kept::top_k(path, &self.weights, count),
        };
        if sampling.top_p < 1.0 {
            kept = kept.top_p(path, &self.weights, sampling.top_p);
        }
        if sampling.min_p > 0.0 {
            kept = kept.min_p(sampling.min_p);
        }
        draw(path, &self.weights, kept, bits)
    }

    /// What follows from a token's choice.
    fn take(&mut self, scores: &[f32], token: u32) -> Choice {
        self.step += 1;
        if let Some(occurrences) = &mut self.occurrences {
            occurrences.count(self.path, token);
        }
        if let Some(place) = &mut self.place {
            place.push(self.path, token);
        }
        let count = self.sampling.logprobs.map(usize::from);
        Choice {
            token,
            logprobs: count.map(|count| Logprobs::new(self.path, scores, token, count)),
            ends: declassify(self.ends.push(token)),
        }
    }
}

/// How a sampler chooses, as numbers for each token of the vocabulary. What is absent changes no score.
#[derive(Clone, Copy)]
pub struct Rules<'a>(&'a Sampler);

impl Rules<'_> {
    /// The options.
    pub fn sampling(self) -> Sampling {
        self.0.sampling
    }

    /// Tokens chosen before: the place of its chance, and not the number of calls of [`Sampler::choose`] that failed.
    pub fn step(self) -> u64 {
        self.0.step
    }

    /// Whether anything is added to scores.
    pub fn has_bias(self) -> bool {
        !self.0.bias.is_empty()
    }

    /// What is added to scores, if anything is.
    pub fn bias(self) -> Option<Vec<f32>> {
        let numbers = self.0.bias.iter().flat_map(|block| block.0);
        let numbers: Vec<f32> = numbers.take(self.0.vocabulary).collect();
        (!numbers.is_empty()).then_some(numbers)
    }

    /// The counters of penalties, before this token: the highest bit for the prompt, the others how often in the completion.
    pub fn counters(self) -> Option<Vec<u32>> {
        let numbers = self.0.occurrences.as_ref()?.counters().iter();
        let numbers = numbers.flat_map(|block| block.0);
        Some(numbers.take(self.0.vocabulary).collect())
    }

    /// The class of each token in the grammar.
    pub fn classes(self) -> Option<Vec<u16>> {
        Some(self.0.place.as_ref()?.allowed().classes(self.0.vocabulary))
    }

    /// A bit for each class of tokens that may follow.
    pub fn allowed(self) -> Option<[u32; LANES]> {
        Some(self.0.place.as_ref()?.allowed().bits())
    }
}

/// A number for each token; none at all if there is no bias. Every token is compared with every pair.
fn dense(bias: &[(u32, f32)], vocabulary: usize) -> Result<Vec<Block<f32>>, SamplingError> {
    let mut bad = 0;
    for (_, value) in bias {
        // From -100 to 100, by the bits without the sign; so neither infinite nor NaN.
        let magnitude = value.to_bits() & 0x7fff_ffff;
        bad |= !crate::oblivious::mask::less(magnitude.into(), u64::from(100f32.to_bits()) + 1);
    }
    if declassify(bad) {
        return Err(SamplingError::OutOfRange("bias"));
    }
    if bias.is_empty() {
        return Ok(Vec::new());
    }
    let mut dense = vec![Block([0.0; LANES]); vocabulary.div_ceil(LANES)];
    for (number, slot) in (0u32..).zip(dense.iter_mut().flat_map(|block| &mut block.0)) {
        let bits = bias.iter().fold(0, |bits, (token, value)| {
            select(equal(*token, number), value.to_bits(), bits)
        });
        *slot = f32::from_bits(bits);
    }
    Ok(dense)
}
