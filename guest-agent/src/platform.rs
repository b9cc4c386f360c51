//! What the agent asks of the machine it runs in: extend a register, read the registers, quote.
//!
//! One implementation lives here: [`Tsm`], the kernel's own interface. The simulated platform is part of another binary,
//! so that a production image holds no code that could talk to a simulator (SECURITY.md 6).

mod tsm;

pub use tsm::Tsm;

use registers::{Digest48, Registers, ReportData};

/// A trust domain's own measurement and quoting.
pub trait Platform: Send + 'static {
    /// Extends RTMR3.
    fn extend(&mut self, digest: &Digest48) -> Result<(), PlatformError>;
    /// MRTD and RTMR0 to RTMR3 as they are now.
    fn registers(&mut self) -> Result<Registers, PlatformError>;
    /// A quote over this report data.
    fn quote(&mut self, report_data: &ReportData) -> Result<Vec<u8>, PlatformError>;
}

/// The platform did not do what was asked. The machine, or what stands in for it, is at fault.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// An interface of the kernel, or the simulator's socket, failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's error.
        source: std::io::Error,
    },
    /// It answered with something that is no answer.
    #[error("{doing}: the answer has {got} bytes")]
    Answer {
        /// What was being done.
        doing: &'static str,
        /// The answer's length.
        got: usize,
    },
    /// It refused.
    #[error("{doing}: refused: {why}")]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// Its reason.
        why: String,
    },
}
