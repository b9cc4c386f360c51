//! How tokens are chosen, checked.

use std::fmt;

use super::automaton::Automaton;

/// How completion tokens are chosen. [`Sampling::greedy`] is where to start from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 takes the best token; larger values flatten the choice. At most 2. Below 2^-14 it counts as 0.
    pub temperature: f32,
    /// Only so many of the likeliest tokens are considered; 0 for all.
    pub top_k: u32,
    /// Only the likeliest tokens whose probabilities together reach this are considered. Above 0, at most 1.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the likeliest are considered. From 0 to 1.
    pub min_p: f32,
    /// Divides the score of a token of prompt or completion if it is positive, else multiplies it. Above 0, at most 2; 1 for
    /// nothing.
    pub repetition: f32,
    /// Is subtracted from the score of a token of the completion. From -2 to 2.
    pub presence: f32,
    /// Is subtracted from the score of a token for each time it is in the completion. From -2 to 2.
    pub frequency: f32,
    /// The seed of every chance in this completion.
    pub seed: u64,
    /// Log probabilities of each token and of so many likeliest ones: 0, 5 or 20. They are the model's own, before any option.
    pub logprobs: Option<u8>,
    /// Completion tokens at most, the end token included.
    pub tokens_max: u32,
}

impl Sampling {
    /// Always the best token.
    pub fn greedy(tokens_max: u32) -> Self {
        Sampling {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition: 1.0,
            presence: 0.0,
            frequency: 0.0,
            seed: 0,
            logprobs: None,
            tokens_max,
        }
    }

    /// Refuses values out of bounds, NaN among them.
    pub fn check(&self) -> Result<(), SamplingError> {
        let penalty = -2.0..=2.0;
        let fields = [
            ("temperature", (0.0..=2.0).contains(&self.temperature)),
            ("top_p", self.top_p > 0.0 && self.top_p <= 1.0),
            ("min_p", (0.0..=1.0).contains(&self.min_p)),
            (
                "repetition",
                self.repetition > 0.0 && self.repetition <= 2.0,
            ),
            ("presence", penalty.contains(&self.presence)),
            ("frequency", penalty.contains(&self.frequency)),
            (
                "logprobs",
                [None, Some(0), Some(5), Some(20)].contains(&self.logprobs),
            ),
            ("tokens_max", self.tokens_max > 0),
        ];
        match fields.iter().find(|(_, good)| !good) {
            Some((field, _)) => Err(SamplingError::OutOfRange(field)),
            None => Ok(()),
        }
    }

    /// Whether the best token is always taken.
    pub fn is_greedy(&self) -> bool {
        self.temperature < 1.0 / 16384.0
    }

    /// Whether all tokens are considered, so that a choice is the best of scores and noise.
    pub fn is_whole(&self) -> bool {
        self.top_k == 0 && self.top_p == 1.0 && self.min_p == 0.0
    }

    /// Whether scores depend on the tokens of the completion.
    pub fn has_penalties(&self) -> bool {
        self.repetition != 1.0 || self.presence != 0.0 || self.frequency != 0.0
    }
}

/// What depends on tokens. The numbers of tokens are public, the tokens are not.
#[derive(Debug, Clone, Copy, Default)]
pub struct Constraints<'a> {
    /// What is added to the scores of tokens, of which each occurs once. A token outside of the vocabulary has no effect.
    pub bias: &'a [(u32, f32)],
    /// Tokens that end the completion.
    pub ends: &'a [u32],
    /// Sequences of 1 to 32 tokens that end the completion.
    pub stops: &'a [Vec<u32>],
    /// Which token may follow which.
    pub grammar: Option<&'a Automaton>,
}

/// Why a sampler cannot be made or no token be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingError {
    /// An option is out of the range that [`Sampling`] or [`Constraints`] says.
    OutOfRange(&'static str),
    /// The vocabulary has no tokens or more than 2^20.
    Vocabulary(usize),
    /// The grammar was made for a vocabulary of another size.
    GrammarVocabulary {
        /// The vocabulary's tokens.
        vocabulary: usize,
        /// The grammar's tokens.
        grammar: usize,
    },
    /// There are not as many scores as tokens in the vocabulary.
    Scores {
        /// The vocabulary's tokens.
        expected: usize,
        /// The scores.
        found: usize,
    },
    /// A score is infinite or not a number.
    NotFinite,
}

impl fmt::Display for SamplingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRange(option) => write!(f, "{option} is out of range"),
            Self::Vocabulary(size) => {
                write!(
                    f,
                    "a vocabulary of {size} tokens; 1 to 1048576 are supported"
                )
            }
            Self::GrammarVocabulary {
                vocabulary,
                grammar,
            } => {
                write!(
                    f,
                    "the grammar is for {grammar} tokens, the vocabulary has {vocabulary}"
                )
            }
            Self::Scores { expected, found } => {
                write!(f, "{found} scores for a vocabulary of {expected} tokens")
            }
            Self::NotFinite => write!(f, "a score is not finite"),
        }
    }
}

impl std::error::Error for SamplingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_out_of_bounds_are_refused() {
        let good = Sampling::greedy(1);
        assert_eq!(good.check(), Ok(()));
        type Change = fn(&mut Sampling);
        let bad: [(&str, Change); 19] = [
            ("temperature", |s| s.temperature = f32::NAN),
            ("temperature", |s| s.temperature = -0.1),
            ("temperature", |s| s.temperature = 2.1),
            ("top_p", |s| s.top_p = 0.0),
            ("top_p", |s| s.top_p = 1.5),
            ("top_p", |s| s.top_p = f32::NAN),
            ("min_p", |s| s.min_p = -0.1),
            ("min_p", |s| s.min_p = 1.1),
            ("min_p", |s| s.min_p = f32::NAN),
            ("repetition", |s| s.repetition = 0.0),
            ("repetition", |s| s.repetition = 2.1),
            ("repetition", |s| s.repetition = f32::NAN),
            ("presence", |s| s.presence = 2.1),
            ("presence", |s| s.presence = f32::NAN),
            ("frequency", |s| s.frequency = -2.1),
            ("frequency", |s| s.frequency = f32::INFINITY),
            ("logprobs", |s| s.logprobs = Some(1)),
            ("logprobs", |s| s.logprobs = Some(21)),
            ("tokens_max", |s| s.tokens_max = 0),
        ];
        for (field, change) in bad {
            let mut sampling = good;
            change(&mut sampling);
            assert_eq!(sampling.check(), Err(SamplingError::OutOfRange(field)));
        }
    }
}
