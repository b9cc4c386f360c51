//! **What it is.** Faults that the shipped code once had, or that an audit looked for, each as a change of text that puts the
//! fault back and the test that has to notice. `cargo run -p mutations` tries them in a copy of the repository.
//!
//! **Trusts.** Cargo, and that a test which passes without the change and fails with it noticed the change.
//!
//! **Promises.** The tree it was started in is only read. Each change is one place of one file; a test here holds that the place
//! is there exactly once, so the table cannot rot unseen.
//!
//! **Lacks.** Faults that nobody thought of: it makes none up.
//!
//! `cargo run -p mutations [WORDS]`: tries each fault whose sentence, file or test has one of the words, and prints what came of it.

#![forbid(unsafe_code)]

mod mutation;
mod outcome;
mod table;
mod tree;

use mutation::{Mutation, Test};
use outcome::Outcome;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use table::all;
use tree::Tree;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut chosen: Vec<Mutation> = all()
        .filter(|mutation| is_asked_for(mutation, &words))
        .collect();
    // One program after the other, each compiled once without a fault.
    chosen.sort_by_key(|mutation| (mutation.test.package, mutation.test.target));
    match try_all(&chosen) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(wrong) => {
            eprintln!("{wrong} of {} were not caught", chosen.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("mutations: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_asked_for(mutation: &Mutation, words: &[String]) -> bool {
    let Mutation {
        fault, file, test, ..
    } = mutation;
    let said = format!("{fault} {file} {} {}", test.package, test.name);
    words.is_empty() || words.iter().any(|word| said.contains(word.as_str()))
}

/// How many were not caught.
fn try_all(chosen: &[Mutation]) -> io::Result<usize> {
    let mut tree = Tree::copy()?;
    let began = Instant::now();
    let mut wrong = 0;
    for beside in chosen.chunk_by(|a, b| a.test.is_beside(b.test)) {
        let mut tests: Vec<Test> = beside.iter().map(|mutation| mutation.test).collect();
        tests.sort_by_key(|test| test.name);
        tests.dedup();
        let (whole, seconds) = timed(|| Outcome::of(&tree, &tests))?;
        println!(
            "{:<17}{seconds:>4} s  {} without a fault",
            said(whole),
            beside[0].test.package
        );
        for mutation in beside {
            let (outcome, seconds) = timed(|| try_one(&mut tree, mutation))?;
            let is_caught = whole == Outcome::Passed && outcome == Outcome::Failed;
            wrong += usize::from(!is_caught);
            println!(
                "{outcome:<17}{seconds:>4} s  {}: {}",
                mutation.file, mutation.fault
            );
        }
    }
    println!("{} faults in {} s", chosen.len(), began.elapsed().as_secs());
    Ok(wrong)
}

/// Puts the fault into the copy, runs the test, and takes the fault out again.
fn try_one(tree: &mut Tree, mutation: &Mutation) -> io::Result<Outcome> {
    let changed = mutation.apply(&tree.path).map_err(io::Error::other)?;
    let file = Path::new(mutation.file);
    let before = std::fs::read(tree.path.join(file))?;
    tree.write(file, changed.as_bytes())?;
    let outcome = Outcome::of(tree, &[mutation.test]);
    tree.write(file, &before)?;
    outcome
}

fn timed(run: impl FnOnce() -> io::Result<Outcome>) -> io::Result<(Outcome, u64)> {
    let began = Instant::now();
    Ok((run()?, began.elapsed().as_secs()))
}

/// Without a fault, tests have to pass.
fn said(whole: Outcome) -> String {
    match whole {
        Outcome::Passed => "passes".into(),
        Outcome::Failed => "FAILS".into(),
        other => other.to_string(),
    }
}
