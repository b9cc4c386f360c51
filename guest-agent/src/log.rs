//! What the agent says while it runs: lines on standard error, which a guest sends to its serial line.
//!
//! Its host reads them, so nothing derived from a prompt goes in (SECURITY.md 3).

use std::fmt::Display;
use std::io::Write;

/// Writes one line. Where nobody takes it, it is lost and the agent goes on.
pub(crate) fn line(text: impl Display) {
    let text = printable(&text.to_string());
    let _ = writeln!(std::io::stderr(), "guest-agent: {text}");
}

/// `text` without line feeds or other control characters: errors quote what others sent.
pub(crate) fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).collect()
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
}
