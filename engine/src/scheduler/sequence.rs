//! A running job: what of it has been computed and what comes next.

use super::job::{Finish, Job, JobId, Tokens};
use super::shares::{Pending, Share};
use crate::cache::{Cache, Lease};
use crate::forward::Row;

/// A running job.
pub(super) struct Sequence {
    pub(super) id: JobId,
    pub(super) job: Job,
    pub(super) lease: Lease,
    /// Positions whose keys and values are there.
    computed: usize,
    made: Vec<u32>,
}

impl Sequence {
    /// Begins behind what `lease` has of the prompt already.
    pub(super) fn start(id: JobId, job: Job, lease: Lease) -> Self {
        Sequence {
            id,
            made: Vec::with_capacity(job.sampling.tokens_max.min(1024) as usize),
            computed: lease.cached_tokens(),
            job,
            lease,
        }
    }

    /// Rows that can be computed now.
    pub(super) fn pending(&self) -> Pending {
        match self.job.prompt.len().checked_sub(self.computed) {
            Some(rows) if rows > 0 => Pending::Prompt(rows),
            _ => Pending::Completion,
        }
    }

    /// The rows of a share.
    pub(super) fn rows(&self, share: &Share) -> impl Iterator<Item = Row> {
        let (slot, last) = (share.slot, share.rows - 1);
        let scored = share.scored;
        (0..share.rows).map(move |offset| Row {
            sequence: slot,
            token: self.token(self.computed + offset),
            position: (self.computed + offset) as u32,
            scored: scored && offset == last,
        })
    }

    fn token(&self, position: usize) -> u32 {
        match position.checked_sub(self.job.prompt.len()) {
            None => self.job.prompt[position],
            Some(made) => self.made[made],
        }
    }

    /// So many rows more are there. When they reach the end of a prefix that is to be kept, its blocks are handed over.
    pub(super) fn computed(&mut self, rows: usize, cache: &mut Cache, now_ms: u64) {
        let before = self.computed;
        self.computed += rows;
        if let Some(prefix) = &self.job.prefix {
            let end = prefix.tokens.min(self.job.prompt.len());
            if before < end && end <= self.computed {
                cache.hold(&mut self.lease, &self.job.prompt, prefix, now_ms);
            }
        }
    }

    /// The next token by its scores, or `None` if one of them is not finite.
    pub(super) fn choose(&self, scores: &mut [f32], tokens: &Tokens) -> Option<u32> {
        let scores = scores.get_mut(..tokens.size)?;
        for token in &tokens.forbidden {
            if let Some(score) = scores.get_mut(*token as usize) {
                *score = f32::MIN;
            }
        }
        self.job.sampling.choose(scores, self.made.len() as u64)
    }

    /// Adds a token and says whether the completion ends with it.
    pub(super) fn push(&mut self, token: u32, tokens: &Tokens) -> Option<Finish> {
        self.made.push(token);
        let ends = tokens
            .ends
            .iter()
            .fold(false, |any, end| any | (*end == token));
        if ends | ends_with(&self.made, &self.job.stops) {
            return Some(Finish::Stop);
        }
        (self.made.len() >= self.job.sampling.tokens_max as usize).then_some(Finish::Length)
    }

    /// Positions computed, for tests of progress.
    #[cfg(test)]
    pub(super) fn progress(&self) -> usize {
        self.computed
    }
}

/// Whether the tokens end with one of the sequences. All of each are compared: only whether they end shows.
fn ends_with(made: &[u32], stops: &[Vec<u32>]) -> bool {
    stops.iter().fold(false, |any, stop| {
        let tail = made.len().checked_sub(stop.len()).map(|at| &made[at..]);
        let differs = |tail: &[u32]| tail.iter().zip(stop).fold(0, |all, (a, b)| all | (a ^ b));
        any | tail.is_some_and(|tail| differs(tail) == 0)
    })
}
