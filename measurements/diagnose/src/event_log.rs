//! What a guest says it measured, event by event.
//!
//! **What it is.** Event logs in the forms that guests hand out ([`Kind`], [`EventLog::parse_dstack`],
//! [`EventLog::parse_runtime`]), what the registers would be if the log were true ([`EventLog::replay`]), and words about
//! each event for people ([`Event::describe`]).
//!
//! **Trusts.** Nothing. A log comes from the guest or its host, and nobody signed it. It says something only where its
//! replay equals the registers of a verified quote; then its digests, in their order, are what was measured.
//!
//! **Promises.** What an event carries beside its digest is shown as what was measured only where it hashes to the digest
//! ([`Claim`]); no digest covers the event's type. Every length is bounded before it is believed; event types nobody knows are kept, with their number. Two logs
//! that replay to the same registers have the same digests in the same order.
//!
//! **Lacks.** An end: a log that was cut between two events reads well, and only the registers tell. The list that Linux
//! keeps of files (IMA) is another format.

mod bytes;
mod claim;
mod describe;
mod device_path;
mod dstack;
mod event_type;
mod replay;
mod tcg;

use registers::{Digest48, Register};

pub use claim::Claim;
pub use event_type::EventType;
pub use replay::Replay;

/// The two kinds of firmware log that share a format. Their bytes do not say reliably which they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of a TDX guest: the log behind its CCEL table (UEFI 2.10, section 38.4.1; Intel TDX GHCI, on the CCEL). The register
    /// numbers are 0 for MRTD and RTMR + 1 for the others.
    Ccel,
    /// Of a TPM (TCG PC Client Platform Firmware Profile, section 10). The register numbers are PCRs, which map to RTMRs
    /// as UEFI 2.10, section 38.4.1 has it: 1 and 7 to RTMR0, 2 to 6 to RTMR1, 8 to 15 to RTMR2.
    Tpm,
}

/// Where a log comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The firmware of a TDX guest.
    Ccel,
    /// A TPM: not a TDX guest's, whatever it replays to.
    Tpm,
    /// A dstack guest's agent.
    Dstack,
    /// This project's agent: RTMR3 only.
    Runtime,
}

/// A log that could be read. It is not yet compared with anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    source: Source,
    events: Vec<Event>,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The register it extends; none for PCRs that have no counterpart.
    pub register: Option<Register>,
    /// The register's number as the log has it.
    pub index: u32,
    /// Its type; the lists of this project's agent have none.
    pub kind: Option<EventType>,
    /// What extends the register.
    pub digest: Digest48,
    /// The name that a runtime event has.
    pub name: Option<String>,
    /// What the log says beside the digest; none if it leaves that out.
    pub data: Option<Vec<u8>>,
    /// In a dstack log: how the digest is made, where it says.
    pub dstack_version: Option<u64>,
}

/// Bytes that are not an event log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum EventLogError {
    #[error("the log has {got} bytes; {max} are allowed")]
    Length { got: usize, max: usize },
    #[error("the log ends inside {what}, which begins at byte {at}: it was cut; copy all of it")]
    Cut { what: &'static str, at: usize },
    #[error(
        "the log does not begin with a `Spec ID Event03` entry (TCG PC Client Platform Firmware Profile, section 10.4.5.1): {what}"
    )]
    Header { what: &'static str },
    #[error("the log has no SHA-384 digests")]
    NoSha384,
    #[error("event {event} has not one digest for each algorithm that the log begins with")]
    Digests { event: usize },
    #[error("event {event} is for register {index}, which does not exist")]
    Register { event: usize, index: u32 },
    #[error("event {event} has {got} bytes of data or name; {max} are allowed")]
    Data {
        event: usize,
        got: usize,
        max: usize,
    },
    #[error(
        "the log has more than the {} events allowed",
        predict::limits::EVENT_LOG_EVENTS_MAX
    )]
    Events,
    #[error("from byte {at} the log is neither an event nor filling")]
    Filling { at: usize },
    #[error(
        "not the JSON of an event log (line {line}, column {column}{})",
        if *cut { ", where it ends: it was cut; copy all of it" } else { "" }
    )]
    Json {
        line: usize,
        column: usize,
        /// Whether the text ends before its end.
        cut: bool,
    },
    #[error("the data of event {event} is not hexadecimal")]
    Hex { event: usize },
}

impl EventLog {
    /// Reads a log as firmware writes it: the "crypto agile" format (TCG PC Client Platform Firmware Profile, sections
    /// 10.2 and 10.4.5.1) with SHA-384 among its algorithms. An area that is filled up after the last event may be given
    /// whole.
    pub fn parse_tcg(bytes: &[u8], kind: Kind) -> Result<EventLog, EventLogError> {
        tcg::parse(bytes, kind)
    }

    /// Reads the JSON log of a dstack guest: the list of events, or an object that has it as `event_log`.
    pub fn parse_dstack(json: &[u8]) -> Result<EventLog, EventLogError> {
        dstack::parse(json)
    }

    /// Reads a JSON list of this project's [`RuntimeEvent`](registers::RuntimeEvent)s.
    pub fn parse_runtime(json: &[u8]) -> Result<EventLog, EventLogError> {
        dstack::parse_runtime(json)
    }

    /// Where it comes from.
    pub fn source(&self) -> Source {
        self.source
    }

    /// Its entries, in order.
    pub fn events(&self) -> &[Event] {
        &self.events
    }
}

impl Event {
    /// Whether it extends its register: all do but notes (`EV_NO_ACTION`).
    pub fn extends(&self) -> bool {
        self.kind != Some(EventType::NO_ACTION)
    }
}
