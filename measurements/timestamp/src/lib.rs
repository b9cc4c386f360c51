//! Time-stamps of an authority: how one is asked for, and what it proves.
//!
//! **What it is.** The request and the token of RFC 3161 with RFC 5816, for SHA-256 digests. Clients verify with it when a tree of a
//! provider's log existed at the latest, and the proxy what it keeps.
//!
//! **Trusts.** `rustls-webpki` with *ring* for chains and signatures, `pki` for DER, and the authorities whose roots its caller names.
//!
//! **Promises.** A [`Timestamp`] is made by [`Authorities::verify`] alone. No input makes it panic, and no length is believed before
//! it is bounded.
//!
//! **Lacks.** Files, sockets and a clock. Revocation of an authority's certificates. Signers that are named by SHA-1.

#![forbid(unsafe_code)]

pub mod limits;
mod token;

// The public interface is:
pub use token::{Authorities, Timestamp, TimestampError, request, token};
