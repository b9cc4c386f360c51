//! A job and what becomes of it.

use kernels::Path;
use kernels::oblivious::mask::declassify;
use kernels::sampling::{Constraints, Logprobs, Sampler, Sampling, SamplingError};

use model::Vocabulary;

use crate::cache::Prefix;
use crate::error::RequestError;

/// A prompt to continue. [`Tokens::job`] makes one.
pub struct Job {
    /// Its tokens, at least one.
    pub prompt: Vec<u32>,
    /// What chooses the completion's tokens.
    pub sampler: Sampler,
    /// Tokens of the completion at most, at least one.
    pub tokens_max: u32,
    /// A beginning of the prompt to reuse, or to keep.
    pub prefix: Option<Prefix>,
    /// When it must have ended, on the clock of whoever runs the steps.
    pub deadline_ms: Option<u64>,
}

/// A job's number, in the order of submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What a job is told. The last one is `Refused`, `Ended` or `Failed`.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// It runs from now on. So many tokens of its prompt need no computing.
    Started {
        /// Whole blocks of a held prefix.
        cached: u32,
    },
    /// The next token of the completion.
    Token {
        /// Which.
        token: u32,
        /// Log probabilities, if they are asked for.
        logprobs: Option<Logprobs>,
    },
    /// The completion has ended.
    Ended(Finish),
    /// It never ran.
    Refused(Refused),
    /// The computation failed.
    Failed,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// An end token or a stop sequence came.
    Stop,
    /// It has as many tokens as the job or the context allows.
    Length,
    /// Its time is over.
    Deadline,
    /// Nobody wants it any more.
    Cancelled,
}

/// Why a job never ran.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum Refused {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("it needs {wanted} blocks of keys and values; there are {all}")]
    TooLarge { wanted: usize, all: usize },
    #[error("{waiting_max} jobs wait already")]
    Busy { waiting_max: usize },
    #[error("its time was over before its turn came")]
    Late,
    #[error("it was cancelled before its turn came")]
    Cancelled,
    #[error("its prompt does not begin with the prefix that its handle names")]
    PrefixDiffers,
    #[error("it asks for what this model does not have")]
    Unfit,
    #[error("the engine has stopped")]
    Stopped,
}

/// What a model's tokens mean to whoever chooses them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// The instructions that look at scores; the choice is the same on each.
    pub path: Path,
    /// Ids below this are tokens; the rest of the scores is padding and never chosen.
    pub size: usize,
    /// Tokens that end a completion.
    pub ends: Vec<u32>,
    /// Tokens that no completion holds.
    pub forbidden: Vec<u32>,
}

impl Tokens {
    /// A model's, whose completions end with `ends` and hold no other special token but marks (`model::vocabulary::MARKS`).
    pub fn of(path: Path, vocabulary: &Vocabulary, ends: &[u32]) -> Self {
        let special = vocabulary.control().iter().copied();
        Tokens {
            path,
            size: vocabulary.size(),
            forbidden: special.filter(|token| !ends.contains(token)).collect(),
            ends: ends.to_vec(),
        }
    }

    /// A job without prefix and deadline. Its prompt is checked when it is submitted; of `constraints` the end tokens are set here.
    ///
    /// This takes memory and time in proportion to the vocabulary, with a repetition penalty also to the prompt, with biases also
    /// to their number: call it where nobody waits.
    pub fn job(
        &self,
        prompt: Vec<u32>,
        sampling: Sampling,
        constraints: Constraints<'_>,
    ) -> Result<Job, SamplingError> {
        let constraints = Constraints {
            ends: &self.ends,
            ..constraints
        };
        Ok(Job {
            sampler: Sampler::new(self.path, self.size, sampling, constraints, &prompt)?,
            tokens_max: sampling.tokens_max,
            prompt,
            prefix: None,
            deadline_ms: None,
        })
    }

    /// Whether all of these are tokens. Every id is compared, so that the time tells nothing of where a foreign one is.
    pub fn has(&self, ids: &[u32]) -> bool {
        let size = u32::try_from(self.size).unwrap_or(u32::MAX);
        // The borrow of `id - size` in the high half: set where the id is below the size.
        let below = |id: &u32| (u64::from(*id).wrapping_sub(u64::from(size))) >> 63;
        let all = ids.iter().fold(1, |all, id| all & below(id));
        !declassify(1 ^ all as u32)
    }
}

impl Job {
    /// Positions whose keys and values it needs at most: the last token of a completion is not read again.
    pub(super) fn positions(&self) -> usize {
        self.prompt.len() + self.tokens_max as usize - 1
    }

    pub(super) fn is_late(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_some_and(|deadline| deadline <= now_ms)
    }
}
