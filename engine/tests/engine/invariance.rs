//! The bits of a job do not depend on its neighbours, on the threads, on how its prompt was divided, or on its blocks.

use std::process::Command;

use engine::decoder::Decoder;
use engine::{BLOCK_TOKENS, BlockTable, Forward, Row};
use kernels::{Kernels, Kind, Path};

use crate::checkpoint::{DECODERS, Reference};
use crate::packed::{load, load_on, options};

/// Tokens that a job adds to its prompt.
const STEPS: usize = 12;
const SEQUENCES: usize = 16;

/// A job and what came of it.
struct Job {
    tokens: Vec<u32>,
    prompt: usize,
    computed: usize,
    table: BlockTable,
    /// Whether the embedding of its next token is kept while scores are computed.
    keeps: bool,
    /// The bits of the scores of each step.
    bits: Vec<Vec<u32>>,
}

impl Job {
    /// A prompt by number; its blocks are every `SEQUENCES`th from `number` on, last first, so that no two layouts are alike.
    fn new(number: u32, length: usize) -> Self {
        let token = |index: usize| (mixed(u64::from(number) << 32 | index as u64) % 250) as u32;
        let blocks = (0..8).rev().map(|block| block * SEQUENCES as u32 + number);
        Job {
            tokens: (0..length).map(token).collect(),
            prompt: length,
            computed: 0,
            table: BlockTable(blocks.collect()),
            keeps: false,
            bits: Vec::new(),
        }
    }

    fn is_done(&self) -> bool {
        self.bits.len() == STEPS
    }

    /// The next rows, at most `chunk`.
    fn rows(&self, sequence: usize, chunk: usize) -> Vec<Row> {
        let end = self.tokens.len().min(self.computed + chunk);
        let rows = (self.computed..end).map(|position| Row {
            sequence,
            token: self.tokens[position],
            position: position as u32,
            scored: position + 1 == self.tokens.len(),
            keeps: self.keeps && position + 1 == self.tokens.len(),
            kept: self.keeps && position >= self.prompt,
        });
        rows.collect()
    }

    fn take(&mut self, computed: usize, scores: Option<&[f32]>) {
        self.computed += computed;
        let Some(scores) = scores else { return };
        let best = (0..256).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
        self.tokens.extend(best.map(|best| best as u32));
        self.bits
            .push(scores.iter().map(|score| score.to_bits()).collect());
    }
}

/// Runs jobs together, each with at most `chunk` rows of a pass, until all are done.
fn run(decoder: &mut Decoder, jobs: &mut [Job], chunk: usize) {
    let (vocabulary, rows_max) = (decoder.shape().vocabulary, decoder.shape().rows_max);
    let tables: Vec<BlockTable> = jobs.iter().map(|job| job.table.clone()).collect();
    let mut scores = Vec::new();
    while jobs.iter().any(|job| !job.is_done()) {
        let (mut rows, mut taken) = (Vec::new(), Vec::new());
        for (sequence, job) in jobs.iter().enumerate().filter(|(_, job)| !job.is_done()) {
            let part = job.rows(sequence, chunk.min(rows_max - rows.len()));
            taken.push((
                sequence,
                part.len(),
                part.last().is_some_and(|row| row.scored),
            ));
            rows.extend(part);
        }
        decoder
            .forward(&rows, &tables, &mut scores)
            .expect("a pass");
        let mut scores = scores.chunks_exact(vocabulary);
        for (sequence, computed, scored) in taken {
            let scores = if scored { scores.next() } else { None };
            jobs[sequence].take(computed, scores);
        }
    }
}

/// A job whose first two blocks another one with the same beginning left behind.
fn reusing(decoder: &mut Decoder) -> Job {
    let mut other = [Job::new(0, 70)];
    run(decoder, &mut other, 64);
    let mut job = Job::new(0, 100);
    let own = job.table.0.split_off(2);
    job.table.0 = other[0].table.0[..2].to_vec();
    // Blocks that nobody has.
    job.table.0.extend(own.iter().map(|block| block + 1));
    job.computed = 2 * BLOCK_TOKENS;
    let mut jobs = [job];
    run(decoder, &mut jobs, 7);
    let [job] = jobs;
    job
}

fn check(kind: Kind) {
    for (name, text) in DECODERS {
        let reference = Reference::parse(text);
        let mut first: Option<Job> = None;
        let mut same = |what: &str, job: Job| match &first {
            None => first = Some(job),
            Some(first) => {
                assert_eq!(first.tokens, job.tokens, "{name} {kind:?}: {what}");
                assert!(
                    first.bits == job.bits,
                    "{name} {kind:?}: {what}: the bits of scores differ"
                );
            }
        };
        for threads in [1, 2, 4] {
            let mut decoder = load(&reference, &options(kind, SEQUENCES), threads);
            for chunk in [512, 64, 7, 1] {
                let mut jobs = [Job::new(0, 100)];
                run(&mut decoder, &mut jobs, chunk);
                let [job] = jobs;
                same(&format!("{threads} threads, chunks of {chunk}"), job);
                if threads > 2 && chunk != 7 {
                    continue;
                }
                let strangers = (1..SEQUENCES as u32)
                    .map(|number| Job::new(number, 3 + 11 * number as usize % 130));
                let mut jobs: Vec<Job> = strangers.collect();
                // In the midst of the others.
                jobs.insert(SEQUENCES / 2, Job::new(0, 100));
                run(&mut decoder, &mut jobs, chunk);
                let job = jobs.swap_remove(SEQUENCES / 2);
                same(
                    &format!("{threads} threads, chunks of {chunk}, among strangers"),
                    job,
                );
            }
        }
        let mut decoder = load(&reference, &options(kind, SEQUENCES), 2);
        same(
            "behind a prefix that another job computed",
            reusing(&mut decoder),
        );
        decoder.packed().carry_among(256, &[]);
        for (strangers, chunk) in [(0, 64), (0, 1), (3, 64)] {
            let mut jobs: Vec<Job> = (0..=strangers).map(|n| Job::new(n, 100)).collect();
            jobs.iter_mut().for_each(|job| job.keeps = true);
            run(&mut decoder, &mut jobs, chunk);
            let what = format!("with embeddings kept, {strangers} strangers, chunks of {chunk}");
            same(&what, jobs.swap_remove(0));
        }
        let first = first.expect("one job ran");
        assert_eq!(first.tokens.len(), first.prompt + STEPS);
    }
}

