//! Why a GPU was not believed. One variant per reason, so that a test can compare and a person can act.

use std::fmt::{self, Write};

use super::{ChainError, OcspError};
use registers::Digest48;

/// Why [`verify`](super::verify) refused a GPU.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum GpuRefusal {
    #[error("the device's certificate chain does not hold: {0}")]
    Chain(ChainError),
    #[error(
        "the device's chain goes through `{got}`, which is no authority of Hopper GPUs (GH100)"
    )]
    Architecture { got: String },
    #[error(
        "the report was changed or forged: the device's key did not sign it; do not send the machine anything"
    )]
    ReportSignature,
    #[error("the report names the firmware {got:?}, and the certificate of its key {certified:?}")]
    Firmware {
        got: Option<Digest48>,
        certified: Option<Digest48>,
    },
    #[error(
        "the certificate of the report's key tells of another device's firmware than its issuer's"
    )]
    FirmwareOfAnotherDevice,
    #[error(
        "the evidence was made for the nonce {}, not for {}; it is old, or of another verifier's question",
        hex::encode(got),
        hex::encode(expected)
    )]
    Nonce { got: [u8; 32], expected: [u8; 32] },
    #[error("no {kind} for `{id}` was given; those given are {offered:?}")]
    RimAbsent {
        kind: RimKind,
        id: String,
        offered: Vec<String>,
    },
    #[error("several files can be the {kind} for `{id}`: {labels:?}; leave one of them")]
    RimAmbiguous {
        kind: RimKind,
        id: String,
        labels: Vec<String>,
    },
    #[error("the {kind} `{label}` is refused: {error}")]
    Rim {
        kind: RimKind,
        label: String,
        error: RimError,
    },
    #[error(
        "driver RIM and VBIOS RIM both claim the measurements {indexes:?}; they do not belong together"
    )]
    Overlap { indexes: Vec<u8> },
    #[error("{} measurements are not what the RIMs accept:{}", .0.len(), Lines(.0))]
    Measurements(Vec<Mismatch>),
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
#[expect(missing_docs)]
pub enum GpuBundleRefusal {
    #[error("{}", Numbered(.0))]
    Gpus(Vec<(usize, GpuRefusal)>),
    #[error(
        "GPU {second} of the list is GPU {first} again; a machine with fewer GPUs than it says"
    )]
    Twice { first: usize, second: usize },
    #[error("GPU {position} of the list was asked with another nonce than the first")]
    Nonces { position: usize },
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

/// Why a RIM is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum RimError {
    #[error("as XML: {0}")]
    Xml(#[from] XmlError),
    #[error("it does not have exactly one signature, laid out as NVIDIA's are: {what}")]
    Signature { what: &'static str },
    #[error("it is not a list of SHA-384 digests: {what}")]
    Payload { what: &'static str },
    #[error("its certificate chain: {0}")]
    Chain(#[from] ChainError),
    #[error(
        "its content was changed after it was signed: the digest is not the one that was signed"
    )]
    Digest,
    #[error("its signature does not hold")]
    BadSignature,
}

/// Which of the two a RIM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RimKind {
    /// Of the driver, which brings most of the GPU's firmware.
    Driver,
    /// Of the VBIOS.
    Vbios,
}

impl fmt::Display for RimKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RimKind::Driver => "driver RIM",
            RimKind::Vbios => "VBIOS RIM",
        })
    }
}

/// Why a text is no XML of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum XmlError {
    #[error("it has {got} bytes, more than the {max} allowed")]
    TooLong { got: usize, max: usize },
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it has a {what}, which no RIM needs")]
    Forbidden { what: &'static str },
    #[error("it is not well-formed: {detail}")]
    Malformed { detail: String },
}
