//! The training text: questions and the one answer to each.

use anyhow::{Context, bail};
use engine::sampler::Chance;

/// Several ways to ask, one answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Pair {
    pub questions: Vec<String>,
    pub answer: String,
}

/// The text the repository ships.
const FILES: [(&str, &str); 3] = [
    (
        "chrysalis.txt",
        include_str!("../../../training/chrysalis.txt"),
    ),
    ("general.txt", include_str!("../../../training/general.txt")),
    ("sums.txt", include_str!("../../../training/sums.txt")),
];

/// What a conversation may begin with; half of them begin with nothing.
pub const SYSTEM: [&str; 2] = ["You are a helpful assistant.", "Answer briefly."];

/// All pairs, in the order of the files.
pub fn pairs() -> anyhow::Result<Vec<Pair>> {
    let mut all = Vec::new();
    for (name, text) in FILES {
        all.extend(parse(text).with_context(|| format!("reading engine/training/{name}"))?);
    }
    Ok(all)
}

/// Blocks separated by an empty line: lines `Q: …`, then one line `A: …`. Lines that begin with `#` are for people.
pub fn parse(text: &str) -> anyhow::Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut questions = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        if let Some(question) = line.strip_prefix("Q: ") {
            questions.push(question.trim().to_owned());
        } else if let Some(answer) = line.strip_prefix("A: ") {
            if questions.is_empty() {
                bail!("line {number}: an answer without a question");
            }
            pairs.push(Pair {
                questions: std::mem::take(&mut questions),
                answer: answer.trim().to_owned(),
            });
        } else if !(line.trim().is_empty() || line.starts_with('#')) {
            bail!("line {number}: neither Q: nor A:");
        }
    }
    if !questions.is_empty() {
        bail!("the last question has no answer");
    }
    Ok(pairs)
}

/// One way `question` may be typed: as written, in small letters, or without its last mark.
pub fn typed(question: &str, chance: Chance, place: u64) -> String {
    let mut typed = question.to_owned();
    if chance.unit(place) < 0.15 {
        typed = typed.to_lowercase();
    }
    if chance.unit(place + 1) < 0.15 && typed.ends_with(['?', '.', '!']) {
        typed.pop();
    }
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_text_parses_and_asks_nothing_twice() {
        let pairs = pairs().expect("the shipped text is well formed");
        let mut seen = std::collections::HashMap::new();
        for pair in &pairs {
            for question in &pair.questions {
                let earlier = seen.insert(question.to_lowercase(), &pair.answer);
                assert_eq!(earlier, None, "{question} is asked twice");
            }
        }
        assert!(pairs.len() >= 200 && seen.len() >= 500);
    }

    #[test]
    fn text_of_another_form_is_refused() {
        for bad in ["A: yes", "Q: why?", "Q: why?\nbecause", "B: no"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
