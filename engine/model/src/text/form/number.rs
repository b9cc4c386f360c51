//! Numbers as JSON writes them, without an exponent.

use super::FormFlaw;
use super::nfa::{Nfa, Part};

/// Digits before the point, where they are counted: each such integer is exact as a float of 64 bits.
const DIGITS: u32 = 15;
/// Digits behind the point, where they are counted.
const FRACTION: usize = 9;
/// No bound is larger.
pub(super) const BOUND_MAX: i64 = 10i64.pow(DIGITS) - 1;

/// What is asked of a number. Absent bounds are [`BOUND_MAX`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Bounds {
    pub low: Option<i64>,
    pub high: Option<i64>,
    /// Whether the bounds themselves are out.
    pub above: bool,
    pub below: bool,
}

/// An integer within bounds. Where digits are not counted and there are no bounds, it may have any number of them.
pub(super) fn integer(nfa: &mut Nfa, bounds: Bounds, counted: bool) -> Result<Part, FormFlaw> {
    if !counted && let Some(whole) = unbounded(nfa, bounds, false)? {
        return Ok(whole);
    }
    let low = bounds
        .low
        .map_or(-BOUND_MAX, |low| low + i64::from(bounds.above));
    let high = bounds
        .high
        .map_or(BOUND_MAX, |high| high - i64::from(bounds.below));
    let mut parts = Vec::new();
    if low <= high {
        if high >= 0 {
            parts.push(natural(nfa, low.max(0), high)?);
        }
        if low < 0 {
            let minus = nfa.literal(b"-")?;
            let digits = natural(nfa, (-high).max(1), -low)?;
            parts.push(nfa.then(minus, digits));
        }
    }
    nfa.either(&parts)
}

/// A number within bounds.
pub(super) fn number(nfa: &mut Nfa, bounds: Bounds, counted: bool) -> Result<Part, FormFlaw> {
    if !counted && let Some(whole) = unbounded(nfa, bounds, true)? {
        return Ok(whole);
    }
    let (low, high) = (
        bounds.low.unwrap_or(-BOUND_MAX),
        bounds.high.unwrap_or(BOUND_MAX),
    );
    let mut parts = Vec::new();
    if high > 0 || (high == 0 && !bounds.below) {
        let from = (low.max(0), low >= 0 && bounds.above);
        parts.push(positive(nfa, from, (high, bounds.below), counted)?);
    }
    if low < 0 {
        let minus = nfa.literal(b"-")?;
        let from = ((-high).max(0), high <= 0 && bounds.below);
        let digits = positive(nfa, from, (-low, bounds.above), counted)?;
        parts.push(nfa.then(minus, digits));
    }
    nfa.either(&parts)
}

/// From one number to another, both from 0 on; whether each is itself out.
fn positive(
    nfa: &mut Nfa,
    (low, above): (i64, bool),
    (high, below): (i64, bool),
    counted: bool,
) -> Result<Part, FormFlaw> {
    let mut parts = Vec::new();
    let most = if counted { Some(FRACTION) } else { None };
    // An integer and any fraction, strictly between the bounds' integers or from the lower one on.
    let first = low + i64::from(above);
    if first < high {
        let digits = natural(nfa, first, high - 1)?;
        let fraction = fraction(nfa, most)?;
        let fraction = nfa.optional(fraction)?;
        parts.push(nfa.then(digits, fraction));
    }
    // The lower bound's integer with a fraction that is not 0.
    if above && low < high {
        let point = nfa.literal(format!("{low}.").as_bytes())?;
        let before = nfa.repeat(0, most.map(|most| most - 1), digit)?;
        let last = nfa.range(b'1', b'9')?;
        let digits = nfa.then(before, last);
        parts.push(nfa.then(point, digits));
    }
    if low <= high && !below && (low < high || !above) {
        parts.push(nfa.literal(high.to_string().as_bytes())?);
    }
    nfa.either(&parts)
}

fn digit(nfa: &mut Nfa) -> Result<Part, FormFlaw> {
    nfa.range(b'0', b'9')
}

fn fraction(nfa: &mut Nfa, most: Option<usize>) -> Result<Part, FormFlaw> {
    let point = nfa.literal(b".")?;
    let digits = nfa.repeat(1, most, digit)?;
    Ok(nfa.then(point, digits))
}

/// Any number, from 0 on where that is the one bound. `None` for other bounds.
fn unbounded(nfa: &mut Nfa, bounds: Bounds, fractions: bool) -> Result<Option<Part>, FormFlaw> {
    if bounds.high.is_some() || bounds.above || bounds.low.is_some_and(|low| low != 0) {
        return Ok(None);
    }
    let zero = nfa.literal(b"0")?;
    let (first, more) = (nfa.range(b'1', b'9')?, digit(nfa)?);
    let more = nfa.any_number(more)?;
    let long = nfa.then(first, more);
    let mut whole = nfa.either(&[zero, long])?;
    if fractions {
        let fraction = fraction(nfa, None)?;
        let fraction = nfa.optional(fraction)?;
        whole = nfa.then(whole, fraction);
    }
    if bounds.low.is_none() {
        let minus = nfa.literal(b"-")?;
        let minus = nfa.optional(minus)?;
        whole = nfa.then(minus, whole);
    }
    Ok(Some(whole))
}

/// An integer from `low` to `high`, both from 0 on, without leading zeros.
fn natural(nfa: &mut Nfa, low: i64, high: i64) -> Result<Part, FormFlaw> {
    let mut parts = Vec::new();
    let mut from = low;
    // Numbers of one length after the other.
    while from <= high {
        let written = from.to_string();
        let last = 10i64.pow(written.len() as u32) - 1;
        let to = last.min(high).to_string();
        parts.push(same_length(nfa, written.as_bytes(), to.as_bytes())?);
        from = last + 1;
    }
    nfa.either(&parts)
}

/// Digits from `low` to `high`, which are as many.
fn same_length(nfa: &mut Nfa, low: &[u8], high: &[u8]) -> Result<Part, FormFlaw> {
    let ([first, low_rest @ ..], [last, high_rest @ ..]) = (low, high) else {
        return nfa.nothing();
    };
    let all =
        low_rest.iter().all(|byte| *byte == b'0') && high_rest.iter().all(|byte| *byte == b'9');
    if first == last || all {
        let head = nfa.range(*first, *last)?;
        let rest = match all {
            true => nfa.repeat(low_rest.len(), Some(low_rest.len()), digit)?,
            false => same_length(nfa, low_rest, high_rest)?,
        };
        return Ok(nfa.then(head, rest));
    }
    let (zeros, nines) = (vec![b'0'; low_rest.len()], vec![b'9'; low_rest.len()]);
    let mut parts = Vec::new();
    for (head, from, to) in [
        ((*first, *first), low_rest, nines.as_slice()),
        ((first + 1, last - 1), zeros.as_slice(), nines.as_slice()),
        ((*last, *last), zeros.as_slice(), high_rest),
    ] {
        if head.0 <= head.1 {
            let head = nfa.range(head.0, head.1)?;
            let rest = same_length(nfa, from, to)?;
            parts.push(nfa.then(head, rest));
        }
    }
    nfa.either(&parts)
}
