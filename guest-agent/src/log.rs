//! What the agent says while it runs: lines on standard error, which a guest sends to its serial line, and the newest of them for
//! whoever asks for its status.
//!
//! Its host reads them, so nothing derived from a prompt goes in (SECURITY.md 3).

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use wire::Stage;
use wire::limits::{LOG_LINE_BYTES_MAX, LOG_LINES_MAX};

/// The newest lines, the oldest first.
static NEWEST: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Writes one line. Where nobody takes it, it is lost and the agent goes on.
pub(crate) fn line(text: impl Display) {
    let text = keep(text);
    let _ = writeln!(std::io::stderr(), "guest-agent: {text}");
}

/// Keeps one line for whoever asks, and gives it back as it is fit to be shown.
pub(crate) fn keep(text: impl Display) -> String {
    let text = printable(&text.to_string());
    let mut newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    if newest.len() >= LOG_LINES_MAX {
        newest.pop_front();
    }
    let end = text.floor_char_boundary(LOG_LINE_BYTES_MAX);
    newest.push_back(text[..end].to_owned());
    text
}

/// The newest lines, the oldest first.
pub(crate) fn newest() -> Vec<String> {
    let newest = NEWEST.lock().unwrap_or_else(PoisonError::into_inner);
    newest.iter().cloned().collect()
}

/// `text` without line feeds or other control characters: errors quote what others sent.
pub(crate) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
}

/// What the boot has passed, and when.
#[derive(Clone)]
pub(crate) struct Stages {
    begun: Instant,
    passed: Vec<Stage>,
}

impl Stages {
    /// The first one, from which time counts.
    pub(crate) fn begin(name: &str) -> Self {
        let mut stages = Stages {
            begun: Instant::now(),
            passed: Vec::new(),
        };
        stages.pass(name);
        stages
    }

    /// One more.
    pub(crate) fn pass(&mut self, name: &str) {
        let at_ms = self.up_ms();
        keep(format_args!("{name} after {at_ms} ms"));
        self.passed.push(Stage {
            name: name.into(),
            at_ms,
        });
    }

    /// All that were passed.
    pub(crate) fn passed(&self) -> Vec<Stage> {
        self.passed.clone()
    }

    /// Since the first one, in milliseconds.
    pub(crate) fn up_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        assert_eq!(
            printable("reading a: no\nroom\x1b[2J"),
            "reading a: no room [2J"
        );
    }

    #[test]
    fn the_newest_lines_are_kept_and_none_is_too_long() {
        for number in 0..=LOG_LINES_MAX {
            keep(format_args!("{number} {}", "é".repeat(LOG_LINE_BYTES_MAX)));
        }
        let kept = newest();
        assert_eq!(kept.len(), LOG_LINES_MAX);
        assert!(kept.iter().all(|line| line.len() <= LOG_LINE_BYTES_MAX));
    }
}
