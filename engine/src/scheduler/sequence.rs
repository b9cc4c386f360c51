//! A running job: what of it has been computed and what comes next.

use super::job::{Finish, Job, JobId};
use super::shares::{Pending, Share};
use crate::cache::{Cache, Lease};
use crate::forward::Row;
use kernels::sampling::Choice;

/// A running job.
pub(super) struct Sequence {
    pub(super) id: JobId,
    pub(super) job: Job,
    pub(super) lease: Lease,
    /// Positions whose keys and values are there.
    computed: usize,
    /// Tokens of the completion, and the last of them.
    made: usize,
    last: u32,
    /// Whether the last token's embedding was kept while its scores were computed.
    kept: bool,
}

impl Sequence {
    /// Begins behind what `lease` has of the prompt already.
    pub(super) fn start(id: JobId, job: Job, lease: Lease) -> Self {
        Sequence {
            id,
            made: 0,
            last: 0,
            kept: false,
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
        let (scored, keeps) = (share.scored, self.job.sampler.takes_the_best());
        (0..share.rows).map(move |offset| Row {
            sequence: slot,
            token: self.token(self.computed + offset),
            position: (self.computed + offset) as u32,
            scored: scored && offset == last,
            keeps: keeps && scored && offset == last,
            kept: self.kept,
        })
    }

    /// Of the completion only the last token has not been computed.
    fn token(&self, position: usize) -> u32 {
        self.job.prompt.get(position).copied().unwrap_or(self.last)
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

    /// Takes its next token: whether the completion ends with it.
    pub(super) fn took(&mut self, choice: &Choice) -> Option<Finish> {
        self.made += 1;
        self.last = choice.token;
        self.kept = self.job.sampler.takes_the_best();
        let full = self.made >= self.job.tokens_max as usize;
        match choice.ends {
            true => Some(Finish::Stop),
            false => full.then_some(Finish::Length),
        }
    }

    /// Positions computed, for tests of progress.
    #[cfg(test)]
    pub(super) fn progress(&self) -> usize {
        self.computed
    }
}
