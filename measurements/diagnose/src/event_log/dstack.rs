//! Logs in JSON: of a dstack guest, and of this project's agent.

use serde::Deserialize;

use super::{Event, EventLog, EventLogError, EventType, Register, Source};
use crate::limits;
use registers::{Digest48, RuntimeEvent};

/// As `dstack-guest-agent` writes one event (dstack, `cc-eventlog`). It may have more fields than these.
#[derive(Deserialize)]
struct DstackEvent {
    /// Number of the RTMR.
    imr: u32,
    event_type: u32,
    digest: Digest48,
    /// Name of a runtime event; empty for the firmware's.
    #[serde(default)]
    event: String,
    /// Hexadecimal. Empty also where the agent left out the data of a firmware event.
    #[serde(default)]
    event_payload: String,
    #[serde(default)]
    version: Option<u64>,
}

/// An answer of the agent, which carries the list as text.
#[derive(Deserialize)]
struct Answer {
    event_log: Nested,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Nested {
    List(Vec<DstackEvent>),
    Text(String),
}

pub(super) fn parse(json: &[u8]) -> Result<EventLog, EventLogError> {
    let first = json.iter().find(|byte| !byte.is_ascii_whitespace());
    let events = match first {
        Some(b'{') => match read::<Answer>(json)?.event_log {
            Nested::List(events) => events,
            Nested::Text(text) => read::<Vec<DstackEvent>>(text.as_bytes())?,
        },
        _ => read(json)?,
    };
    collect(Source::Dstack, events, |number, event| {
        let register = match event.imr {
            0 => Register::Rtmr0,
            1 => Register::Rtmr1,
            2 => Register::Rtmr2,
            3 => Register::Rtmr3,
            index => {
                return Err(EventLogError::Register {
                    event: number,
                    index,
                });
            }
        };
        let payload =
            hex::decode(&event.event_payload).map_err(|_| EventLogError::Hex { event: number })?;
        let kind = EventType(event.event_type);
        let left_out = payload.is_empty() && kind != EventType::DSTACK_RUNTIME;
        Ok(Event {
            register: Some(register),
            index: event.imr,
            kind: Some(kind),
            digest: event.digest,
            name: (!event.event.is_empty()).then_some(event.event),
            data: (!left_out).then_some(payload),
            dstack_version: event.version,
        })
    })
}

pub(super) fn parse_runtime(json: &[u8]) -> Result<EventLog, EventLogError> {
    let events = read::<Vec<RuntimeEvent>>(json)?;
    collect(Source::Runtime, events, |_, event| {
        Ok(Event {
            register: Some(Register::Rtmr3),
            index: 3,
            kind: None,
            digest: event.digest,
            name: Some(event.name),
            data: None,
            dstack_version: None,
        })
    })
}

fn read<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, EventLogError> {
    if json.len() > predict::limits::EVENT_LOG_JSON_BYTES_MAX {
        return Err(EventLogError::Length {
            got: json.len(),
            max: predict::limits::EVENT_LOG_JSON_BYTES_MAX,
        });
    }
    // The parser's own words may quote the log; a place is enough.
    serde_json::from_slice(json).map_err(|error| EventLogError::Json {
        line: error.line(),
        column: error.column(),
        cut: error.is_eof(),
    })
}

fn collect<T>(
    source: Source,
    from: Vec<T>,
    one: impl Fn(usize, T) -> Result<Event, EventLogError>,
) -> Result<EventLog, EventLogError> {
    if from.len() > predict::limits::EVENT_LOG_EVENTS_MAX {
        return Err(EventLogError::Events);
    }
    let mut events = Vec::with_capacity(from.len());
    for (number, event) in from.into_iter().enumerate() {
        let event = one(number, event)?;
        let name = (
            event.name.as_ref().map_or(0, String::len),
            predict::limits::EVENT_LOG_NAME_BYTES_MAX,
        );
        let data = (
            event.data.as_ref().map_or(0, Vec::len),
            limits::EVENT_DATA_BYTES_MAX,
        );
        for (got, max) in [name, data] {
            if got > max {
                return Err(EventLogError::Data {
                    event: number,
                    got,
                    max,
                });
            }
        }
        events.push(event);
    }
    Ok(EventLog { source, events })
}
