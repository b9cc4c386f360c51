//! Why a source's answer was not taken, and why a key is not available at all.

use super::key::CollateralKey;
use attest::CollateralPart;
use std::fmt;

/// Why one source's answer was not taken. It prints as what follows the source's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs)]
pub enum SourceError {
    #[error("cannot be reached ({0}); check its address, the network and the service")]
    Network(String),
    #[error("sent no complete answer within timeout_ms = {after_ms}; a slow source needs more")]
    Timeout { after_ms: u64 },
    #[error("closed the connection in the middle of its answer ({0})")]
    Truncated(String),
    #[error("answered with HTTP status {0}")]
    Status(u16),
    #[error("redirects to `{0}`; redirects are not followed: configure the new address")]
    Redirect(String),
    #[error("sent Content-Type `{0}`; a captive portal or HTTP proxy may have answered instead")]
    ContentType(String),
    #[error("sent more than the {bytes_max} bytes that such an answer may have")]
    TooLong { bytes_max: u64 },
    #[error("sent a {what} that cannot be parsed ({detail})")]
    Malformed { what: &'static str, detail: String },
    #[error("answered for {got} instead of {asked}")]
    Mismatch { got: String, asked: String },
    #[error(
        "sent a {what} that expired at {at_unix_s} (Unix time); if it is current, this host's clock is ahead"
    )]
    Expired { what: &'static str, at_unix_s: u64 },
    #[error(
        "sent a {what} issued in the future, at {at_unix_s} (Unix time); check this host's clock"
    )]
    NotYetValid { what: &'static str, at_unix_s: u64 },
    #[error("sent TCB evaluation number {got}, lower than {cached} in the cache")]
    Older { got: u32, cached: u32 },
    #[error("refused with OCSP status {0}; retry later")]
    OcspStatus(u8),
    #[error("sent an OCSP answer with another request's nonce: it replays answers")]
    Replay,
    #[error("was not asked: too many fetches are waiting; retry later")]
    Busy,
    #[error("failed inside host-proxy ({0}); please report it")]
    Internal(String),
    #[error("cannot be read ({0})")]
    File(String),
}

/// A source, as the configuration names it, and why its answer was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct SourceFailure {
    pub source: String,
    pub error: SourceError,
}

/// The cache has nothing valid for a key, and no source gave anything.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs)]
pub struct Unavailable {
    pub key: CollateralKey,
    /// Each source that was asked, in order.
    pub failures: Vec<SourceFailure>,
    /// When the cached answer expired, if there is one.
    pub expired_at_unix_s: Option<u64>,
}

impl SourceError {
    /// Whether a retry a moment later may succeed.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            SourceError::Network(_) | SourceError::Truncated(_) => true,
            SourceError::Status(status) => *status >= 500 || *status == 429,
            _ => false,
        }
    }

    pub(super) fn malformed(what: &'static str, detail: impl fmt::Display) -> SourceError {
        // It may quote the source, which may send anything.
        let detail = detail.to_string().chars().take(160).collect();
        SourceError::Malformed { what, detail }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not available", self.key)?;
        if let Some(at) = self.expired_at_unix_s {
            write!(f, ", and the cached copy expired at {at} (Unix time)")?;
        }
        if self.failures.is_empty() {
            return write!(f, ": the configuration lists no source for it");
        }
        for SourceFailure { source, error } in &self.failures {
            write!(f, "; {source} {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Unavailable {}

pub(super) fn part_name(part: CollateralPart) -> &'static str {
    match part {
        CollateralPart::TcbInfo => "TCB info",
        CollateralPart::QeIdentity => "QE identity",
        CollateralPart::PckCrl => "PCK revocation list",
        CollateralPart::RootCrl => "root revocation list",
    }
}
