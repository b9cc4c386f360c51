//! Which rows are computed next: completions of many jobs advance together over one [`Forward`].
//!
//! A [`Scheduler`] is a state machine without clock and threads: jobs, times and what computes are arguments. [`Driver`] is the
//! thread that runs one.
//!
//! ```text
//!  submit ─► waiting ─► running: its prompt in chunks, then a token in each step ─► Ended (or Failed)
//!     │         │ Refused: cancelled, late, or its prefix differs
//!     └ refused: out of bounds, larger than the memory, or too many wait
//! ```
//!
//! **Admission.** A job starts when a sequence and blocks for its prompt and its longest completion are free, so that no running
//! job ever waits for memory. Jobs start in the order in which they came: a large one is not overtaken.
//!
//! **A step** computes one row for each completion, then chunks of prompts in turn, until the budget of rows is spent. More
//! sequences than rows never run, so each completion advances in each step and each prompt within as many steps as there are
//! sequences. A cancelled or late job takes no part in the next step.
//!
//! **Promises.** A job's tokens are those that it would have alone, to the bit, because the rows of a [`Forward`] do not depend on
//! their neighbours. An error of the computation ends the jobs whose rows cause it, and no others. What waits and runs is bounded,
//! and so is the memory of it.

mod alone;
mod driver;
mod job;
mod sequence;
mod shares;

use std::collections::VecDeque;

use crate::cache::{Cache, CacheError};
use crate::error::RequestError;
use crate::forward::{BLOCK_TOKENS, BlockTable, Choosers, Forward, ForwardShape, Row};
pub use alone::complete;
pub use driver::{Driver, Listener, Steps, Submitted, Wake};
pub use job::{Event, Finish, Job, JobId, Refused, Tokens};
use kernels::sampling::{Choice, Sampler};
use sequence::Sequence;
use shares::{Share, shares};

/// How much is done at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that run.
    pub sequences_max: usize,
    /// Jobs that wait.
    pub waiting_max: usize,
    /// Rows of one step.
    pub rows_max: usize,
    /// Rows of prompts in a step in which completions advance, too: what a completion waits for.
    pub rows_mixed_max: usize,
    /// Rows of one prompt before the next one has its turn.
    pub chunk: usize,
    /// Prefixes that are held.
    pub prefixes_max: usize,
    /// How long one is held at most.
    pub prefix_life_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            sequences_max: 16,
            waiting_max: 64,
            rows_max: 512,
            rows_mixed_max: 64,
            chunk: 64,
            prefixes_max: 64,
            prefix_life_ms: 600_000,
        }
    }
}

/// The jobs of one model.
pub struct Scheduler {
    limits: Limits,
    shape: ForwardShape,
    tokens: Tokens,
    cache: Cache,
    waiting: VecDeque<(JobId, Job)>,
    /// By slot.
    running: Vec<Option<Sequence>>,
    /// Cancelled jobs that have not been told yet.
    cancelled: Vec<JobId>,
    /// The slot whose prompt has its turn.
    turn: usize,
    submitted: u64,
    // Used anew in each step.
    tables: Vec<BlockTable>,
    shares: Vec<Share>,
    rows: Vec<Row>,
    scores: Vec<f32>,
    choices: Vec<Option<Choice>>,
}

impl Scheduler {
    /// No jobs. `limits` are lowered to what `shape` allows.
    pub fn new(shape: ForwardShape, tokens: Tokens, mut limits: Limits) -> Self {
        limits.rows_max = limits.rows_max.min(shape.rows_max).max(1);
        // A row is left for a prompt when all other sequences complete.
        let sequences = (limits.rows_max - 1).min(shape.scored_max).max(1);
        limits.sequences_max = limits.sequences_max.clamp(1, sequences);
        limits.chunk = limits.chunk.max(1);
        Scheduler {
            limits,
            shape,
            tokens,
            cache: Cache::new(shape.blocks, limits.prefixes_max, limits.prefix_life_ms),
            waiting: VecDeque::new(),
            running: (0..limits.sequences_max).map(|_| None).collect(),
            cancelled: Vec::new(),
            turn: 0,
            submitted: 0,
            tables: vec![BlockTable::default(); limits.sequences_max],
            shares: Vec::new(),
            rows: Vec::new(),
            scores: Vec::new(),
            choices: Vec::new(),
        }
    }

