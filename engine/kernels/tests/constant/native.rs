//! AVX-512, which valgrind lacks: the processor steps through the code, and the disassembly is read.

#![expect(unsafe_code)]

use super::subject::{Eye, NAIVE, OPTIONS, command, outcome};
use kernels::Path;
use std::collections::BTreeSet;
use std::ffi::{c_int, c_long, c_ulong, c_void};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

// From the C library that the standard library links.
unsafe extern "C" {
    fn ptrace(request: c_int, process: c_int, address: *mut c_void, data: *mut c_void) -> c_long;
    fn waitpid(process: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn raise(signal: c_int) -> c_int;
    fn personality(flags: c_ulong) -> c_int;
}

const TRACE_ME: c_int = 0;
const CONTINUE: c_int = 7;
const SINGLE_STEP: c_int = 9;
const GET_REGISTERS: c_int = 12;
const NO_RANDOM_ADDRESSES: c_ulong = 0x0004_0000;
const SIGUSR1: c_int = 10;
/// The place of the instruction pointer in `struct user_regs_struct`, which has 27 numbers.
const RIP: usize = 16;

/// Stops this process for its tracer.
pub fn stop() {
    // SAFETY: raises a signal that the tracer takes.
    unsafe { raise(SIGUSR1) };
}

struct Traced(c_int);

impl Traced {
    fn ask(&self, request: c_int, data: *mut c_void) -> c_long {
        // SAFETY: the requests of this file change the traced process alone, or fill the registers that `data` points to.
        unsafe { ptrace(request, self.0, std::ptr::null_mut(), data) }
    }

    /// The signal at which the process stops next; `None` if it has ended.
    fn wait(&self) -> Option<c_int> {
        let mut status = 0;
        // SAFETY: writes one number.
        unsafe { waitpid(self.0, &raw mut status, 0) };
        (status & 0xff == 0x7f).then_some((status >> 8) & 0xff)
    }

    fn until_stop(&self) {
        loop {
            match self.wait() {
                Some(SIGUSR1) => return,
                Some(_) => self.ask(CONTINUE, std::ptr::null_mut()),
                None => panic!("the process ended before it stopped"),
            };
        }
    }

    fn instruction(&self) -> u64 {
        let mut registers = [0u64; 27];
        self.ask(GET_REGISTERS, registers.as_mut_ptr().cast());
        registers[RIP]
    }
}

/// A digest of every instruction between the two stops, and what the process found; `None` if tracing is forbidden here.
fn steps(path: Path, task: &str, prompt: u32) -> Option<(u64, String)> {
    let program = Command::new(std::env::current_exe().unwrap());
    let mut program = command(program, Eye::Steps, path, task, prompt);
    program.stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: two system calls in the child, between fork and exec.
    unsafe {
        program.pre_exec(|| {
            personality(NO_RANDOM_ADDRESSES);
            match ptrace(TRACE_ME, 0, std::ptr::null_mut(), std::ptr::null_mut()) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    let mut process = program.spawn().ok()?;
    let traced = Traced(process.id() as c_int);
    traced.until_stop();
    let (mut digest, mut count) = (DefaultHasher::new(), 0);
    loop {
        traced.ask(SINGLE_STEP, std::ptr::null_mut());
        if traced.wait() == Some(SIGUSR1) {
            break;
        }
        traced.instruction().hash(&mut digest);
        count += 1;
        assert!(count < 50_000_000, "{task}: the second stop does not come");
    }
    traced.ask(CONTINUE, std::ptr::null_mut());
    while traced.wait().is_some() {
        traced.ask(CONTINUE, std::ptr::null_mut());
    }
    let mut stdout = Vec::new();
    process
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut stdout)
        .unwrap();
    Some((digest.finish(), outcome(&stdout)))
}

#[test]
#[ignore = "steps through the code of each option"]
fn four_prompts_take_the_same_instructions_with_avx512() {
    if !Path::Avx512.is_here() {
        return without::skip("AVX-512", "this processor lacks it");
    }
    let all = |task| -> Option<(BTreeSet<u64>, BTreeSet<String>)> {
        (1..=4)
            .map(|prompt| steps(Path::Avx512, task, prompt))
            .collect::<Option<_>>()
    };
    for option in OPTIONS {
        let Some((digests, found)) = all(option) else {
            return without::skip("ptrace", "it is not allowed here");
        };
        assert!(found.len() > 1, "{option}: {found:?}");
        assert_eq!(digests.len(), 1, "{option}");
    }
    // A look-up takes the same instructions; the disassembly has to show it.
    for naive in &NAIVE[..2] {
        let (digests, _) = all(naive).unwrap();
        assert!(digests.len() > 1, "{naive}");
    }
}

/// Whether an instruction reads or writes some lanes of memory and not others, by AT&T's syntax.
fn leaves_out_lanes(instruction: &str) -> bool {
    let (name, operands) = instruction.split_once(' ').unwrap_or((instruction, ""));
    let gathers = [
        "vpgather",
        "vgather",
        "vpscatter",
        "vscatter",
        "vmaskmov",
        "vpmaskmov",
        "maskmov",
    ];
    let masked = operands.contains("{%k") && operands.contains('(');
    gathers.iter().any(|gather| name.starts_with(gather)) || masked
}

#[test]
fn the_disassembly_has_no_gather_and_no_load_under_a_mask() {
    for (instruction, expected) in [
        ("vpgatherdd (%r10,%ymm17,1),%ymm18{%k1}", true),
        ("vmovdqu32 (%rdi),%zmm0{%k1}{z}", true),
        ("vpaddd 0x40(%rax),%zmm1,%zmm2{%k3}", true),
        ("vpmaskmovd (%rdi),%ymm1,%ymm0", true),
        ("vmovdqu64 (%rdi),%zmm0", false),
        ("vpaddd %zmm0,%zmm1,%zmm2{%k3}", false),
        ("vpermd %zmm0,%zmm1,%zmm2", false),
    ] {
        assert_eq!(leaves_out_lanes(instruction), expected, "{instruction}");
    }
    let objdump = Command::new("objdump")
        .args(["--disassemble", "--no-show-raw-insn", "--demangle"])
        .arg(std::env::current_exe().unwrap())
        .output();
    let Ok(output) = objdump else {
        return without::skip("objdump", "it is not installed");
    };
    let (mut function, mut ours, mut bad) = (String::new(), 0, Vec::new());
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(name) = line.strip_suffix(">:") {
            function = name.to_owned();
            continue;
        }
        if !["kernels::oblivious", "kernels::sampling"]
            .iter()
            .any(|ours| function.contains(ours))
        {
            continue;
        }
        let Some((_, instruction)) = line.split_once(":\t") else {
            continue;
        };
        ours += 1;
        let instruction = instruction.split_whitespace().collect::<Vec<_>>().join(" ");
        if leaves_out_lanes(&instruction) {
            bad.push(format!("{function}: {instruction}"));
        }
    }
    assert!(
        ours > 5_000,
        "the functions are not found: {ours} instructions"
    );
    assert_eq!(bad, Vec::<String>::new());
}
