//! **What it is.** What tests use that a clone may lack: how a test finds it, says that it goes without, and how a run of
//! `cargo test` counts that.
//!
//! **Trusts.** `/proc` for which cargo started the test, and a SHA-256 for what a sample is.
//!
//! **Promises.** A skip is seen: it goes to standard error past the test harness, which hides what passing tests print. With
//! `CI=true` it is a failure, except for instructions that the processor lacks. The last test of a workspace's run,
//! `tests/count.rs`, says how many there were and why.
//!
//! **Lacks.** Any judgement of its own: a test knows what it needs.

#![forbid(unsafe_code)]

mod samples;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Says that the running test goes without `what`, and why. The test then returns.
///
/// # Panics
/// With `CI=true`: there everything must be looked at.
pub fn skip(what: &str, why: &str) {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "with CI=true nothing is skipped; missing: {what}: {why}"
    );
    lacks(what, why);
}

/// Says that this processor lacks `what`, and why. It is counted as a skip, but is no failure with `CI=true`: no processor has
/// every set of instructions, so a run that looks at everything takes several machines.
pub fn lacks(what: &str, why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {what}: {why}");
    if let Some(path) = record() {
        let _ = fs::create_dir_all(path.with_file_name(""));
        let file = File::options().create(true).append(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{what}: {why}\n").as_bytes()));
    }
}

/// A vector from a real machine or another implementation, or `None` after [`skip`]: most are not ours to redistribute. Those
/// below `quotes/dcap-qvl/` always are there, because cargo has the package that carries them.
pub fn vector(name: &str) -> Option<Vec<u8>> {
    if let Some(name) = name.strip_prefix("quotes/dcap-qvl/") {
        return Some(samples::read(name));
    }
    let path = vectors().join(name);
    match fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if vectors().is_dir() => panic!("{}: {error}", path.display()),
        Err(_) => {
            let why = "there is no directory shared/vectors beside the clone";
            skip("vectors from elsewhere", why);
            None
        }
    }
}

/// Where the vectors are, if they are.
pub fn vectors() -> PathBuf {
    Path::new(SHARED).join("vectors")
}

/// Inputs from elsewhere on which the programs were wrong once, or `None` after [`skip`].
pub fn cases() -> Option<PathBuf> {
    let cases = Path::new(SHARED).join("cases");
    if cases.is_dir() {
        return Some(cases);
    }
    let why = "there is no directory shared/cases beside the clone";
    skip("cases from elsewhere", why);
    None
}

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared");

/// What was skipped in the run of cargo that started this program, with how often; afterwards it is forgotten.
pub fn take() -> BTreeMap<String, usize> {
    let path = record();
    let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok());
    let mut counts = BTreeMap::new();
    for line in text.unwrap_or_default().lines() {
        *counts.entry(line.to_owned()).or_default() += 1;
    }
    if let Some(path) = path {
        let _ = fs::remove_file(path);
    }
    counts
}

/// A file of the target directory for this run: cargo's process and when it started.
fn record() -> Option<PathBuf> {
    let cargo = std::os::unix::process::parent_id();
    let stat = fs::read_to_string(format!("/proc/{cargo}/stat")).ok()?;
    // proc_pid_stat(5): field 22 is the start time; the name, field 2, may hold spaces and ends with the last parenthesis.
    let started = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?;
    let program = std::env::current_exe().ok()?;
    let target = program.ancestors().nth(3)?;
    Some(target.join("skipped").join(format!("{cargo}-{started}")))
}
