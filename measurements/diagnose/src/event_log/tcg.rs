//! Logs as firmware writes them (TCG PC Client Platform Firmware Profile, section 10.2).
//!
//! ```text
//! TCG_PCClientPCREvent, the first entry:   u32 register, u32 type = EV_NO_ACTION, [u8; 20] zeros, u32 n, TCG_EfiSpecIdEvent
//! TCG_PCR_EVENT2, all others:              u32 register, u32 type, u32 count, count x (u16 algorithm, digest), u32 n, n bytes
//! filling to the end of the area:          ones or zeros
//! ```

use super::{Event, EventLog, EventLogError, EventType, Kind, Register, Source, bytes::Reader};
use crate::limits;
use registers::Digest48;

pub(super) fn parse(bytes: &[u8], kind: Kind) -> Result<EventLog, EventLogError> {
    if bytes.len() > limits::EVENT_LOG_BYTES_MAX {
        return Err(EventLogError::Length {
            got: bytes.len(),
            max: limits::EVENT_LOG_BYTES_MAX,
        });
    }
    let mut reader = Reader::new(bytes);
    let algorithms = header(&mut reader)?;
    let mut events = Vec::new();
    loop {
        let at = bytes.len() - reader.rest.len();
        if filling(reader.rest).ok_or(EventLogError::Filling { at })? {
            break;
        }
        if events.len() == predict::limits::EVENT_LOG_EVENTS_MAX {
            return Err(EventLogError::Events);
        }
        events.push(event(&mut reader, at, events.len(), &algorithms, kind)?);
    }
    let source = match kind {
        Kind::Ccel => Source::Ccel,
        Kind::Tpm => Source::Tpm,
    };
    Ok(EventLog { source, events })
}

/// A hash algorithm of the log (TPM 2.0 Library, part 2, TPM_ALG_ID) and how long its digests are.
struct Algorithm {
    number: u16,
    digest_bytes: usize,
}

const SHA384: u16 = 0x000c;

/// Digest lengths that are not the log's to choose: SHA-1, SHA-256, SHA-384, SHA-512, SM3, SHA3-256, -384, -512.
const DIGEST_BYTES: [(u16, usize); 8] = [
    (0x0004, 20),
    (0x000b, 32),
    (SHA384, 48),
    (0x000d, 64),
    (0x0012, 32),
    (0x0027, 32),
    (0x0028, 48),
    (0x0029, 64),
];

/// The first entry: which algorithms the others have (section 10.4.5.1).
fn header(reader: &mut Reader) -> Result<Vec<Algorithm>, EventLogError> {
    let cut = |what| move || EventLogError::Cut { what, at: 0 };
    let wrong = |what| EventLogError::Header { what };
    let (_register, kind) = (
        reader.u32().ok_or_else(cut("the header"))?,
        reader.u32().ok_or_else(cut("the header"))?,
    );
    if EventType(kind) != EventType::NO_ACTION {
        return Err(wrong("another type of event"));
    }
    if reader.array().ok_or_else(cut("the header"))? != [0; 20] {
        return Err(wrong("a digest that is not zero"));
    }
    let length = reader.u32().ok_or_else(cut("the header"))?;
    let data = reader
        .take_u64(length.into())
        .ok_or_else(cut("the header"))?;
    let mut data = Reader::new(data);
    if data.take(16) != Some(b"Spec ID Event03\0") {
        return Err(wrong("another signature"));
    }
    // Platform class, version and size of numbers: for readers of other structures.
    let algorithms = data.take(8).and_then(|_| data.u32());
    let count = algorithms.ok_or(wrong("it is too short"))?;
    if count > limits::EVENT_LOG_ALGORITHMS_MAX {
        return Err(wrong("too many algorithms"));
    }
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for _ in 0..count {
        let (Some(number), Some(digest_bytes)) = (data.u16(), data.u16()) else {
            return Err(wrong("it is too short for its algorithms"));
        };
        let digest_bytes = usize::from(digest_bytes);
        let known = DIGEST_BYTES.iter().find(|(known, _)| *known == number);
        if known.is_some_and(|(_, length)| *length != digest_bytes)
            || digest_bytes > limits::EVENT_LOG_DIGEST_BYTES_MAX
        {
            return Err(wrong("a digest of another length than its algorithm has"));
        }
        if algorithms.iter().any(|earlier| earlier.number == number) {
            return Err(wrong("an algorithm twice"));
        }
        algorithms.push(Algorithm {
            number,
            digest_bytes,
        });
    }
    let vendor = data
        .u8()
        .and_then(|length| data.take(length.into()))
        .and_then(|_| data.end());
    vendor.ok_or(wrong("its length is not what it contains"))?;
    if !algorithms.iter().any(|a| a.number == SHA384) {
        return Err(EventLogError::NoSha384);
    }
    Ok(algorithms)
}

