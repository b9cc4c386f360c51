//! Why a GPU was not believed. One variant per reason, so that a test can compare and a person can act.

use std::fmt::{self, Write};

use super::{ChainError, OcspError, RimError, RimKind};
use registers::Digest48;

/// Why [`verify`](super::verify) refused a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuRefusal {
    /// The device's certificates do not lead to the root.
    #[error("the device's certificate chain does not hold: {0}")]
    Chain(ChainError),
    /// The chain is of another device than a Hopper GPU.
    #[error(
        "the device's chain goes through `{got}`, which is no authority of Hopper GPUs (GH100)"
    )]
    Architecture {
        /// What the authority calls itself.
        got: String,
    },
    /// The device did not sign the report.
    #[error(
        "the report was changed or forged: the device's key did not sign it; do not send the machine anything"
    )]
    ReportSignature,
    /// The report tells of another firmware than the certificate of its key.
    #[error("the report names the firmware {got:?}, and the certificate of its key {certified:?}")]
    Firmware {
        /// In the report, field 20.
        got: Option<Digest48>,
        /// In the leaf certificate, TcbInfo.
        certified: Option<Digest48>,
    },
    /// The firmware in the leaf belongs to another device than the one that issued the leaf.
    #[error(
        "the certificate of the report's key tells of another device's firmware than its issuer's"
    )]
    FirmwareOfAnotherDevice,
    /// Evidence made for another nonce.
    #[error(
        "the evidence was made for the nonce {}, not for {}; it is old, or of another verifier's question",
        hex::encode(got),
        hex::encode(expected)
    )]
    Nonce {
        /// In the report.
        got: [u8; 32],
        /// What was asked for.
        expected: [u8; 32],
    },
    /// No RIM of this version was given.
    #[error("no {kind} for `{id}` was given; those given are {offered:?}")]
    RimAbsent {
        /// Which one.
        kind: RimKind,
        /// What NVIDIA calls it.
        id: String,
        /// Label and version of all that were given.
        offered: Vec<String>,
    },
    /// Several RIMs of this version were given.
    #[error("several files can be the {kind} for `{id}`: {labels:?}; leave one of them")]
    RimAmbiguous {
        /// Which one.
        kind: RimKind,
        /// What NVIDIA calls it.
        id: String,
        /// Their labels.
        labels: Vec<String>,
    },
    /// A RIM does not hold.
    #[error("the {kind} `{label}` is refused: {error}")]
    Rim {
        /// Which one.
        kind: RimKind,
        /// What the caller calls it.
        label: String,
        /// Why.
        error: RimError,
    },
    /// Both RIMs claim the same measurements.
    #[error(
        "driver RIM and VBIOS RIM both claim the measurements {indexes:?}; they do not belong together"
    )]
    Overlap {
        /// Which.
        indexes: Vec<u8>,
    },
    /// The GPU runs something else than the RIMs say.
    #[error("{} measurements are not what the RIMs accept:{}", .0.len(), Lines(.0))]
    Measurements(Vec<Mismatch>),
    /// The state of a certificate is bad, or not known.
    #[error("revocation: {0}")]
    Revocation(OcspError),
}

/// One measurement that is not what a RIM accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its index in the RIM; the report's block is one more.
    pub index: u8,
    /// Which RIM speaks of it.
    pub rim: RimKind,
    /// What the RIM calls it.
    pub name: String,
    /// What the GPU measured; `None` if the report ends before it.
    pub got: Option<Digest48>,
    /// What the RIM accepts.
    pub accepted: Vec<Digest48>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "measurement {} ({}, {}): got ",
            self.index, self.name, self.rim
        )?;
        match self.got {
            Some(got) => write!(f, "{got}")?,
            None => f.write_str("none")?,
        }
        f.write_str(", accepted ")?;
        for (number, digest) in self.accepted.iter().enumerate() {
            let between = if number == 0 { "" } else { " or " };
            write!(f, "{between}{digest}")?;
        }
        Ok(())
    }
}

struct Lines<'a>(&'a [Mismatch]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|mismatch| {
            f.write_char('\n')?;
            write!(f, "  {mismatch}")
        })
    }
}

/// Why [`verify_bundle`](super::verify_bundle) refused a machine's GPUs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuBundleRefusal {
    /// Some GPUs are refused, each for its reason; positions are those of the bundle, from 0.
    #[error("{}", Numbered(.0))]
    Gpus(Vec<(usize, GpuRefusal)>),
    /// One GPU stands there twice.
    #[error(
        "GPU {second} of the list is GPU {first} again; a machine with fewer GPUs than it says"
    )]
    Twice {
        /// Where it stands first, from 0.
        first: usize,
        /// Where it stands again.
        second: usize,
    },
    /// The GPUs answer different questions.
    #[error("GPU {position} of the list was asked with another nonce than the first")]
    Nonces {
        /// The first one that differs, from 0.
        position: usize,
    },
}

struct Numbered<'a>(&'a [(usize, GpuRefusal)]);

impl fmt::Display for Numbered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (position, refusal)) in self.0.iter().enumerate() {
            if number > 0 {
                f.write_char('\n')?;
            }
            write!(f, "GPU {position}: {refusal}")?;
        }
        Ok(())
    }
}
