//! RTMR3: what runs after the boot says of itself.
//!
//! Nothing but a list of events decides this register, so a prediction is a list that somebody vouches for. Each entry has
//! one of three forms: this project's name and digest, or name and payload in one of dstack's two forms (dstack,
//! `cc-eventlog`), of which the digest is computed here, and compared where the entry has it too.

use serde::Deserialize;
use serde_json::json;

use crate::limits;
use registers::{Digest48, RuntimeEvent};

/// Why a list does not give a register.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum RuntimeError {
    #[error("the list of runtime events has {got} bytes; {max} are allowed")]
    Length { got: usize, max: usize },
    #[error(
        "not a JSON list of runtime events (line {line}, column {column}); an entry has `name` and `digest`, or dstack's `event`, `event_payload` and `version`"
    )]
    Json { line: usize, column: usize },
    #[error(
        "the list has {got} events; {} are allowed",
        limits::EVENT_LOG_EVENTS_MAX
    )]
    Events { got: usize },
    #[error("runtime event {event} {what}")]
    Event { event: usize, what: &'static str },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Ours(RuntimeEvent),
    Dstack(DstackEntry),
}

/// As `dstack-guest-agent` lists it; the agent may list more fields than these.
#[derive(Deserialize)]
struct DstackEntry {
    event: String,
    /// Hexadecimal.
    event_payload: String,
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    digest: Option<Digest48>,
    #[serde(default)]
    imr: Option<u32>,
    #[serde(default)]
    event_type: Option<u32>,
}

/// Reads a JSON list and gives each event with its digest, in order: [`replay`](registers::replay) makes RTMR3 of them.
pub fn events(json: &[u8]) -> Result<Vec<RuntimeEvent>, RuntimeError> {
    let (got, max) = (json.len(), limits::EVENT_LOG_JSON_BYTES_MAX);
    if got > max {
        return Err(RuntimeError::Length { got, max });
    }
    // The parser's own words may quote the list; a place is enough.
    let entries: Vec<Entry> = serde_json::from_slice(json).map_err(|error| RuntimeError::Json {
        line: error.line(),
        column: error.column(),
    })?;
    if entries.len() > limits::EVENT_LOG_EVENTS_MAX {
        return Err(RuntimeError::Events { got: entries.len() });
    }
    let events = entries.into_iter().enumerate();
    let events = events.map(|(event, entry)| {
        entry
            .measured()
            .map_err(|what| RuntimeError::Event { event, what })
    });
    events.collect()
}

impl Entry {
    fn measured(self) -> Result<RuntimeEvent, &'static str> {
        let event = match self {
            Entry::Ours(event) => event,
            Entry::Dstack(entry) => entry.measured()?,
        };
        match event.name.len() {
            bytes if bytes > limits::EVENT_LOG_NAME_BYTES_MAX => Err("has too long a name"),
            _ => Ok(event),
        }
    }
}

impl DstackEntry {
    fn measured(self) -> Result<RuntimeEvent, &'static str> {
        if self.imr.is_some_and(|register| register != 3) {
            return Err("is not of RTMR3");
        }
        if self.event_type.is_some_and(|kind| kind != DstackForm::TYPE) {
            return Err("is not of dstack's runtime type");
        }
        let payload = hex::decode(&self.event_payload);
        let payload = payload.map_err(|_| "has a payload that is not hexadecimal")?;
        let form = match self.version {
            Some(1) => DstackForm::First,
            Some(2) => DstackForm::Second,
            Some(_) => return Err("is of a version of dstack's that is not known"),
            None => return Err("does not say its `version`, 1 or 2, which decides its digest"),
        };
        // The same digest would be that of a shorter name and a longer payload.
        if form == DstackForm::First && self.event.contains(':') {
            return Err(
                "has a colon in its name, which dstack's first form cannot tell from its end",
            );
        }
        let digest = form.digest(&self.event, &payload);
        if self.digest.is_some_and(|listed| listed != digest) {
            return Err("has a digest that is not that of its name and payload");
        }
        Ok(RuntimeEvent {
            name: self.event,
            digest,
        })
    }
}

/// How dstack hashes a runtime event (dstack, `cc-eventlog`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DstackForm {
    /// Type, name and payload with colons between.
    First,
    /// Canonical JSON.
    Second,
}

impl DstackForm {
    /// The type of such events.
    pub const TYPE: u32 = 0x0800_0001;

    /// The digest of an event with this name and payload.
    pub fn digest(self, name: &str, payload: &[u8]) -> Digest48 {
        let number = Self::TYPE;
        let bytes = match self {
            DstackForm::First => [
                &number.to_le_bytes(),
                b":".as_slice(),
                name.as_bytes(),
                b":",
                payload,
            ]
            .concat(),
            // RFC 8785: keys sorted, no spaces, and strings as serde_json escapes them.
            DstackForm::Second => {
                let [name, payload] = [json!(name), json!(hex::encode(payload))];
                format!(
                    r#"{{"event":{name},"event_type":{number},"payload":{payload},"version":2}}"#
                )
                .into_bytes()
            }
        };
        Digest48::of(&bytes)
    }
}
