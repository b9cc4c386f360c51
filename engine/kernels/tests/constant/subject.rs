//! What is looked at: a model of one tied table, and a completion by each option of the sampler, in a process of its own.

use kernels::oblivious::rows;
use kernels::sampling::{Automaton, Constraints, Sampler, Sampling};
use kernels::{Kernels, Kind, Packed, Path};
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// In the environment of the process: the number of the prompt, the path, what to do, and who looks.
const PROMPT: &str = "CHRYSALIS_CONSTANT_PROMPT";
const PATH: &str = "CHRYSALIS_CONSTANT_PATH";
const TASK: &str = "CHRYSALIS_CONSTANT_TASK";
const EYE: &str = "CHRYSALIS_CONSTANT_EYE";

/// Codes that are not constant.
pub const NAIVE: [&str; 3] = ["a naive mask", "a sort", "a look-up"];
/// Every option of the sampler.
pub const OPTIONS: [&str; 9] = [
    "greedy",
    "whole",
    "top-k",
    "top-p",
    "min-p",
    "penalties",
    "bias",
    "grammar",
    "logprobs",
];

/// Who looks at the process.
#[derive(Clone, Copy, PartialEq)]
pub enum Eye {
    Memcheck,
    Lackey,
}

impl Eye {
    fn name(self) -> &'static str {
        match self {
            Eye::Memcheck => "memcheck",
            Eye::Lackey => "lackey",
        }
    }
}

/// Makes `command`, which ends with a program that runs its arguments, run a task.
pub fn command(mut command: Command, eye: Eye, path: Path, task: &str, prompt: u32) -> Command {
    command
        .args(["--exact", "subject::inner", "--ignored", "--nocapture"])
        .env("RUST_TEST_THREADS", "1")
        .env(PROMPT, prompt.to_string())
        .env(PATH, path.name())
        .env(TASK, task)
        .env(EYE, eye.name());
    command
}

/// What the process said that it found.
pub fn outcome(stdout: &[u8]) -> String {
    let said = String::from_utf8_lossy(stdout);
    let found = said.lines().find_map(|line| line.split_once("found: "));
    found.map(|(_, found)| found.to_owned()).unwrap_or_default()
}

#[test]
#[ignore = "the inner process of the other tests"]
fn inner() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let [prompt, path, eye] = [PROMPT, PATH, EYE].map(|name| std::env::var(name).unwrap());
    let path = Path::ALL
        .into_iter()
        .find(|known| known.name() == path)
        .unwrap();
    // Else the passes would fall back to another path, which would be looked at instead.
    assert!(path.is_here());
    // A trace lists every instruction, those before the first signal too.
    let vocabulary = if eye == Eye::Lackey.name() { 512 } else { 2048 };
    let mut subject = Subject::new(path, prompt.parse().unwrap(), vocabulary);
    let mut found = match NAIVE.contains(&&*task) {
        true => subject.naive(&task),
        false => subject.complete_by(&task),
    };
    mark(&mut found, PUBLIC);
    println!("found: {found:?}");
}

struct Subject {
    kernels: Kernels,
    path: Path,
    table: Packed,
    vocabulary: usize,
    prompt: Vec<u32>,
}

const WIDTH: usize = 64;
const TOKENS: usize = 8;

