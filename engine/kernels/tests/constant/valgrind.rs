//! Memcheck and Lackey, on the paths that valgrind knows.

use super::eye::{Eye, NAIVE, OPTIONS, command, outcome};
use kernels::Path;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The exit code of a run in which Memcheck found something.
const FOUND: i32 = 97;
/// What is made public, a bit at a time, is so by this function alone.
const DECLASSIFY: &str = "{\n  a bit made public\n  Memcheck:Cond\n  fun:*declassify*\n}\n";
const PATHS: [Path; 2] = [Path::Portable, Path::Avx2];

fn is_missing() -> bool {
    let missing = Command::new("valgrind").arg("--version").output().is_err();
    if missing {
        without::skip("valgrind", "it is not installed");
    }
    missing
}

/// Memcheck's verdict, and what it said.
fn memcheck(path: Path, task: &str) -> (Option<i32>, String) {
    let suppressions = std::env::temp_dir().join(format!("declassify-{}", std::process::id()));
    std::fs::write(&suppressions, DECLASSIFY).unwrap();
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--quiet", &format!("--error-exitcode={FOUND}")])
        .arg(format!("--suppressions={}", suppressions.display()))
        .arg(std::env::current_exe().unwrap());
    let output = command(valgrind, Eye::Memcheck, path, task, 1)
        .output()
        .unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn a_completion_has_no_branch_and_no_address_by_a_secret() {
    if is_missing() {
        return;
    }
    let (code, said) = memcheck(Path::Portable, "top-p");
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = memcheck(Path::Portable, "a naive mask");
    assert_eq!(code, Some(FOUND), "{said}");
}

#[test]
#[ignore = "runs each option under valgrind"]
fn no_option_has_a_branch_or_an_address_by_a_secret() {
    if is_missing() {
        return;
    }
    for path in PATHS.into_iter().filter(|path| path.is_here()) {
        for option in OPTIONS {
            let (code, said) = memcheck(path, option);
            assert_eq!(code, Some(0), "{path:?} {option}: {said}");
        }
        for naive in NAIVE {
            let (code, said) = memcheck(path, naive);
            assert_eq!(code, Some(FOUND), "{path:?} {naive}: {said}");
        }
    }
}

/// A digest of every instruction and address between the two signals, and what the process found.
fn trace(path: Path, task: &str, prompt: u32) -> (u64, String) {
    let mut valgrind = Command::new("valgrind");
    valgrind
        .args(["--tool=lackey", "--trace-mem=yes", "--basic-counts=no"])
        .arg(std::env::current_exe().unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = command(valgrind, Eye::Lackey, path, task, prompt)
        .spawn()
        .unwrap();
    let lines = BufReader::with_capacity(1 << 16, Unhurried(process.stderr.take().unwrap()));
    let (mut last, mut digest, mut inside, mut count) = ([0i64; 3], DefaultHasher::new(), false, 0);
    for line in lines.split(b'\n') {
        let line = line.unwrap();
        if !matches!(line.first(), Some(b'I' | b' ')) {
            continue;
        }
        if let Some(address) = one_byte_store(&line) {
            last = [last[1], last[2], address];
            match (last[1] - last[0], last[2] - last[1]) {
                (0x111, 0x222) => inside = true,
                (-0x111, -0x222) => inside = false,
                _ => {}
            }
        }
        if inside {
            line.hash(&mut digest);
            count += 1;
        }
    }
    let mut stdout = Vec::new();
    process
        .stdout
        .take()
        .unwrap()
        .read_to_end(&mut stdout)
        .unwrap();
    process.wait().unwrap();
    assert!(count > 0, "{task}: the trace has no signals");
    (digest.finish(), outcome(&stdout))
}

/// Valgrind writes each line by itself. Who waits for the next one is woken for each, which takes longer than the line.
struct Unhurried<R>(R);

impl<R: Read> Read for Unhurried<R> {
    fn read(&mut self, place: &mut [u8]) -> std::io::Result<usize> {
        std::thread::sleep(Duration::from_millis(1));
        self.0.read(place)
    }
}

fn one_byte_store(line: &[u8]) -> Option<i64> {
    let line = std::str::from_utf8(line).ok()?;
    let address = line.strip_prefix(" S ")?.strip_suffix(",1")?;
    i64::from_str_radix(address, 16).ok()
}

#[test]
#[ignore = "runs four prompts by every option under valgrind"]
fn four_prompts_with_different_completions_give_one_ordered_trace() {
    if is_missing() {
        return;
    }
    let traces = |path, task: &str| -> (BTreeSet<u64>, BTreeSet<String>) {
        (1..=4).map(|prompt| trace(path, task, prompt)).unzip()
    };
    for path in PATHS.into_iter().filter(|path| path.is_here()) {
        let (digests, found) = traces(path, &OPTIONS.join(","));
        assert_eq!(found.len(), 4, "{path:?}: {found:?}");
        assert_eq!(digests.len(), 1, "{path:?}");
    }
    for naive in NAIVE {
        let (digests, _) = traces(Path::Portable, naive);
        assert!(digests.len() > 1, "{naive}");
    }
}
