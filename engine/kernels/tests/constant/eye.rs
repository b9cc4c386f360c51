//! A process of its own that valgrind looks at: what it is asked to do, which of its bytes are secret, and when it begins and ends.
//! The tests of whole decoders (`engine/tests/constant`) use the same.

use kernels::Path;
use kernels::sampling::Sampling;
use std::hint::black_box;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

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

/// What the process is asked to do.
pub struct Asked {
    pub prompt: u32,
    pub path: Path,
    pub task: String,
    /// Every instruction is listed, those before the first signal too: models are small then.
    pub listed: bool,
}

impl Asked {
    /// None: the process is an ordinary test's.
    pub fn of_environment() -> Option<Self> {
        let task = std::env::var(TASK).ok()?;
        let [prompt, path, eye] = [PROMPT, PATH, EYE].map(|name| std::env::var(name).unwrap());
        let path = Path::ALL
            .into_iter()
            .find(|known| known.name() == path)
            .unwrap();
        // Else the passes would fall back to another path, which would be looked at instead.
        assert!(path.is_here());
        wait_for_the_other_thread();
        Some(Asked {
            prompt: prompt.parse().unwrap(),
            path,
            task,
            listed: eye == Eye::Lackey.name(),
        })
    }

    /// Secret tokens of a vocabulary of so many, other ones for each prompt.
    pub fn tokens(&self, length: u32, vocabulary: usize) -> Vec<u32> {
        let token = |place| (self.prompt * 71 + place * 37) % vocabulary as u32;
        let mut tokens: Vec<u32> = (0..length).map(token).collect();
        mark(&mut tokens, SECRET);
        tokens
    }
}

/// Waits until the thread that started this test sleeps, which does nothing else before its end. What it still does would stand among
/// what is listed, wherever the system let it.
fn wait_for_the_other_thread() {
    let call = format!("/proc/self/task/{}/syscall", std::process::id());
    // It waits for this thread in futex(2), number 202 of x86-64.
    while !std::fs::read_to_string(&call).unwrap().starts_with("202 ") {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Says what was found, which is public from here on.
pub fn tell(mut found: Vec<u32>) {
    mark(&mut found, PUBLIC);
    println!("found: {found:?}");
}

/// The sampler's options by the name of one of [`OPTIONS`].
pub fn sampling(option: &str, tokens_max: u32) -> Sampling {
    let warm = Sampling {
        temperature: 0.9,
        ..Sampling::greedy(tokens_max)
    };
    match option {
        "greedy" => Sampling::greedy(tokens_max),
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
    }
}

/// A code that is not constant, by its name in [`NAIVE`].
pub fn naive(task: &str, tokens: &[u32], vocabulary: usize) -> Vec<u32> {
    let table: Vec<u32> = (0..vocabulary as u32).map(|n| n.wrapping_mul(n)).collect();
    let wanted = tokens[0];
    let mut scores: Vec<u32> = { tokens.iter() }
        .map(|id| id.wrapping_mul(2_654_435) % 977)
        .collect();
    begin();
    // Nothing of what follows may move before the signal, nor behind the other one.
    let (table, scores) = (black_box(table), &mut *black_box(&mut scores));
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
        // The standard library's sort of so few numbers has hardly a branch.
        "a sort" => {
            for end in 1..scores.len() {
                let mut at = end;
                while at > 0 && scores[at - 1] > scores[at] {
                    scores.swap(at - 1, at);
                    at -= 1;
                }
            }
            scores[0]
        }
        _ => table[black_box(wanted as usize)],
    };
    let found = black_box(found);
    end();
    vec![found]
}

/// What is looked at begins.
pub fn begin() {
    signal([0, 0x111, 0x333]);
}

/// What is looked at has ended.
pub fn end() {
    signal([0x333, 0x222, 0]);
}

/// Three stores.
fn signal(stores: [usize; 3]) {
    static SIGNAL: [AtomicU8; 0x334] = [const { AtomicU8::new(0) }; 0x334];
    // Without this, what nobody reads is not stored.
    let signal = black_box(&SIGNAL);
    for at in stores {
        signal[at].store(1, Ordering::Relaxed);
    }
}

/// Memcheck's requests (`memcheck.h`): the tool's letters, then 1 to make memory undefined and 2 to make it defined.
pub const SECRET: u64 = 0x4d43_0001;
pub const PUBLIC: u64 = 0x4d43_0002;

/// Tells Memcheck what these bytes are. Outside of valgrind it does nothing.
#[expect(unsafe_code)]
#[cfg(target_arch = "x86_64")]
pub fn mark<T>(bytes: &mut [T], what: u64) {
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
pub fn mark<T>(_: &mut [T], _: u64) {}
