//! What the agent asks of the machine it runs in: extend a register, read the registers, quote.
//!
//! [`Tsm`] is the kernel's own interface, and with the feature `tdx-attest` `TdxAttest` is Intel's library. The simulated platform is
//! part of another binary, so that a production image holds no code that could talk to a simulator (SECURITY.md 6).

#[cfg(feature = "tdx-attest")]
mod tdx_attest;
mod tsm;

#[cfg(feature = "tdx-attest")]
pub use tdx_attest::{TdxAttest, TdxAttestError};
pub use tsm::Tsm;

use registers::{Digest48, Registers, ReportData};

/// A trust domain's own measurement and quoting.
pub trait Platform: Send + 'static {
    /// Whether a quote takes so long that it is asked for on a thread of its own.
    const QUOTES_BLOCK: bool = true;
    /// Extends RTMR3.
    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError>;
    /// MRTD and RTMR0 to RTMR3 as they are now.
    fn registers(&mut self) -> Result<Registers, PlatformError>;
    /// A quote over this report data.
    fn quote(&mut self, report_data: &ReportData) -> Result<Vec<u8>, PlatformError>;
}

/// The platform did not do what was asked. The machine, or what stands in for it, is at fault.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs)]
pub enum PlatformError {
    #[error("{doing}: {source}")]
    Io {
        doing: &'static str,
        source: std::io::Error,
    },
    #[error("{doing}: an answer of {got} bytes is not one of the expected length")]
    Answer { doing: &'static str, got: usize },
    #[error("{doing}: refused: {why}")]
    Refused { doing: &'static str, why: String },
    #[cfg(feature = "tdx-attest")]
    #[error("{0}: {1}")]
    TdxAttest(&'static str, TdxAttestError),
}
