//! Characters of a text, and of a string in JSON, as bytes.

use regex_syntax::utf8::Utf8Sequences;

use super::FormFlaw;
use super::nfa::{Nfa, Part};

/// Where a character stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a text.
    Text,
    /// Inside of a string in JSON, where `"`, `\` and control characters are written with a `\`.
    Json,
}

/// Characters of a string in JSON that stand for themselves: none after U+3FFFF, where little but private use is.
const PLAIN: [(char, char); 4] = [
    (' ', '!'),
    ('#', '['),
    (']', '\u{d7ff}'),
    ('\u{e000}', '\u{3ffff}'),
];
/// Characters that are written with a `\`, and what is behind it. Other control characters are not made.
const ESCAPED: [(char, u8); 7] = [
    ('"', b'"'),
    ('\\', b'\\'),
    ('\n', b'n'),
    ('\t', b't'),
    ('\r', b'r'),
    ('\u{8}', b'b'),
    ('\u{c}', b'f'),
];

/// One character of any of these ranges.
pub(super) fn class(
    nfa: &mut Nfa,
    place: Place,
    ranges: &[(char, char)],
) -> Result<Part, FormFlaw> {
    let whole = nfa.never()?;
    let mut escapes = Vec::new();
    for (low, high) in ranges {
        match place {
            Place::Text => plain(nfa, whole, *low, *high)?,
            Place::Json => {
                for (from, to) in PLAIN {
                    let (low, high) = ((*low).max(from), (*high).min(to));
                    if low <= high {
                        plain(nfa, whole, low, high)?;
                    }
                }
                let within = ESCAPED.iter().filter(|(c, _)| (*low..=*high).contains(c));
                escapes.extend(within.map(|(_, byte)| (*byte, *byte)));
            }
        }
    }
    if !escapes.is_empty() {
        let (escape, escaped) = (nfa.literal(b"\\")?, nfa.any_of(&escapes)?);
        let both = nfa.then(escape, escaped);
        nfa.join(whole.start, both.start);
        nfa.join(both.end, whole.end);
    }
    Ok(whole)
}

/// The characters of a range, which are written as they are.
fn plain(nfa: &mut Nfa, whole: Part, low: char, high: char) -> Result<(), FormFlaw> {
    for sequence in Utf8Sequences::new(low, high) {
        let mut from = whole.start;
        let ranges = sequence.as_slice();
        for (index, range) in ranges.iter().enumerate() {
            let to = match index + 1 == ranges.len() {
                true => whole.end,
                false => nfa.node()?,
            };
            nfa.nodes[from].bytes.push((range.start, range.end, to));
            from = to;
        }
    }
    Ok(())
}

/// Any character of a string in JSON.
pub(super) fn any(nfa: &mut Nfa) -> Result<Part, FormFlaw> {
    class(nfa, Place::Json, &[('\0', char::MAX)])
}

/// These characters.
pub(super) fn spelled(nfa: &mut Nfa, place: Place, text: &str) -> Result<Part, FormFlaw> {
    match place {
        Place::Text => nfa.literal(text.as_bytes()),
        Place::Json => {
            let quoted = serde_json::Value::from(text).to_string();
            nfa.literal(&quoted.as_bytes()[1..quoted.len() - 1])
        }
    }
}
