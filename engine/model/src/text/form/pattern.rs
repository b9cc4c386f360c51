//! Regular expressions: of a whole text, and `pattern` of a string in JSON.
//!
//! The syntax is that of the crate `regex`, which ECMA 262's is close to. `\d`, `\w` and `\s` are ASCII's, as in ECMA 262. There is no
//! looking around, no word boundary and no reference back; `^` and `$` may stand at the ends.

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use super::FormFlaw;
use super::chars::{self, Place};
use super::nfa::{Nfa, Part};
use crate::limits::{PATTERN_BYTES_MAX, PATTERN_DEPTH_MAX};

/// What a regular expression matches: all of a text, or some of a string in JSON, as its anchors say.
pub(super) fn part(nfa: &mut Nfa, place: Place, pattern: &str) -> Result<Part, FormFlaw> {
    if pattern.len() > PATTERN_BYTES_MAX {
        return Err(FormFlaw::Bytes {
            bytes: pattern.len(),
            bytes_max: PATTERN_BYTES_MAX,
        });
    }
    let mut parser = ParserBuilder::new().nest_limit(PATTERN_DEPTH_MAX).build();
    let parsed = parser.parse(&in_ascii(pattern));
    let hir = parsed.map_err(|error| FormFlaw::Pattern(first_line(&error)))?;
    searched(nfa, place, &hir)
}

fn first_line(error: &regex_syntax::Error) -> String {
    match error {
        regex_syntax::Error::Parse(error) => error.kind().to_string(),
        regex_syntax::Error::Translate(error) => error.kind().to_string(),
        _ => "it cannot be read".into(),
    }
}

/// `\d`, `\w` and `\s` written out.
fn in_ascii(pattern: &str) -> String {
    let (mut out, mut chars) = (String::with_capacity(pattern.len()), pattern.chars());
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('d')) => out.push_str("[0-9]"),
            ('\\', Some('w')) => out.push_str("[0-9A-Za-z_]"),
            ('\\', Some('s')) => out.push_str(r"[ \t\n\r\f\v]"),
            (c, escaped) => {
                out.push(c);
                out.extend(escaped);
            }
        }
    }
    out
}

/// One alternative of a pattern after the other, each with its own anchors.
fn searched(nfa: &mut Nfa, place: Place, hir: &Hir) -> Result<Part, FormFlaw> {
    match hir.kind() {
        HirKind::Capture(capture) => return searched(nfa, place, &capture.sub),
        HirKind::Alternation(all) => {
            let parts = all.iter().map(|one| searched(nfa, place, one));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            return nfa.either(&parts);
        }
        _ => {}
    }
    let mut inner = match hir.kind() {
        HirKind::Concat(all) => all.as_slice(),
        _ => std::slice::from_ref(hir),
    };
    let is = |hir: &Hir, look| matches!(hir.kind(), HirKind::Look(one) if *one == look);
    let (mut begins, mut ends) = (place == Place::Text, place == Place::Text);
    while let [first, rest @ ..] = inner
        && is(first, Look::Start)
    {
        (begins, inner) = (true, rest);
    }
    while let [rest @ .., last] = inner
        && is(last, Look::End)
    {
        (ends, inner) = (true, rest);
    }
    let parts = inner.iter().map(|one| matched(nfa, place, one));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    let mut whole = nfa.sequence(&parts)?;
    if !begins {
        let any = chars::any(nfa)?;
        let any = nfa.any_number(any)?;
        whole = nfa.then(any, whole);
    }
    if !ends {
        let any = chars::any(nfa)?;
        let any = nfa.any_number(any)?;
        whole = nfa.then(whole, any);
    }
    Ok(whole)
}

/// What is matched, anchors aside. As deep as the parser lets expressions nest.
fn matched(nfa: &mut Nfa, place: Place, hir: &Hir) -> Result<Part, FormFlaw> {
    match hir.kind() {
        HirKind::Empty => nfa.nothing(),
        HirKind::Literal(literal) => {
            let text = std::str::from_utf8(&literal.0).map_err(|_| bytes())?;
            chars::spelled(nfa, place, text)
        }
        HirKind::Class(Class::Unicode(class)) => {
            let ranges: Vec<_> = class
                .iter()
                .map(|range| (range.start(), range.end()))
                .collect();
            chars::class(nfa, place, &ranges)
        }
        HirKind::Class(Class::Bytes(class)) => {
            let ranges = class.iter().map(|range| (range.start(), range.end()));
            let ascii = ranges.map(|(low, high)| {
                let ascii = high.is_ascii();
                ascii.then_some((char::from(low), char::from(high)))
            });
            let ranges: Option<Vec<_>> = ascii.collect();
            chars::class(nfa, place, &ranges.ok_or_else(bytes)?)
        }
        HirKind::Look(_) => Err(FormFlaw::Pattern("it looks around inside".into())),
        HirKind::Repetition(Repetition { min, max, sub, .. }) => {
            let max = max.map(|max| max as usize);
            nfa.repeat(*min as usize, max, |nfa| matched(nfa, place, sub))
        }
        HirKind::Capture(capture) => matched(nfa, place, &capture.sub),
        HirKind::Concat(all) => {
            let parts = all.iter().map(|one| matched(nfa, place, one));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            nfa.sequence(&parts)
        }
        HirKind::Alternation(all) => {
            let parts = all.iter().map(|one| matched(nfa, place, one));
            let parts = parts.collect::<Result<Vec<_>, _>>()?;
            nfa.either(&parts)
        }
    }
}

fn bytes() -> FormFlaw {
    FormFlaw::Pattern("it matches bytes that are no characters".into())
}
