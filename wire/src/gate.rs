//! What an agent and its GPU gate say to each other, over a pair of sockets that the gate is started with.
//!
//! ```text
//!  agent                              gate (a process of its own: the driver's library shares no memory with keys)
//!  Report{nonce} ───────────────────► asks the driver
//!        ◄─────────────────────────── Report | Refused
//!  SetReady ────────────────────────► lets the GPU take work
//!        ◄─────────────────────────── Ready | Refused, and ends
//! ```
//! Each message is four bytes of length (big endian) and that many of CBOR. The gate carries bytes and decides nothing about trust.

use crate::GpuReport;
use crate::cbor::{self, Malformed};
use crate::limits::{GATE_BYTES_MAX, NAME_BYTES_MAX};
use minicbor::{Decode, Encode};

const WHAT: &str = "GPU gate message";

/// What an agent asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum GateRequest {
    /// Evidence for a nonce.
    #[n(0)]
    Report(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        [u8; 32],
    ),
    /// Lets the GPU take work.
    #[n(1)]
    SetReady,
}

/// What a gate answers.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum GateAnswer {
    /// The GPU's evidence.
    #[n(0)]
    Report(#[n(0)] GpuReport),
    /// The GPU takes work.
    #[n(1)]
    Ready,
    /// There is none, and why.
    #[n(2)]
    Refused(#[n(0)] GateRefusal),
}

/// Why a gate stays shut. The machine, its driver or its GPU is at fault.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[expect(missing_docs)]
pub enum GateRefusal {
    #[n(0)]
    #[error("the driver's library cannot be used: {0}")]
    Library(#[n(0)] String),
    #[n(1)]
    #[error("{call} of the driver's library failed with code {code}")]
    Call {
        #[n(0)]
        call: String,
        #[n(1)]
        code: u32,
    },
    #[n(2)]
    #[error("the driver sees {0} GPUs; exactly one is served")]
    Count(#[n(0)] u32),
    #[n(3)]
    #[error("confidential computing is off on the GPU")]
    ConfidentialOff,
    #[n(4)]
    #[error("the GPU is in the developer tools mode, in which it protects nothing")]
    DeveloperTools,
    #[n(5)]
    #[error("the GPU's environment is {0}; production (2) is served")]
    Environment(#[n(0)] u32),
    #[n(6)]
    #[error("the driver says {says}, the GPU's report {reported}")]
    Version {
        #[n(0)]
        says: String,
        #[n(1)]
        reported: String,
    },
    #[n(7)]
    #[error("the driver handed out no evidence of a Hopper GPU: {0}")]
    Evidence(#[n(0)] String),
    #[n(8)]
    #[error("the agent's request cannot be read or comes out of order")]
    Request,
}

impl GateRefusal {
    /// Cuts words of others to what a message may hold.
    pub fn cut(text: &str) -> String {
        text[..text.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
    }
}

impl GateRequest {
    /// With its length before it.
    pub fn encode(&self) -> Vec<u8> {
        framed(cbor::to_vec(self))
    }

    /// Without its length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        cbor::from_slice(WHAT, bytes, GATE_BYTES_MAX)
    }
}

impl GateAnswer {
    /// With its length before it.
    pub fn encode(&self) -> Vec<u8> {
        framed(cbor::to_vec(self))
    }

    /// Without its length.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let answer: GateAnswer = cbor::from_slice(WHAT, bytes, GATE_BYTES_MAX)?;
        let name = |text: &String| text.len() <= NAME_BYTES_MAX;
        let fits = match &answer {
            GateAnswer::Report(report) => report.fits(),
            GateAnswer::Refused(refusal) => match refusal {
                GateRefusal::Library(text) | GateRefusal::Evidence(text) => name(text),
                GateRefusal::Call { call, .. } => name(call),
                GateRefusal::Version { says, reported } => name(says) && name(reported),
                _ => true,
            },
            GateAnswer::Ready => true,
        };
        cbor::check(WHAT, 1, &[("a length", fits)])?;
        Ok(answer)
    }
}

fn framed(body: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a message has less than 4 GiB");
    [&length.to_be_bytes()[..], &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::GPU_REPORT_BYTES_MAX;

    fn answers() -> Vec<GateAnswer> {
        let text = || "x".repeat(NAME_BYTES_MAX);
        let refused = [
            GateRefusal::Library(text()),
            GateRefusal::Call {
                call: text(),
                code: 3,
            },
            GateRefusal::Count(2),
            GateRefusal::ConfidentialOff,
            GateRefusal::DeveloperTools,
            GateRefusal::Environment(1),
            GateRefusal::Version {
                says: text(),
                reported: text(),
            },
            GateRefusal::Evidence(text()),
            GateRefusal::Request,
        ];
        let report = GpuReport::new(vec![7; GPU_REPORT_BYTES_MAX], vec![vec![8; 2048]; 8]);
        let mut answers = vec![GateAnswer::Report(report), GateAnswer::Ready];
        answers.extend(refused.map(GateAnswer::Refused));
        answers
    }

    #[test]
    fn every_message_comes_back_and_a_cut_or_changed_one_is_refused_or_another() {
        for request in [GateRequest::Report([5; 32]), GateRequest::SetReady] {
            let bytes = request.encode();
            assert_eq!(GateRequest::decode(&bytes[4..]), Ok(request));
            assert_eq!(bytes.len() - 4, usize::from(bytes[3]));
            assert!(GateRequest::decode(&[&bytes[4..], &[0]].concat()).is_err());
        }
        for answer in answers() {
            let bytes = answer.encode().split_off(4);
            assert_eq!(GateAnswer::decode(&bytes), Ok(answer.clone()));
            for at in (0..bytes.len()).step_by(1 + bytes.len() / 97) {
                assert!(GateAnswer::decode(&bytes[..at]).is_err(), "length {at}");
                let mut flipped = bytes.clone();
                flipped[at] ^= 1;
                assert_ne!(GateAnswer::decode(&flipped).ok().as_ref(), Some(&answer));
            }
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_looked_at() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        let report =
            |report, certificates| GateAnswer::Report(GpuReport::new(report, certificates));
        for answer in [
            GateAnswer::Refused(GateRefusal::Library(long.clone())),
            GateAnswer::Refused(GateRefusal::Evidence(long.clone())),
            report(vec![0; GPU_REPORT_BYTES_MAX + 1], vec![]),
            report(vec![], vec![vec![]; 9]),
            report(vec![], vec![vec![0; 2049]]),
        ] {
            let bytes = answer.encode().split_off(4);
            assert!(GateAnswer::decode(&bytes).is_err());
        }
        let whole = vec![0; GATE_BYTES_MAX + 1];
        assert!(matches!(
            GateAnswer::decode(&whole),
            Err(Malformed::TooLong { .. })
        ));
        assert_eq!(GateRefusal::cut(&"é".repeat(96)).len(), NAME_BYTES_MAX);
    }
}
