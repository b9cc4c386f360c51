//! A log's events beside a manifest's.
//!
//! What is equal at the beginning and at the end is set aside; what is left between differs. Digests and their order are
//! proven by the register, types and names in the log are not.

use super::{Difference, DifferenceKind, Planned, Words};
use crate::{Claim, Event, EventLog};
use registers::Register;

pub(super) fn difference(
    register: Register,
    planned: &[Planned<'_>],
    logs: &[EventLog],
    cmdline: Option<&str>,
) -> Option<Difference> {
    let logged: Vec<&Event> = logs
        .iter()
        .flat_map(EventLog::events)
        .filter(|event| event.extends() && event.register == Some(register))
        .collect();
    let same = |(planned, logged): &(&Planned<'_>, &&Event)| planned.digest == logged.digest;
    let index = planned.iter().zip(&logged).take_while(same).count();
    let (ours, theirs) = (&planned[index..], &logged[index..]);
    let backwards = ours.iter().rev().zip(theirs.iter().rev());
    let tail = backwards.take_while(same).count();
    let ours = &ours[..ours.len() - tail];
    let theirs = &theirs[..theirs.len() - tail];
    let moved = theirs
        .iter()
        .any(|event| ours.iter().any(|planned| planned.digest == event.digest));
    let kind = match (ours, theirs) {
        ([], []) => return None,
        ([], _) => DifferenceKind::Extra,
        (_, []) => DifferenceKind::Missing,
        _ if ours.len() == theirs.len() && !moved => DifferenceKind::Changed,
        _ => DifferenceKind::Rearranged,
    };
    let (expected, got) = (ours.first(), theirs.first().copied());
    let words = match (expected, got, cmdline) {
        (Some(planned), Some(event), Some(cmdline)) if planned.what.contains("LoadOptions") => {
            words(planned, event, cmdline)
        }
        _ => None,
    };
    let type_of_log = || got.and_then(|event| event.kind.map(|kind| kind.to_string()));
    Some(Difference {
        kind,
        index,
        event_type: expected
            .and_then(|planned| planned.event)
            .map_or_else(type_of_log, |event| name(event.kind)),
        expected: expected.map(|planned| planned.digest),
        got: got.map(|event| event.digest),
        log_says: got.map(Event::describe),
        manifest_events: ours.len(),
        log_events: theirs.len(),
        words,
    })
}

/// As files write it.
fn name(kind: predict::EventKind) -> Option<String> {
    let value = serde_json::to_value(kind).ok()?;
    value.as_str().map(str::to_owned)
}

/// Only where the log's text is what was measured.
fn words(planned: &Planned<'_>, event: &Event, cmdline: &str) -> Option<Words> {
    if event.claim() != Claim::Data {
        return None;
    }
    let measured = text(event.data.as_deref()?)?;
    let with_initrd = format!("{cmdline} initrd=initrd");
    let expected = match planned.what.contains("initrd=initrd") {
        true => with_initrd.as_str(),
        false => cmdline,
    };
    let only_in = |one: &str, other: &str| -> Vec<String> {
        let words = one.split(' ').filter(|word| !word.is_empty());
        let only = words.filter(|word| !other.split(' ').any(|known| known == *word));
        only.take(WORDS_MAX).map(str::to_owned).collect()
    };
    Some(Words {
        missing: only_in(expected, &measured),
        added: only_in(&measured, expected),
    })
}

/// Printable ASCII, as it is or in UTF-16, without the final zero.
fn text(data: &[u8]) -> Option<String> {
    let wide = data.len() >= 2 && data.len().is_multiple_of(2) && data[1] == 0;
    let units: Option<Vec<u8>> = match wide {
        true => data
            .chunks(2)
            .map(|unit| (unit[1] == 0).then_some(unit[0]))
            .collect(),
        false => Some(data.to_vec()),
    };
    let mut units = units?;
    if units.last() == Some(&0) {
        units.pop();
    }
    let plain = units.len() <= predict::limits::CMDLINE_BYTES_MAX
        && units.iter().all(|unit| (b' '..=b'~').contains(unit));
    plain.then(|| units.into_iter().map(char::from).collect())
}

/// More words are not shown.
const WORDS_MAX: usize = 32;
