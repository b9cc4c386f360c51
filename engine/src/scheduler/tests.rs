//! A scheduler over a fake model that checks what it is asked: thousands of jobs in random schedules.

use super::*;
use crate::EngineError;
use crate::cache::Prefix;
use kernels::Path;
use kernels::sampling::{Constraints, Sampling};
use std::collections::HashMap;

const VOCABULARY: usize = 23;
const CONTEXT: usize = 400;
/// A token whose row cannot be computed.
const POISON: u32 = 20;

pub(super) fn tokens() -> Tokens {
    Tokens {
        path: Path::detect(),
        size: VOCABULARY - 2,
        ends: vec![0],
        forbidden: vec![1, 2, POISON],
    }
}

/// A model whose scores are a hash of all tokens so far, which it finds in blocks as a real one finds keys and values.
pub(super) struct Fake {
    shape: ForwardShape,
    /// The position and the token that were written at each place.
    blocks: Vec<[Option<(u32, u32)>; BLOCK_TOKENS]>,
}

impl Fake {
    pub(super) fn new(blocks: usize, scored_max: usize, rows_max: usize) -> Self {
        Fake {
            shape: ForwardShape {
                context: CONTEXT,
                vocabulary: VOCABULARY,
                kv_token_bytes: 8,
                blocks,
                rows_max,
                scored_max,
            },
            blocks: vec![[None; BLOCK_TOKENS]; blocks],
        }
    }

    fn check(&self, rows: &[Row], tables: &[BlockTable]) {
        assert!(!rows.is_empty() && rows.len() <= self.shape.rows_max);
        assert!(rows.iter().filter(|row| row.scored).count() <= self.shape.scored_max);
        let mut last = HashMap::new();
        for row in rows {
            let before = last.insert(row.sequence, row.position);
            assert!(before.is_none_or(|before| before + 1 == row.position));
            assert!((row.position as usize) < CONTEXT);
            let block = tables[row.sequence].0[row.position as usize / BLOCK_TOKENS];
            let shared = tables.iter().filter(|table| table.0.contains(&block));
            assert_eq!(shared.count(), 1, "a block that is written belongs to one");
        }
    }
}

impl Forward for Fake {
    fn shape(&self) -> &ForwardShape {
        &self.shape
    }

    fn forward(
        &mut self,
        rows: &[Row],
        tables: &[BlockTable],
        scores: &mut Vec<f32>,
    ) -> Result<(), EngineError> {
        self.check(rows, tables);
        scores.clear();
        if rows.iter().any(|row| row.token == POISON) {
            return Err(EngineError::Computation("poison"));
        }
        for row in rows {
            let place = |position: u32| {
                let position = position as usize;
                let block = tables[row.sequence].0[position / BLOCK_TOKENS];
                (block as usize, position % BLOCK_TOKENS)
            };
            let (block, offset) = place(row.position);
            self.blocks[block][offset] = Some((row.position, row.token));
            if row.scored {
                let history = (0..=row.position).map(|position| {
                    let (block, offset) = place(position);
                    let (written, token) = self.blocks[block][offset].expect("it was computed");
                    assert_eq!(written, position);
                    token
                });
                scores.extend(scored(history));
            }
        }
        Ok(())
    }
}

/// The scores behind these tokens.
fn scored(tokens: impl Iterator<Item = u32>) -> impl Iterator<Item = f32> {
    let mix = |hash: u64, token: u32| {
        let z = (hash ^ u64::from(token)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 29)
    };
    let hash = tokens.fold(7, mix);
    (0..VOCABULARY as u32).map(move |token| (mix(hash, token + 99) >> 40) as f32 / 3e6)
}

/// What a job is made of.
#[derive(Debug, Clone)]
pub(super) struct Plain {
    pub(super) prompt: Vec<u32>,
    pub(super) sampling: Sampling,
    pub(super) bias: Vec<(u32, f32)>,
    pub(super) stops: Vec<Vec<u32>>,
    pub(super) prefix: Option<Prefix>,
    pub(super) deadline_ms: Option<u64>,
}

