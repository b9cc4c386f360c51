//! A simulated TDX module that signs with a test root of trust.
//!
//! **What it is.** A program, and a library for tests, that stands where a TDX module, a quoting enclave and Intel's
//! certificate service stand on real hardware: it holds registers and signs quotes of the real format under a root
//! made for this run ([`SimulatedModule`]).
//!
//! **Trusts.** Whoever started it. It believes every request on its socket, as hardware believes the guest.
//!
//! **Promises.** Quotes and collateral have the real formats and go through the same verifier as Intel's. Keys are
//! made per run, live in memory and are never written. Every certificate, quote and file says that it is simulated.
//! Lengths on the socket are limited before they are believed.
//!
//! **Lacks.** Any confidentiality, any secret of Intel's, any use in production: a production agent has no code that
//! speaks to it, and a verifier must name its root as an insecure test root.

mod asn1;
mod collateral;
mod flaws;
mod key;
pub mod limits;
mod module;
mod pki;
pub mod protocol;
mod quote;
mod server;

pub use flaws::{Flaws, Platform};
pub use module::{SimulatedModule, SimulatorError};
pub use server::{ServeError, serve};
