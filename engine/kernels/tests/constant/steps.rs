//! Every instruction and address in order, whatever instructions the processor has: for AVX-512, which valgrind lacks.
//!
//! Processes that begin as copies of this one, and so have its addresses, are stepped by ptrace. The disassembly says of which
//! registers each instruction makes an address: their contents are looked at, and the stack's pointer. Vectors of addresses are
//! not; [`super::native`] refuses the instructions that take them.

#![expect(unsafe_code)]

use super::eye::{Asked, NAIVE, OPTIONS, naive};
use super::subject::Subject;
use kernels::Path;
use std::collections::{BTreeSet, HashMap};
use std::ffi::{c_int, c_long};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

/// Tokens of the vocabulary, of the prompt and of the completion: each step takes microseconds.
const SIZES: (usize, u32, usize) = (128, 4, 2);

#[test]
#[ignore = "steps through four prompts by every option, an instruction at a time"]
fn four_prompts_have_the_same_steps_where_vectors_are_long() {
    let Some(code) = Code::of_this_process() else {
        return without::skip("objdump", "it is not installed");
    };
    for path in [Path::Avx2, Path::Avx512] {
        if !path.is_here() {
            without::lacks(path.name(), "this processor has no such instructions");
            continue;
        }
        let (digests, found) = code.traces(path, &OPTIONS.join(","));
        assert_eq!((digests.len(), found.len()), (1, 4), "{path:?}");
    }
    for task in NAIVE {
        let (digests, _) = code.traces(Path::Portable, task);
        assert_eq!(digests.len(), 4, "{task}");
    }
}

/// The instructions of this process by their addresses.
struct Code(HashMap<u64, Instruction>);

#[derive(Default)]
struct Instruction {
    /// Places of the registers of which it makes an address.
    address: Vec<usize>,
    /// Whether it is what [`stop`] does.
    stops: bool,
}

/// `struct user_regs_struct` of `sys/user.h`.
type Registers = [u64; 27];
const NAMES: [&str; 20] = [
    "%r15", "%r14", "%r13", "%r12", "%rbp", "%rbx", "%r11", "%r10", "%r9", "%r8", "%rax", "%rcx",
    "%rdx", "%rsi", "%rdi", "", "", "", "", "%rsp",
];
const RIP: usize = 16;
const RSP: usize = 19;
const RDI: usize = 14;

impl Code {
    /// Of its program and its libraries; `None` without objdump.
    fn of_this_process() -> Option<Self> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let mut bases: HashMap<&str, u64> = HashMap::new();
        for line in maps.lines() {
            let (range, file) = (
                line.split('-').next().unwrap(),
                line.split_whitespace().nth(5),
            );
            let start = u64::from_str_radix(range, 16).unwrap();
            if let Some(file) = file.filter(|file| file.starts_with('/')) {
                bases.entry(file).or_insert(start);
            }
        }
        let mut code = HashMap::new();
        for (file, base) in bases {
            let objdump = Command::new("objdump")
                .args(["--disassemble", "--no-show-raw-insn", file])
                .output();
            let text = objdump.ok()?.stdout;
            for line in String::from_utf8_lossy(&text).lines() {
                let Some((at, text)) = line.trim_start().split_once(":\t") else {
                    continue;
                };
                if let Ok(at) = u64::from_str_radix(at, 16) {
                    code.insert(base + at, Instruction::of(text));
                }
            }
        }
        Some(Code(code))
    }

    /// Digests of the steps for four prompts, and of what was found.
    fn traces(&self, path: Path, task: &str) -> (BTreeSet<u64>, BTreeSet<u64>) {
        let mut asked = Asked {
            prompt: 0,
            path,
            task: task.to_owned(),
            listed: true,
        };
        let mut subject = Subject::of(&asked, SIZES);
        let mut begun = [0; 4];
        for child in &mut begun {
            asked.prompt += 1;
            *child = start(|| match NAIVE.contains(&task) {
                true => naive(task, &asked.tokens(32, 2048), 2048),
                false => {
                    subject.prompt = asked.tokens(SIZES.1, SIZES.0);
                    subject.complete_by(task)
                }
            });
        }
        begun.iter().map(|child| self.follow(*child)).unzip()
    }

    /// Steps through a process between its stops.
    fn follow(&self, child: c_int) -> (u64, u64) {
        wait(child);
        let (mut digest, mut steps) = (DefaultHasher::new(), 0);
        loop {
            let registers = registers(child);
            let at = registers[RIP];
            let unknown = || panic!("{at:x}: no instruction is known there");
            let instruction = self.0.get(&at).unwrap_or_else(unknown);
            if instruction.stops {
                break;
            }
            (at, registers[RSP]).hash(&mut digest);
            let address = instruction.address.iter();
            address.for_each(|place| registers[*place].hash(&mut digest));
            resume(child, SINGLESTEP);
            wait(child);
            steps += 1;
        }
        assert!(steps > 100, "nothing was done");
        // Past this stop to the next one, which has what was found.
        for _ in 0..2 {
            resume(child, CONT);
            wait(child);
        }
        let found = registers(child)[RDI];
        resume(child, KILL);
        // SAFETY: it is this process's child, of which nobody else knows.
        unsafe { waitpid(child, &mut 0, WALL) };
        (digest.finish(), found)
    }
}