impl Plain {
    pub(super) fn job(&self) -> Job {
        let constraints = Constraints {
            bias: &self.bias,
            stops: &self.stops,
            ..Constraints::default()
        };
        let job = tokens().job(self.prompt.clone(), self.sampling, constraints);
        Job {
            prefix: self.prefix.clone(),
            deadline_ms: self.deadline_ms,
            ..job.expect("its options are in range")
        }
    }
}

/// What a job gives alone: its tokens and its end.
pub(super) fn alone(plain: &Plain) -> (Vec<u32>, Finish) {
    let tokens = tokens();
    let mut sampler = plain.job().sampler;
    let mut all = plain.prompt.clone();
    let most = (plain.sampling.tokens_max as usize).min(CONTEXT - plain.prompt.len());
    loop {
        let mut scores: Vec<f32> = scored(all.iter().copied()).take(tokens.size).collect();
        tokens
            .forbidden
            .iter()
            .for_each(|t| scores[*t as usize] = -1e30);
        let choice = sampler.choose(&scores).expect("finite");
        all.push(choice.token);
        let made = &all[plain.prompt.len()..];
        let stopped = plain.stops.iter().any(|stop| made.ends_with(stop));
        assert_eq!(choice.ends, stopped || choice.token == 0);
        if choice.ends {
            return (made.to_vec(), Finish::Stop);
        }
        if made.len() == most {
            return (made.to_vec(), Finish::Length);
        }
    }
}

/// Numbers of a test.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((z ^ (z >> 27)) >> 20) as usize % end
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

pub(super) fn job(seed: u64, prompt: usize, tokens_max: u32) -> Plain {
    let mut random = Random(seed);
    Plain {
        prompt: (0..prompt).map(|_| 3 + random.below(17) as u32).collect(),
        sampling: Sampling {
            temperature: [0.0, 0.7, 1.3][random.below(3)],
            top_p: [1.0, 0.95][random.below(2)],
            top_k: [0, 5][random.below(2)],
            repetition: [1.0, 1.2][random.below(2)],
            frequency: [0.0, 0.5][random.below(2)],
            seed,
            ..Sampling::greedy(tokens_max)
        },
        bias: [vec![], vec![(4, 2.0), (9, -100.0)]][random.below(2)].clone(),
        stops: vec![vec![5, 6], vec![7, 7]],
        prefix: None,
        deadline_ms: None,
    }
}

/// What a test knows of a job.
struct Known {
    job: Plain,
    cancelled: bool,
    started: bool,
    made: Vec<u32>,
    end: Option<Event>,
    /// Progress, and the step in which there was some last.
    progress: (usize, u64),
}

