//! A strict reader of DER, X.509 and OCSP.
//!
//! **What it is.** The values of DER ([`Der`]) as certificates and OCSP messages have them, and OCSP messages ([`ocsp`]).
//!
//! **Trusts.** Nothing that it reads.
//!
//! **Promises.** One value has one encoding: a second one is refused. No input makes it panic, and no length is believed
//! before it is bounded.
//!
//! **Lacks.** Files, sockets and a clock: times are arguments.

#![forbid(unsafe_code)]

pub mod der;
pub mod ocsp;

// The public interface is:
pub use der::{Der, Value, p384_signature};
