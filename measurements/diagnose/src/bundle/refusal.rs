//! Why bytes are no bundle, and why a bundle is not believed.

use std::fmt;

use super::VERSION;
use crate::EventLogError;
use attest::{CollateralError, ManifestError, QuoteError, Refusal};
use gpu::{EvidenceError, GpuBundleRefusal, OcspError, RimError};
use registers::{Digest48, Register};

/// Why bytes are no bundle.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum BundleError {
    #[error("{what} has {got} bytes or entries, more than the {max} allowed")]
    OverLimit {
        what: &'static str,
        got: usize,
        max: usize,
    },
    #[error("this is no bundle")]
    NotABundle,
    #[error("this is not the one encoding that the bundle has (RFC 8949, section 4.2)")]
    NotCanonical,
    #[error("the bundle has version {got}; this program reads version {VERSION}")]
    Version { got: u64 },
}

/// A part of a bundle that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{part} of the bundle: {error}")]
pub struct PartError {
    /// Which.
    pub part: Part,
    /// What is wrong with it.
    pub error: Unreadable,
}

/// A part of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The quote.
    Quote,
    /// The collateral.
    Collateral,
    /// The manifest.
    Manifest,
    /// An event log, from 0.
    EventLog(usize),
    /// The evidence of the GPUs.
    GpuEvidence,
    /// A RIM, from 0.
    Rim(usize),
    /// The OCSP responses.
    Ocsp,
}

/// In what way a part cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
#[expect(missing_docs, reason = "each is named like the error that it holds")]
pub enum Unreadable {
    Quote(#[from] QuoteError),
    Collateral(#[from] CollateralError),
    Manifest(#[from] ManifestError),
    EventLog(#[from] EventLogError),
    Evidence(#[from] EvidenceError),
    Rim(#[from] RimError),
    Ocsp(#[from] OcspError),
}

/// Why a bundle is not believed. The first reason that was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum BundleRefusal {
    #[error(transparent)]
    Part(#[from] PartError),
    #[error("quote: {0}")]
    Quote(#[from] Refusal),
    #[error(
        "the manifest in the bundle describes another guest: {register} is {stated} there, and {quoted} in the quote"
    )]
    Manifest {
        register: Register,
        stated: Digest48,
        quoted: Digest48,
    },
    #[error("the quote binds other report data than the bundle says it does")]
    ReportData,
    #[error(
        "the event logs lead to {register} {replayed} by {events} events, and the quote has {quoted}"
    )]
    Replay {
        register: Register,
        replayed: Digest48,
        events: usize,
        quoted: Digest48,
    },
    #[error(
        "{events} events of the logs carry data that does not hash to their digest: that data was not measured"
    )]
    EventData { events: usize },
    #[error("GPUs: {0}")]
    Gpus(#[from] GpuBundleRefusal),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Quote => f.write_str("the quote"),
            Part::Collateral => f.write_str("the collateral"),
            Part::Manifest => f.write_str("the manifest"),
            Part::EventLog(number) => write!(f, "event log {number}"),
            Part::GpuEvidence => f.write_str("the GPU evidence"),
            Part::Rim(number) => write!(f, "RIM {number}"),
            Part::Ocsp => f.write_str("the OCSP responses"),
        }
    }
}