struct World {
    random: Random,
    scheduler: Scheduler,
    fake: Fake,
    known: HashMap<JobId, Known>,
    starts: Vec<JobId>,
    step: u64,
    cached: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let limits = Limits {
            sequences_max: 1 + random.below(9),
            waiting_max: 1 + random.below(30),
            rows_max: 1 + random.below(70),
            rows_mixed_max: 1 + random.below(40),
            chunk: 1 + random.below(40),
            prefixes_max: random.below(4),
            prefix_life_ms: 20 + random.below(200) as u64,
        };
        let fake = Fake::new(
            4 + random.below(24),
            1 + random.below(9),
            1 + random.below(70),
        );
        World {
            scheduler: Scheduler::new(*fake.shape(), tokens(), limits),
            random,
            fake,
            known: HashMap::new(),
            starts: Vec::new(),
            step: 0,
            cached: 0,
        }
    }

    fn arrive(&mut self) {
        let random = &mut self.random;
        let (seed, prompt) = (random.below(1 << 30) as u64, 1 + random.below(300));
        let mut job = job(seed, prompt, 1 + random.below(60) as u32);
        if random.one_in(3) {
            // A few prefixes, some of which are claimed with other tokens.
            let name = random.below(3);
            let common = self::job(7_000 + name as u64, prompt, 1);
            let length = random.below(prompt + 10);
            let same = length.min(prompt);
            job.prompt[..same].copy_from_slice(&common.prompt[..same]);
            if random.one_in(8) {
                job.prompt[0] ^= 1;
            }
            job.prefix = Some(Prefix {
                handle: [name as u8; 32],
                tokens: length,
            });
        }
        if random.one_in(20) {
            job.prompt[prompt / 2] = POISON;
        }
        if random.one_in(6) {
            job.deadline_ms = Some(self.step + random.below(40) as u64);
        }
        match self.scheduler.submit(job.job()) {
            Ok(id) => {
                let known = Known {
                    job,
                    cancelled: false,
                    started: false,
                    made: Vec::new(),
                    end: None,
                    progress: (0, self.step),
                };
                assert!(self.known.insert(id, known).is_none());
            }
            Err(Refused::TooLarge { wanted, all }) => assert!(wanted > all),
            Err(Refused::Busy { waiting_max }) => {
                assert_eq!(self.scheduler.waiting.len(), waiting_max);
            }
            Err(other) => panic!("{other}"),
        }
    }

    fn step(&mut self) {
        let (known, starts, cached) = (&mut self.known, &mut self.starts, &mut self.cached);
        let now = self.step;
        let mut tell = |id: JobId, event: Event| {
            let known = known.get_mut(&id).expect("it was submitted");
            assert_eq!(known.end, None, "nothing follows an end");
            match event {
                Event::Started { cached: reused } => {
                    assert!(!known.started && !known.cancelled);
                    known.started = true;
                    *cached += u64::from(reused);
                    starts.push(id);
                    known.progress = (reused as usize, now);
                }
                Event::Token { token, .. } => {
                    assert!(known.started && !known.cancelled, "not after a cancel");
                    assert!(known.job.deadline_ms.is_none_or(|deadline| deadline > now));
                    known.made.push(token);
                }
                end => known.end = Some(end),
            }
        };
        let rows = self.scheduler.step(&mut self.fake, now, &mut tell);
        assert!(rows <= self.scheduler.limits.rows_max);
        self.check(now);
        self.step += 1;
    }

    /// All that must hold between two steps.
    fn check(&mut self, now: u64) {
        let scheduler = &self.scheduler;
        let running = scheduler.running.iter().flatten();
        scheduler
            .cache
            .check(running.clone().map(|sequence| &sequence.lease));
        assert!(scheduler.waiting.len() <= scheduler.limits.waiting_max);
        let slots = scheduler.limits.sequences_max as u64;
        for (sequence, table) in scheduler.running.iter().zip(&scheduler.tables) {
            let expected = sequence.as_ref().map_or(&[][..], |s| &s.lease.table().0);
            assert_eq!(table.0, expected);
            let Some(sequence) = sequence else { continue };
            let known = self.known.get_mut(&sequence.id).expect("it was submitted");
            assert!(known.started && known.end.is_none());
            if sequence.progress() != known.progress.0 {
                known.progress = (sequence.progress(), now);
            }
            let waited = now - known.progress.1;
            assert!(waited <= slots, "a job did not advance for {waited} steps");
            let completes = sequence.pending() == shares::Pending::Completion;
            assert!(!completes || waited == 0, "a completion did not advance");
        }
        for known in self.known.values() {
            let ended = known.end.is_some();
            assert!(!known.cancelled || ended, "cancelled within one step");
            let late = known.job.deadline_ms.is_some_and(|at| at <= now);
            assert!(!late || ended, "late within one step");
        }
        assert!(self.starts.is_sorted(), "first come, first served");
    }

    fn finish(mut self) -> (usize, u64) {
        let mut steps = 0;
        while !self.scheduler.is_idle() {
            self.step();
            steps += 1;
            assert!(steps < 200_000, "it never ends");
        }
        for known in self.known.values() {
            let poisoned = known.job.prompt.contains(&POISON);
            let (made, finish) = alone(&known.job);
            match known.end.as_ref().expect("every job has an end") {
                Event::Ended(end @ (Finish::Stop | Finish::Length)) => {
                    assert!(!poisoned);
                    assert_eq!((&known.made, *end), (&made, finish));
                }
                Event::Ended(Finish::Cancelled | Finish::Deadline) => {
                    assert!(made.starts_with(&known.made));
                }
                Event::Failed => assert!(poisoned, "a neighbour's fault"),
                Event::Refused(_) => assert!(!known.started),
                other => panic!("{other:?}"),
            }
        }
        (self.known.len(), self.cached)
    }
}