#[test]
fn an_embedding_that_was_kept_for_another_token_is_an_error_and_not_used() {
    for (name, text) in DECODERS {
        let mut decoder = load(&Reference::parse(text), &options(Kind::Q8, SEQUENCES), 2);
        decoder.packed().carry_among(256, &[]);
        let is_tied = decoder.config().tied && decoder.config().score_cap.is_none();
        let (tables, mut scores) = ([Job::new(0, 1).table], Vec::new());
        let mut step = |token, position, kept| {
            let row = Row {
                sequence: 0,
                token,
                position,
                scored: true,
                keeps: true,
                kept,
            };
            let done = decoder.forward(&[row], &tables, &mut scores);
            let best = (0..256).max_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(b.cmp(a)));
            done.map(|()| best.unwrap_or_default() as u32)
        };
        let best = step(7, 0, false).expect("a pass");
        assert_eq!(step(best ^ 1, 1, true).is_err(), is_tied, "{name}");
        // What was kept is used once, and by its own sequence at its own position only.
        assert!(step(best ^ 1, 1, true).is_ok(), "{name}");
        assert!(step(best, 0, true).is_ok(), "{name}");
        assert!(step(best ^ 1, 3, true).is_ok(), "{name}");
    }
}

/// Each path by itself, with 3 threads and among strangers against alone; paths that this processor lacks are skipped and counted.
#[test]
fn bits_of_every_path_depend_on_the_job_alone() {
    for path in Path::ALL {
        if !path.is_here() {
            without::lacks(
                &format!("the instructions of {}", path.name()),
                "a processor with them runs this",
            );
            continue;
        }
        for kind in Kind::ALL {
            for (name, text) in DECODERS {
                let reference = Reference::parse(text);
                let bits = |threads, strangers: u32, chunk| {
                    let kernels = Kernels::new(path, threads).expect("the path is here");
                    let options = options(kind, SEQUENCES);
                    let mut decoder = load_on(&reference, &options, kernels);
                    let mut jobs: Vec<Job> = (1..strangers).map(|n| Job::new(n, 40)).collect();
                    jobs.push(Job::new(0, 50));
                    run(&mut decoder, &mut jobs, chunk);
                    jobs.pop().map(|job| job.bits)
                };
                let same = bits(1, 0, 64) == bits(3, 9, 11);
                assert!(same, "{name} {kind:?} on {}", path.name());
            }
        }
    }
}

/// Tells the child to print the digest of its bits.
const CHILD: &str = "CHRYSALIS_TEST_BITS";

#[test]
fn another_process_computes_the_same_bits() {
    let digest = || {
        let mut all = 0u64;
        for kind in [Kind::Q8, Kind::Bf16] {
            for (_, text) in DECODERS {
                let mut decoder = load(&Reference::parse(text), &options(kind, SEQUENCES), 2);
                let mut jobs = [Job::new(0, 40)];
                run(&mut decoder, &mut jobs, 16);
                let bits = jobs[0].bits.iter().flatten();
                all = bits.fold(all, |all, bits| mixed(all ^ u64::from(*bits)));
            }
        }
        all
    };
    if std::env::var_os(CHILD).is_some() {
        println!("bits: {}", digest());
        return;
    }
    let name = "invariance::another_process_computes_the_same_bits";
    let child = Command::new(std::env::current_exe().expect("is a file"))
        .args(["--exact", name, "--nocapture"])
        .env(CHILD, "1")
        .output();
    let said = String::from_utf8(child.expect("the test runs itself").stdout);
    let said = said.expect("the child prints text");
    let line = said.lines().find_map(|line| line.split_once("bits: "));
    let theirs = line.expect("the child says its bits").1;
    assert_eq!(theirs, digest().to_string());
}

/// SplitMix64's finish.
fn mixed(z: u64) -> u64 {
    let z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) >> 16
}

#[test]
fn bits_of_q8_depend_on_the_job_alone() {
    check(Kind::Q8);
}

#[test]
fn bits_of_bf16_depend_on_the_job_alone() {
    check(Kind::Bf16);
}

#[test]
fn bits_of_q4_depend_on_the_job_alone() {
    check(Kind::Q4);
}

#[test]
fn bits_of_f32_depend_on_the_job_alone() {
    check(Kind::F32);
}