/// Whether the events are over: what is left is filling, all ones or all zeros. None if it begins as filling and goes on
/// as something else. No event begins like this: register 0xffffffff does not exist, and register 0 with type 0
/// (EV_PREBOOT_CERT) is reserved.
fn filling(rest: &[u8]) -> Option<bool> {
    let first = *rest.first().unwrap_or(&0);
    let begins_as_filling = match first {
        0xff => rest.iter().take(4).all(|byte| *byte == 0xff),
        0 => rest.iter().take(8).all(|byte| *byte == 0),
        _ => false,
    };
    if !begins_as_filling {
        return Some(false);
    }
    rest.iter().all(|byte| *byte == first).then_some(true)
}

fn event(
    reader: &mut Reader,
    at: usize,
    number: usize,
    algorithms: &[Algorithm],
    log: Kind,
) -> Result<Event, EventLogError> {
    let cut = || EventLogError::Cut {
        what: "an event",
        at,
    };
    let index = reader.u32().ok_or_else(cut)?;
    let kind = EventType(reader.u32().ok_or_else(cut)?);
    let count = reader.u32().ok_or_else(cut)?;
    let wrong = EventLogError::Digests { event: number };
    if usize::try_from(count) != Ok(algorithms.len()) {
        return Err(wrong);
    }
    let mut seen = Vec::with_capacity(algorithms.len());
    let mut digest = None;
    for _ in algorithms {
        let id = reader.u16().ok_or_else(cut)?;
        let algorithm = algorithms.iter().find(|a| a.number == id).ok_or(wrong)?;
        if seen.contains(&id) {
            return Err(wrong);
        }
        seen.push(id);
        let bytes = reader.take(algorithm.digest_bytes).ok_or_else(cut)?;
        if id == SHA384 {
            digest = bytes.try_into().ok().map(Digest48);
        }
    }
    let length = reader.u32().ok_or_else(cut)?;
    let length = usize::try_from(length).map_err(|_| cut())?;
    if length > limits::EVENT_DATA_BYTES_MAX {
        return Err(EventLogError::Data {
            event: number,
            got: length,
            max: limits::EVENT_DATA_BYTES_MAX,
        });
    }
    let data = reader.take(length).ok_or_else(cut)?.to_vec();
    let unknown = EventLogError::Register {
        event: number,
        index,
    };
    Ok(Event {
        register: register(index, log).ok_or(unknown)?,
        index,
        kind: Some(kind),
        digest: digest.ok_or(wrong)?,
        name: None,
        data: Some(data),
        dstack_version: None,
    })
}

/// UEFI 2.10, section 38.4.1. None for a number that does not exist; PCRs without a counterpart are no register.
fn register(index: u32, log: Kind) -> Option<Option<Register>> {
    match (log, index) {
        (_, 0) => Some(Some(Register::Mrtd)),
        (Kind::Ccel, 1) => Some(Some(Register::Rtmr0)),
        (Kind::Ccel, 2) => Some(Some(Register::Rtmr1)),
        (Kind::Ccel, 3) => Some(Some(Register::Rtmr2)),
        (Kind::Ccel, 4) => Some(Some(Register::Rtmr3)),
        (Kind::Tpm, 1 | 7) => Some(Some(Register::Rtmr0)),
        (Kind::Tpm, 2..=6) => Some(Some(Register::Rtmr1)),
        (Kind::Tpm, 8..=15) => Some(Some(Register::Rtmr2)),
        // TPM 2.0 for PCs: 24 PCRs; 16 and 23 are for applications, 17 to 22 for a late launch.
        (Kind::Tpm, 16..=23) => Some(None),
        _ => None,
    }
}