/// Arrivals, cancels, budgets, prefixes and a tiny memory, 1,000 times: the invariants hold after each step, nobody starves,
/// and what is made is what each job makes alone.
#[test]
fn random_schedules_keep_every_invariant_and_give_what_each_job_gives_alone() {
    let (mut jobs, mut cached) = (0, 0);
    for seed in 0..1_000 {
        let mut world = World::new(seed);
        for _ in 0..40 {
            for _ in 0..world.random.below(3) {
                world.arrive();
            }
            if world.random.one_in(5) {
                let open = world.known.iter().filter(|(_, known)| known.end.is_none());
                let mut open: Vec<JobId> = open.map(|(id, _)| *id).collect();
                open.sort();
                if !open.is_empty() {
                    let id = open[world.random.below(open.len())];
                    world.scheduler.cancel(id);
                    world.known.get_mut(&id).expect("it is open").cancelled = true;
                }
            }
            world.step();
        }
        let (known, reused) = world.finish();
        jobs += known;
        cached += reused;
    }
    assert!(
        jobs > 10_000 && cached > 10_000,
        "{jobs} jobs, {cached} tokens reused"
    );
}

#[test]
fn ten_thousand_jobs_leave_no_more_memory_in_use_than_the_first_thousand() {
    let fake = &mut Fake::new(64, 9, 64);
    let limits = Limits {
        sequences_max: 8,
        prefixes_max: 4,
        ..Limits::default()
    };
    let mut scheduler = Scheduler::new(*fake.shape(), tokens(), limits);
    let mut after_warm_up = 0;
    for number in 0..10_000 {
        let mut next = job(number, 1 + number as usize % 90, 6);
        if number % 3 == 0 {
            let handle = [(number % 11) as u8; 32];
            next.prompt.fill(3 + (number % 11) as u32);
            next.prefix = Some(Prefix { handle, tokens: 64 });
        }
        scheduler.submit(next.job()).unwrap();
        if number % 7 == 0 {
            scheduler.cancel(JobId(number));
        }
        while scheduler.waiting.len() > 8 {
            scheduler.step(fake, number, &mut |_, _| ());
        }
        if number == 1_000 {
            after_warm_up = footprint(&scheduler);
        }
    }
    while !scheduler.is_idle() {
        scheduler.step(fake, 10_000, &mut |_, _| ());
    }
    let after = footprint(&scheduler);
    assert!(
        after <= after_warm_up,
        "{after} after {after_warm_up} elements"
    );
    scheduler.cache.check([].into_iter());
}

/// Elements that the scheduler's vectors have room for.
fn footprint(scheduler: &Scheduler) -> usize {
    let tables: usize = scheduler
        .tables
        .iter()
        .map(|table| table.0.capacity())
        .sum();
    scheduler.waiting.capacity()
        + scheduler.running.capacity()
        + scheduler.cancelled.capacity()
        + scheduler.shares.capacity()
        + scheduler.rows.capacity()
        + scheduler.scores.capacity()
        + scheduler.choices.capacity()
        + scheduler.cache.footprint()
        + tables
}

#[test]
fn what_cannot_run_is_refused_by_name() {
    let fake = Fake::new(4, 4, 64);
    let limits = Limits {
        waiting_max: 1,
        ..Limits::default()
    };
    let mut scheduler = Scheduler::new(*fake.shape(), tokens(), limits);
    let mut check = |job: Plain, expected: Refused| {
        assert_eq!(scheduler.submit(job.job()).err(), Some(expected));
    };
    let refused = |error: RequestError| Refused::Request(error);
    check(job(1, 0, 3), refused(RequestError::PromptEmpty));
    let (long, tokens_max) = (CONTEXT, CONTEXT - 1);
    check(
        job(1, long, 3),
        refused(RequestError::PromptTooLong {
            tokens: long,
            tokens_max,
        }),
    );
    let unknown = refused(RequestError::TokenUnknown { vocabulary: 21 });
    let mut foreign = job(1, 9, 3);
    foreign.prompt[4] = 21;
    check(foreign, unknown);
    let (wanted, all) = (5, 4);
    check(job(1, 100, 30), Refused::TooLarge { wanted, all });
    scheduler.submit(job(1, 100, 29).job()).unwrap();
    let busy = Refused::Busy { waiting_max: 1 };
    assert_eq!(scheduler.submit(job(1, 9, 3).job()).err(), Some(busy));
}