impl Subject {
    fn new(path: Path, prompt: u32, vocabulary: usize) -> Self {
        let length = 32;
        let mut table = Packed::zeroed(Kind::Q8, vocabulary, WIDTH).unwrap();
        let mut random = 12345u32;
        for row in 0..vocabulary {
            let weights: [f32; WIDTH] = std::array::from_fn(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 8) as f32 / (1 << 24) as f32 - 0.5
            });
            table.set_row(row, &weights).unwrap();
        }
        let mut prompt: Vec<u32> = (0..length)
            .map(|place| (prompt * 71 + place * 37) % vocabulary as u32)
            .collect();
        mark(&mut prompt, SECRET);
        Subject {
            kernels: Kernels::new(path, 1).unwrap(),
            path,
            table,
            vocabulary,
            prompt,
        }
    }

    /// The completions by these options, whose names are separated by commas.
    fn complete_by(&mut self, options: &str) -> Vec<u32> {
        let found = options.split(',').flat_map(|option| self.complete(option));
        found.collect()
    }

    /// A prompt and the tokens that follow it.
    fn complete(&mut self, option: &str) -> Vec<u32> {
        let warm = Sampling {
            temperature: 0.9,
            ..Sampling::greedy(9)
        };
        let sampling = match option {
            "greedy" => Sampling::greedy(9),
            "top-k" => Sampling { top_k: 40, ..warm },
            "top-p" => Sampling { top_p: 0.9, ..warm },
            "min-p" => Sampling {
                min_p: 0.05,
                ..warm
            },
            "penalties" => Sampling {
                repetition: 1.2,
                presence: 0.3,
                frequency: 0.1,
                ..warm
            },
            "logprobs" => Sampling {
                logprobs: Some(5),
                ..warm
            },
            _ => warm,
        };
        let mut bias = match option {
            "bias" => vec![(self.prompt[0], 3.0), (self.prompt[1], -2.0)],
            _ => Vec::new(),
        };
        // What is in no vocabulary: that a completion goes on is public.
        let (mut ends, mut stops) = (vec![u32::MAX - 1], vec![vec![u32::MAX - 1; 3]]);
        let classes: Vec<u16> = (0..self.vocabulary as u16).map(|token| token % 3).collect();
        let never = u16::MAX;
        let rows = vec![vec![1, 2, never], vec![never, 2, 0], vec![0, never, 1]];
        let mut words = Automaton::words(&classes, &rows, 0);
        mark(&mut words[1..], SECRET);
        mark(&mut bias, SECRET);
        mark(&mut ends, SECRET);
        mark(&mut stops[0], SECRET);
        let mut found = Vec::with_capacity(64);

        self.begin();
        let grammar = (option == "grammar")
            .then(|| Automaton::parse(self.path, &words, self.vocabulary).unwrap());
        let constraints = Constraints {
            bias: &bias,
            ends: &ends,
            stops: &stops,
            grammar: grammar.as_ref(),
        };
        let sampler = Sampler::new(
            self.path,
            self.vocabulary,
            sampling,
            constraints,
            &self.prompt,
        );
        let mut sampler = sampler.unwrap();
        let mut scores = self.scores(&self.prompt);
        for _ in 0..TOKENS {
            let choice = sampler.choose(&scores).unwrap();
            found.push(choice.token);
            let logprobs = choice.logprobs.iter().flat_map(|logprobs| &logprobs.top);
            logprobs.for_each(|(token, _)| found.push(*token));
            scores = self.scores(&[choice.token]);
        }
        self.end();
        found
    }

    /// The scores behind the last of `tokens`.
    fn scores(&self, tokens: &[u32]) -> Vec<f32> {
        let mut x = vec![0.0; tokens.len() * WIDTH];
        self.kernels.embed(&self.table, tokens, &mut x).unwrap();
        // All of the prompt decides.
        for place in 1..tokens.len() {
            for column in 0..WIDTH {
                x[place * WIDTH + column] += 0.9 * x[(place - 1) * WIDTH + column];
            }
        }
        let mut scores = vec![0.0; self.vocabulary];
        let last = &x[(tokens.len() - 1) * WIDTH..];
        self.kernels.linear(&self.table, last, &mut scores).unwrap();
        scores
    }

    fn naive(&mut self, task: &str) -> Vec<u32> {
        let table: Vec<u32> = (0..self.vocabulary as u32).map(|n| n * n).collect();
        let wanted = self.prompt[0];
        let mut scores: Vec<u32> = { self.prompt.iter() }
            .map(|id| id * 2_654_435 % 977)
            .collect();
        self.begin();
        let found = match task {
            "a naive mask" => {
                let mut sum = 0;
                for (number, row) in (0u32..).zip(table.chunks_exact(8)) {
                    let mask = if number == wanted / 8 { u32::MAX } else { 0 };
                    for value in row {
                        sum |= value & mask;
                    }
                }
                sum
            }
            "a sort" => {
                scores.sort_unstable();
                scores[0]
            }
            _ => table[black_box(wanted as usize)],
        };
        self.end();
        vec![found]
    }

    fn begin(&self) {
        self.signal([0, 0x111, 0x333]);
    }

    fn end(&self) {
        self.signal([0x333, 0x222, 0]);
    }

    /// Three stores.
    fn signal(&self, stores: [usize; 3]) {
        static SIGNAL: [AtomicU8; 0x334] = [const { AtomicU8::new(0) }; 0x334];
        // Without this, what nobody reads is not stored.
        let signal = black_box(&SIGNAL);
        for at in stores {
            signal[at].store(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_row_of_floats_is_what_the_table_has() {
    // The plain table's pass is small enough to be looked at by the disassembly alone; that it is there is checked here.
    let mut out = [0.0; 2];
    rows::row(Path::detect(), &[1.0, 2.0, 3.0, 4.0], 1, &mut out);
    assert_eq!(out, [3.0, 4.0]);
}

/// Memcheck's requests (`memcheck.h`): the tool's letters, then 1 to make memory undefined and 2 to make it defined.
const SECRET: u64 = 0x4d43_0001;
const PUBLIC: u64 = 0x4d43_0002;

/// Tells Memcheck what these bytes are. Outside of valgrind it does nothing.
#[expect(unsafe_code)]
#[cfg(target_arch = "x86_64")]
fn mark<T>(bytes: &mut [T], what: u64) {
    let (address, length) = (bytes.as_mut_ptr() as u64, size_of_val(bytes) as u64);
    let arguments = [what, address, length, 0, 0, 0];
    // SAFETY: valgrind.h's instructions for amd64: four rotations that together rotate by 128 bits, and an exchange of a
    // register with itself. The processor changes nothing by them but flags; valgrind reads `arguments` and sets rdx.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") &raw const arguments,
            inout("rdx") 0u64 => _,
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn mark<T>(_: &mut [T], _: u64) {}
