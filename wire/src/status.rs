//! How a guest is: what it tells its host, who asks over the same stream as for jobs. It holds nothing of a prompt or an answer, and
//! nothing secret; and it proves nothing, since nobody signs it. What clients trust is in the evidence.

use crate::cbor::{self, Malformed};
use crate::limits::{
    EVENTS_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_MAX, NAME_BYTES_MAX, STATUS_BYTES_MAX,
    STATUS_LIST_MAX,
};
use crate::{Event, KeysetDigest};
use minicbor::{Decode, Encode};

const WHAT: &str = "guest status";

/// Version 1 of a guest's status.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Status {
    /// Always 1.
    #[n(0)]
    pub version: u64,
    /// The agent, name and version.
    #[n(1)]
    pub agent: String,
    /// The measured profile.
    #[n(2)]
    pub profile: String,
    /// What the boot has passed, in order; the last one is where it is.
    #[n(3)]
    pub stages: Vec<Stage>,
    /// Since the agent began, in milliseconds of its monotonic clock.
    #[n(4)]
    pub up_ms: u64,
    /// MRTD and RTMR0 to RTMR3, 48 bytes each.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub registers: Vec<u8>,
    /// What RTMR3 was extended with, in order.
    #[n(6)]
    pub events: Vec<Event>,
    /// The keysets that are alive, the newest first.
    #[n(7)]
    pub epochs: Vec<EpochStatus>,
    /// What it does.
    #[n(8)]
    pub load: Load,
    /// Names of the attested GPUs.
    #[n(9)]
    pub gpus: Vec<String>,
    /// The newest lines of its log, the oldest first.
    #[n(10)]
    pub log: Vec<String>,
}

/// A stage of the boot that was passed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Stage {
    /// Its name.
    #[n(0)]
    pub name: String,
    /// Since the agent began, in milliseconds.
    #[n(1)]
    pub at_ms: u64,
}

/// A keyset that is alive.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EpochStatus {
    /// Its number in this boot.
    #[n(0)]
    pub epoch: u32,
    /// Its digest.
    #[n(1)]
    pub keyset: KeysetDigest,
    /// Since it was made, in seconds.
    #[n(2)]
    pub age_s: u64,
    /// Jobs that were sealed to it.
    #[n(3)]
    pub jobs: u64,
    /// Jobs that may be.
    #[n(4)]
    pub jobs_max: u64,
}

/// What a guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Load {
    /// Jobs that compute or wait.
    #[n(0)]
    pub jobs: u32,
    /// Jobs that may.
    #[n(1)]
    pub jobs_max: u32,
}

impl Status {
    /// The deterministic encoding.
    pub fn encode(&self) -> Vec<u8> {
        cbor::to_vec(self)
    }

    /// Decodes and checks sizes. Nobody vouches for what it says.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let status: Status = cbor::from_slice(WHAT, bytes, STATUS_BYTES_MAX)?;
        let name = |text: &String| text.len() <= NAME_BYTES_MAX;
        let few = |length: usize| length <= STATUS_LIST_MAX;
        let line = |text: &String| text.len() <= LOG_LINE_BYTES_MAX;
        let fields = [
            ("agent", name(&status.agent) && name(&status.profile)),
            (
                "stages",
                few(status.stages.len()) && status.stages.iter().all(|stage| name(&stage.name)),
            ),
            ("registers", status.registers.len() == 5 * 48),
            (
                "events",
                status.events.len() <= EVENTS_MAX
                    && status.events.iter().all(|event| name(&event.name)),
            ),
            ("epochs", few(status.epochs.len())),
            (
                "gpus",
                few(status.gpus.len()) && status.gpus.iter().all(name),
            ),
            (
                "log",
                status.log.len() <= LOG_LINES_MAX && status.log.iter().all(line),
            ),
        ];
        cbor::check(WHAT, status.version, &fields)?;
        Ok(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        Status {
            version: 1,
            agent: "guest-agent/1".into(),
            profile: "sim".into(),
            stages: vec![Stage {
                name: "serving".into(),
                at_ms: 7,
            }],
            up_ms: 9,
            registers: vec![3; 240],
            events: vec![Event {
                name: "agent".into(),
                digest: [4; 48],
            }],
            epochs: vec![EpochStatus {
                epoch: 1,
                keyset: KeysetDigest::of(b"keyset"),
                age_s: 5,
                jobs: 6,
                jobs_max: 100,
            }],
            load: Load {
                jobs: 2,
                jobs_max: 64,
            },
            gpus: Vec::new(),
            log: vec!["a line".into()],
        }
    }

    #[test]
    fn a_status_comes_back_and_a_cut_or_changed_one_is_refused_or_another() {
        let bytes = status().encode();
        assert_eq!(Status::decode(&bytes), Ok(status()));
        for at in 0..bytes.len() {
            assert!(Status::decode(&bytes[..at]).is_err(), "length {at}");
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_ne!(Status::decode(&flipped), Ok(status()), "byte {at}");
        }
        assert!(Status::decode(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn every_list_and_text_has_a_bound() {
        type Change = fn(&mut Status);
        let cases: [(Change, &str); 8] = [
            (|s| s.agent = "x".repeat(NAME_BYTES_MAX + 1), "agent"),
            (
                |s| s.stages = vec![s.stages[0].clone(); STATUS_LIST_MAX + 1],
                "stages",
            ),
            (|s| s.registers = vec![0; 239], "registers"),
            (
                |s| s.events = vec![s.events[0].clone(); EVENTS_MAX + 1],
                "events",
            ),
            (
                |s| s.epochs = vec![s.epochs[0].clone(); STATUS_LIST_MAX + 1],
                "epochs",
            ),
            (|s| s.gpus = vec!["x".into(); STATUS_LIST_MAX + 1], "gpus"),
            (|s| s.log = vec!["x".into(); LOG_LINES_MAX + 1], "log"),
            (|s| s.log = vec!["x".repeat(LOG_LINE_BYTES_MAX + 1)], "log"),
        ];
        for (change, field) in cases {
            let mut status = status();
            change(&mut status);
            let refused = Status::decode(&status.encode());
            assert_eq!(refused, Err(Malformed::Field { what: WHAT, field }));
        }
        // The largest one fits.
        let mut largest = status();
        largest.log = vec!["x".repeat(LOG_LINE_BYTES_MAX); LOG_LINES_MAX];
        largest.events = vec![largest.events[0].clone(); EVENTS_MAX];
        assert!(Status::decode(&largest.encode()).is_ok());
    }
}