    /// Takes a job to run when its turn comes, or says why it never will.
    pub fn submit(&mut self, mut job: Job) -> Result<JobId, Refused> {
        self.check(&job)?;
        let room = self.shape.context - job.prompt.len();
        job.tokens_max = job.tokens_max.clamp(1, room as u32);
        let (wanted, all) = (job.positions().div_ceil(BLOCK_TOKENS), self.cache.blocks());
        if wanted > all {
            return Err(Refused::TooLarge { wanted, all });
        }
        if self.waiting.len() >= self.limits.waiting_max {
            return Err(Refused::Busy {
                waiting_max: self.limits.waiting_max,
            });
        }
        let id = JobId(self.submitted);
        self.submitted += 1;
        self.waiting.push_back((id, job));
        Ok(id)
    }

    fn check(&self, job: &Job) -> Result<(), RequestError> {
        let (tokens, tokens_max) = (job.prompt.len(), self.shape.context.saturating_sub(1));
        match tokens {
            0 => return Err(RequestError::PromptEmpty),
            _ if tokens > tokens_max => {
                return Err(RequestError::PromptTooLong { tokens, tokens_max });
            }
            _ => {}
        }
        match self.tokens.has(&job.prompt) {
            true => Ok(()),
            false => Err(RequestError::TokenUnknown {
                vocabulary: self.tokens.size,
            }),
        }
    }

    /// The job ends before the next step. Nothing happens if it has ended.
    pub fn cancel(&mut self, id: JobId) {
        let waits = self.waiting.iter().any(|(other, _)| *other == id);
        let runs = self
            .running
            .iter()
            .flatten()
            .any(|running| running.id == id);
        if (waits || runs) && !self.cancelled.contains(&id) {
            self.cancelled.push(id);
        }
    }

