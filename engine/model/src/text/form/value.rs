//! JSON that no schema describes, as deep as it may nest, and values that are given.
//!
//! There is one space after `:` and one after `,`, and no other white space outside of strings, as Python's `json` writes by default.

use super::FormFlaw;
use super::chars;
use super::nfa::{Nfa, Part};
use super::number::{self, Bounds};
use crate::text::Json;

pub(super) const COMMA: &[u8] = b", ";
pub(super) const COLON: &str = ": ";

/// Any value that nests at most so deep: 0 for one without objects and lists.
pub(super) fn any(nfa: &mut Nfa, nesting: usize) -> Result<Part, FormFlaw> {
    let mut parts = vec![
        string(nfa)?,
        number::number(nfa, Bounds::default(), false)?,
        nfa.literal(b"true")?,
        nfa.literal(b"false")?,
        nfa.literal(b"null")?,
    ];
    if let Some(nesting) = nesting.checked_sub(1) {
        parts.push(object(nfa, |nfa| any(nfa, nesting))?);
        parts.push(list(nfa, 0, None, |nfa| any(nfa, nesting))?);
    }
    nfa.either(&parts)
}

/// Any string.
pub(super) fn string(nfa: &mut Nfa) -> Result<Part, FormFlaw> {
    let any = chars::any(nfa)?;
    let any = nfa.any_number(any)?;
    quoted(nfa, any)
}

/// A string with this inside.
pub(super) fn quoted(nfa: &mut Nfa, inside: Part) -> Result<Part, FormFlaw> {
    let (before, after) = (nfa.literal(b"\"")?, nfa.literal(b"\"")?);
    nfa.sequence(&[before, inside, after])
}

/// An object with any keys.
pub(super) fn object<E: From<FormFlaw>>(
    nfa: &mut Nfa,
    mut value: impl FnMut(&mut Nfa) -> Result<Part, E>,
) -> Result<Part, E> {
    let members = nfa.list(0, None, COMMA, |nfa| {
        let (key, colon) = (string(nfa)?, nfa.literal(COLON.as_bytes())?);
        let value = value(nfa)?;
        Ok::<_, E>(nfa.sequence(&[key, colon, value])?)
    })?;
    Ok(between(nfa, b"{", members, b"}")?)
}

/// A list of so many values.
pub(super) fn list<E: From<FormFlaw>>(
    nfa: &mut Nfa,
    min: usize,
    max: Option<usize>,
    value: impl FnMut(&mut Nfa) -> Result<Part, E>,
) -> Result<Part, E> {
    let values = nfa.list(min, max, COMMA, value)?;
    Ok(between(nfa, b"[", values, b"]")?)
}

pub(super) fn between(
    nfa: &mut Nfa,
    before: &[u8],
    part: Part,
    after: &[u8],
) -> Result<Part, FormFlaw> {
    let (before, after) = (nfa.literal(before)?, nfa.literal(after)?);
    nfa.sequence(&[before, part, after])
}

/// A value as it is written here.
pub(super) fn written(value: &Json) -> String {
    match value {
        Json::List(list) => {
            let list: Vec<String> = list.iter().map(written).collect();
            format!("[{}]", list.join(", "))
        }
        Json::Object(pairs) => {
            let pairs = pairs
                .iter()
                .map(|(key, value)| format!("{}{}", key_of(key), written(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        scalar => serde_json::to_string(scalar).unwrap_or_default(),
    }
}

/// A key and its colon.
pub(super) fn key_of(name: &str) -> String {
    format!("{}{COLON}", serde_json::Value::from(name))
}