impl Instruction {
    /// From its text in AT&T's syntax.
    fn of(text: &str) -> Self {
        // These make an address and do not use it.
        let unused = ["lea", "nop"].iter().any(|name| text.contains(name));
        let inside = text
            .split('(')
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        let place = |name: &str| {
            NAMES
                .iter()
                .position(|known| !known.is_empty() && *known == name)
        };
        let address = inside
            .filter(|_| !unused)
            .flat_map(|inside| inside.split(','));
        Instruction {
            address: address.filter_map(place).collect(),
            stops: text.trim() == "int3",
        }
    }
}

/// A process that stops, does this work, stops, and stops once more with a digest of what it found.
fn start(work: impl FnOnce() -> Vec<u32>) -> c_int {
    // SAFETY: the copy has this thread alone; it computes and allocates, for which the C library's `fork` cares, and ends here.
    let child = unsafe { fork() };
    if child != 0 {
        assert!(child > 0, "no process is to be had");
        return child;
    }
    let run = || {
        // SAFETY: asks to be traced by the process that began it, which follows it.
        unsafe { ptrace(TRACEME, 0, 0usize, 0usize) };
        stop(0);
        let found = work();
        stop(0);
        let mut digest = DefaultHasher::new();
        found.hash(&mut digest);
        stop(digest.finish());
    };
    let _ = catch_unwind(AssertUnwindSafe(run));
    // SAFETY: ends the process and runs nothing of the one that it is a copy of.
    unsafe { _exit(1) }
}

/// Hands over to the tracer, and tells it a number.
fn stop(number: u64) {
    // SAFETY: the tracer is told of the trap and goes on behind it; nothing is changed.
    unsafe { std::arch::asm!("int3", in("rdi") number) };
}

/// Waits until a process stops.
fn wait(child: c_int) {
    let mut status = 0;
    // SAFETY: it is this process's child; the number is written to while it is borrowed.
    let waited = unsafe { waitpid(child, &mut status, WALL) };
    assert_eq!(waited, child, "the process is gone");
    assert_eq!(status & 0xffff, 0x057f, "it did not stop by a trap");
}

fn registers(child: c_int) -> Registers {
    let mut registers: Registers = [0; 27];
    // SAFETY: the process is stopped and traced by this thread, and as many numbers are written as there are.
    let read = unsafe { ptrace(GETREGS, child, 0usize, &raw mut registers) };
    assert_eq!(read, 0, "its registers cannot be read");
    registers
}

fn resume(child: c_int, how: c_int) {
    // SAFETY: the process is stopped and traced by this thread; no signal is handed to it.
    let resumed = unsafe { ptrace(how, child, 0usize, 0usize) };
    assert_eq!(resumed, 0, "it cannot go on");
}

// Of the C library that the standard library links; numbers of Linux's `sys/ptrace.h` and `sys/wait.h`.
unsafe extern "C" {
    fn fork() -> c_int;
    fn ptrace(request: c_int, ...) -> c_long;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn _exit(code: c_int) -> !;
}
const TRACEME: c_int = 0;
const CONT: c_int = 7;
const KILL: c_int = 8;
const SINGLESTEP: c_int = 9;
const GETREGS: c_int = 12;
const WALL: c_int = 0x4000_0000;