    /// Whether there is nothing to do until a job comes.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.iter().all(Option::is_none)
    }

    /// One step: ends what is over, starts what fits, computes, and tells what came of it. Returns the rows computed.
    pub fn step(
        &mut self,
        forward: &mut dyn Forward,
        now_ms: u64,
        tell: &mut dyn FnMut(JobId, Event),
    ) -> usize {
        self.end_what_is_over(now_ms, tell);
        self.start_what_fits(now_ms, tell);
        self.plan();
        if !self.rows.is_empty() {
            self.compute(forward);
            self.take(now_ms, tell);
        }
        self.rows.len()
    }

    fn end_what_is_over(&mut self, now_ms: u64, tell: &mut dyn FnMut(JobId, Event)) {
        let cancelled = std::mem::take(&mut self.cancelled);
        self.waiting.retain(|(id, job)| {
            let refused = match (cancelled.contains(id), job.is_late(now_ms)) {
                (true, _) => Refused::Cancelled,
                (false, true) => Refused::Late,
                (false, false) => return true,
            };
            tell(*id, Event::Refused(refused));
            false
        });
        for slot in 0..self.running.len() {
            let Some(sequence) = &self.running[slot] else {
                continue;
            };
            match (
                cancelled.contains(&sequence.id),
                sequence.job.is_late(now_ms),
            ) {
                (true, _) => self.end(slot, Event::Ended(Finish::Cancelled), tell),
                (false, true) => self.end(slot, Event::Ended(Finish::Deadline), tell),
                (false, false) => {}
            }
        }
    }

    fn start_what_fits(&mut self, now_ms: u64, tell: &mut dyn FnMut(JobId, Event)) {
        while let Some(slot) = self.running.iter().position(Option::is_none) {
            let Some((_, job)) = self.waiting.front() else {
                return;
            };
            let lease = { &mut self.cache }.lease(
                job.positions(),
                &job.prompt,
                job.prefix.as_ref(),
                now_ms,
            );
            if matches!(lease, Err(CacheError::Full { .. })) {
                return;
            }
            let Some((id, job)) = self.waiting.pop_front() else {
                return;
            };
            match lease {
                Ok(lease) => {
                    let cached = lease.cached_tokens() as u32;
                    self.tables[slot].0.clone_from(&lease.table().0);
                    self.running[slot] = Some(Sequence::start(id, job, lease));
                    tell(id, Event::Started { cached });
                }
                Err(_) => tell(id, Event::Refused(Refused::PrefixDiffers)),
            }
        }
    }

    /// Decides the rows of this step.
    fn plan(&mut self) {
        let pending = self.running.iter().enumerate();
        let pending = pending.filter_map(|(slot, s)| Some((slot, s.as_ref()?.pending())));
        self.turn = shares(&self.limits, self.turn, pending, &mut self.shares);
        self.rows.clear();
        for share in &mut self.shares {
            let Some(sequence) = &self.running[share.slot] else {
                continue;
            };
            share.first = self.rows.len();
            share.scored = share.rows == sequence.pending().rows();
            self.rows.extend(sequence.rows(share));
        }
    }

    /// Computes the rows together, and each sequence's apart if that fails, so that it is known whose fault it is.
    fn compute(&mut self, forward: &mut dyn Forward) {
        let Self {
            shares,
            running,
            tokens,
            rows,
            tables,
            scores,
            choices,
            ..
        } = self;
        let scored = shares.iter().filter(|share| share.scored).count();
        let together = choosers(tokens, running, shares);
        let together = forward.choose(rows, tables, together, scores, choices);
        if together.is_ok() && choices.len() == scored {
            return;
        }
        let (mut chosen, mut alone) = (Vec::with_capacity(scored), Vec::new());
        for share in shares {
            let rows = &rows[share.first..share.first + share.rows];
            let chooser = choosers(tokens, running, std::slice::from_ref(share));
            let computed = forward.choose(rows, tables, chooser, scores, &mut alone);
            share.failed = computed.is_err() || alone.len() != usize::from(share.scored);
            if share.scored {
                chosen.push(alone.drain(..).next().flatten());
            }
        }
        *choices = chosen;
    }

    /// Takes what was computed: blocks that became a prefix, and a token for each sequence whose scores came.
    fn take(&mut self, now_ms: u64, tell: &mut dyn FnMut(JobId, Event)) {
        let mut choices = std::mem::take(&mut self.choices);
        let mut choices_of = choices.drain(..);
        for index in 0..self.shares.len() {
            let share = self.shares[index];
            let choice = if share.scored {
                choices_of.next()
            } else {
                None
            };
            let Some(sequence) = &mut self.running[share.slot] else {
                continue;
            };
            if share.failed {
                self.end(share.slot, Event::Failed, tell);
                continue;
            }
            sequence.computed(share.rows, &mut self.cache, now_ms);
            let Some(choice) = choice else { continue };
            let id = sequence.id;
            let Some(choice) = choice else {
                self.end(share.slot, Event::Failed, tell);
                continue;
            };
            let over = sequence.took(&choice);
            let (token, logprobs) = (choice.token, choice.logprobs);
            tell(id, Event::Token { token, logprobs });
            if let Some(finish) = over {
                self.end(share.slot, Event::Ended(finish), tell);
            }
        }
        drop(choices_of);
        self.choices = choices;
    }

    /// Its blocks are free before anybody knows.
    fn end(&mut self, slot: usize, event: Event, tell: &mut dyn FnMut(JobId, Event)) {
        if let Some(sequence) = self.running[slot].take() {
            self.tables[slot].0.clear();
            self.cache.release(sequence.lease);
            tell(sequence.id, event);
        }
    }
}

/// The samplers of the shares whose scores are wanted, in their order.
fn choosers<'a>(
    tokens: &'a Tokens,
    running: &'a mut [Option<Sequence>],
    shares: &[Share],
) -> Choosers<'a> {
    let mut samplers: Vec<Option<&mut Sampler>> = { running.iter_mut() }
        .map(|sequence| sequence.as_mut().map(|sequence| &mut sequence.job.sampler))
        .collect();
    let scored = shares.iter().filter(|share| share.scored);
    Choosers {
        size: tokens.size,
        forbidden: &tokens.forbidden,
        samplers: scored
            .filter_map(|share| samplers[share.slot].take())
            .collect(),
    }
}

#[cfg(test)]
mod tests;
