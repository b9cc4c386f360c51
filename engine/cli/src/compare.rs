//! Whether two runs computed the same.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::record::{Completion, Record};

/// Compare what two runs computed: tokens, and the bits of the scores that they were chosen from.
///
/// Each file comes from `engine run --record`. Bits are promised to be equal for the same weights, kind, path and prompt, whatever
/// the number of threads and the machine. Exit code 0: equal; 1: different, and where.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What one run recorded.
    a: PathBuf,
    /// What the other one recorded.
    b: PathBuf,
}

/// Prints the differences; whether there are none.
pub fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let (a, b) = (read(&arguments.a)?, read(&arguments.b)?);
    for remark in circumstances(&a, &b) {
        println!("note: {remark}");
    }
    let differences = differences(&a, &b);
    for difference in &differences {
        println!("{difference}");
    }
    if differences.is_empty() {
        let tokens: usize = a
            .completions
            .iter()
            .map(|completion| completion.tokens.len())
            .sum();
        println!(
            "equal: {} completions, {tokens} tokens, all scores to the bit",
            a.completions.len()
        );
    }
    Ok(differences.is_empty())
}

fn read(path: &Path) -> anyhow::Result<Record> {
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text)
        .with_context(|| format!("{} is no record of `engine run`", path.display()))
}

/// What was not the same to begin with.
fn circumstances(a: &Record, b: &Record) -> Vec<String> {
    let mut remarks = Vec::new();
    for (what, a, b) in [
        ("program", &a.engine, &b.engine),
        ("path", &a.path, &b.path),
        ("kind", &a.kind, &b.kind),
    ] {
        if a != b {
            remarks.push(format!("{what}: {a} and {b}"));
        }
    }
    if a.weights != b.weights {
        remarks.push("the weights are not the same files".into());
    }
    if a.path != b.path {
        remarks.push("the scores of two paths differ in their last bits; that is expected".into());
    }
    remarks
}

fn differences(a: &Record, b: &Record) -> Vec<String> {
    let mut found = Vec::new();
    let (left, right) = (a.completions.len(), b.completions.len());
    if left != right {
        found.push(format!("{left} completions and {right}"));
    }
    for (index, (a, b)) in a.completions.iter().zip(&b.completions).enumerate() {
        found
            .extend(difference(a, b).map(|difference| format!("completion {index}: {difference}")));
    }
    found
}

fn difference(a: &Completion, b: &Completion) -> Option<String> {
    if a.prompt != b.prompt {
        return Some("the prompts have other tokens".into());
    }
    let longest = a.tokens.len().max(b.tokens.len());
    (0..longest).find_map(|step| {
        let scores = (a.scores.get(step), b.scores.get(step));
        let tokens = (a.tokens.get(step), b.tokens.get(step));
        match (scores.0 == scores.1, tokens) {
            (true, (a, b)) if a == b => None,
            (_, (Some(a), Some(b))) if a == b => {
                Some(format!("token {step} is {a} in both, from other scores"))
            }
            (_, (Some(a), Some(b))) => Some(format!("token {step} is {a} and {b}")),
            _ => Some(format!("one has {step} tokens, the other more")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            engine: "1".into(),
            path: "portable-1".into(),
            threads: 1,
            kind: "q8".into(),
            weights: vec![("w".into(), "00".into())],
            completions: vec![Completion {
                prompt: vec![1, 2],
                tokens: vec![3, 4],
                scores: vec!["a".into(), "b".into()],
            }],
        }
    }

    fn check(change: impl Fn(&mut Completion), expected: &str) {
        let mut other = record();
        change(&mut other.completions[0]);
        assert_eq!(
            differences(&record(), &other),
            [format!("completion 0: {expected}")]
        );
    }

    #[test]
    fn the_first_difference_is_named() {
        assert_eq!(differences(&record(), &record()), [""; 0]);
        check(
            |other| other.prompt.push(3),
            "the prompts have other tokens",
        );
        check(
            |other| other.scores[1] = "c".into(),
            "token 1 is 4 in both, from other scores",
        );
        check(
            |other| {
                other.tokens[1] = 5;
                other.scores[1] = "c".into();
            },
            "token 1 is 4 and 5",
        );
        check(
            |other| {
                other.tokens.truncate(1);
                other.scores.truncate(1);
            },
            "one has 1 tokens, the other more",
        );
    }

    #[test]
    fn threads_do_not_count_and_a_path_is_remarked() {
        let mut other = record();
        other.threads = 8;
        assert_eq!(circumstances(&record(), &other), [""; 0]);
        other.path = "avx2-1".into();
        assert_eq!(circumstances(&record(), &other).len(), 2);
    }
}
