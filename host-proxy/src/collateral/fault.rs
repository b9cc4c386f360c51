//! What can be wrong with a source, in words that say whose fault it is and what to do.

use super::want::Want;
use attest::CollateralPart;
use std::fmt;

/// Why one source's answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No connection, or none that lasted until an answer.
    #[error("cannot be reached ({0}); look at its address, the network and the service's state")]
    Network(String),
    /// No whole answer in time, whether silent or dripping.
    #[error(
        "gave no whole answer within {after_ms} ms; if it is merely slow, raise its `timeout_ms`"
    )]
    Slow {
        /// The time that it had.
        after_ms: u64,
    },
    /// The body ended early.
    #[error("was cut off inside its answer ({0}); the network or the service is at fault")]
    Cut(String),
    /// Not 200.
    #[error("answered with status {0}; the service is at fault, or does not have it")]
    Status(u16),
    /// It says to ask elsewhere. Only the operator says whom to ask.
    #[error(
        "redirects to `{0}`, which is not followed; if it has moved, write the new address into the configuration"
    )]
    Redirect(String),
    /// A web page, most often of a captive portal or of a proxy.
    #[error("sent `{0}`, not what was asked for; look for a portal or proxy on the way")]
    ContentType(String),
    /// More than anything of its kind has.
    #[error(
        "sent more than {bytes_max} bytes, which nothing of its kind has; the service is at fault"
    )]
    TooLong {
        /// The limit.
        bytes_max: u64,
    },
    /// Not of the documented form.
    #[error("sent a {what} that is not understood ({detail}); the service is at fault")]
    Malformed {
        /// Which part of the answer.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// An answer to another question.
    #[error("answered about {got}, asked was {asked}; the service is at fault, do not use it")]
    Other {
        /// What it answered about.
        got: String,
        /// What it was asked about.
        asked: String,
    },
    /// It has expired.
    #[error(
        "sent a {what} that expired at {at_unix_s} (seconds since 1970); the service is behind, or this host's clock is ahead"
    )]
    Expired {
        /// Which part.
        what: &'static str,
        /// Its next update.
        at_unix_s: u64,
    },
    /// It is from the future.
    #[error(
        "sent a {what} issued at {at_unix_s} (seconds since 1970), which is to come; set this host's clock"
    )]
    FromTheFuture {
        /// Which part.
        what: &'static str,
        /// Its date.
        at_unix_s: u64,
    },
    /// Collateral from before what is already held.
    #[error(
        "sent collateral with evaluation number {got}, while {held} is known; the service is behind, or hides an advisory"
    )]
    Older {
        /// Its number.
        got: u32,
        /// The number known.
        held: u32,
    },
    /// An OCSP answer that is a refusal (RFC 6960, section 4.2.1).
    #[error("refuses to say (OCSP status {0}); ask again later")]
    OcspRefused(u8),
    /// An OCSP answer made for another request.
    #[error("sent an OCSP answer with the nonce of another request; the service replays")]
    Replayed,
    /// Too many other questions are under way.
    #[error("was not asked, since too many other questions wait; ask again in a moment")]
    Busy,
    /// This program failed.
    #[error("failed ({0}); please report it")]
    Internal(String),
    /// A file of ours.
    #[error("cannot be read ({0})")]
    Disk(String),
}

/// A source and what was wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFault {
    /// As the configuration names it.
    pub source: String,
    /// What was wrong.
    pub fault: Fault,
}

/// Nothing that still holds is at hand, and no source gave anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable {
    /// What was asked for.
    pub want: Want,
    /// Each source that was asked, in order.
    pub faults: Vec<SourceFault>,
    /// When what the cache holds expired, if it holds anything.
    pub expired_at_unix_s: Option<u64>,
}

impl Fault {
    /// Whether the same question may get an answer a moment later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Fault::Network(_) | Fault::Cut(_) => true,
            Fault::Status(status) => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    /// A malformed part.
    pub(super) fn malformed(what: &'static str, detail: impl fmt::Display) -> Fault {
        // A stranger's words may be long.
        let detail = detail.to_string().chars().take(160).collect();
        Fault::Malformed { what, detail }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not to be had", self.want)?;
        if let Some(at) = self.expired_at_unix_s {
            write!(
                f,
                ", and what the cache has expired at {at} (seconds since 1970)"
            )?;
        }
        if self.faults.is_empty() {
            return write!(f, ": the configuration names no source for it");
        }
        for SourceFault { source, fault } in &self.faults {
            write!(f, "; {source} {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unavailable {}

/// The name of a part as a fault carries it.
pub(super) fn part_name(part: CollateralPart) -> &'static str {
    match part {
        CollateralPart::TcbInfo => "TCB info",
        CollateralPart::QeIdentity => "QE identity",
        CollateralPart::PckCrl => "PCK revocation list",
        CollateralPart::RootCrl => "root revocation list",
    }
}
