//! A strict reader of DER, X.509 and OCSP.
//!
//! **What it is.** One certificate of NVIDIA's ([`Certificate`]), issuer and dates of any certificate or revocation list
//! ([`CertificateOutline`], [`RevocationListOutline`]), the certificates of a PEM text ([`pem`]), the messages of OCSP
//! ([`ocsp`]), time-stamps (feature `timestamp`), and the values of DER below them ([`der`]). `attest` and `gpu` judge what is read here, `host-proxy` caches it.
//!
//! **Trusts.** `p384`, and `rustls-webpki` with *ring*, for signatures, and nothing that it reads.
//!
//! **Promises.** One value has one encoding: a second one is refused. No input makes it panic, and no length is believed
//! before it is bounded.
//!
//! **Lacks.** Files, sockets and a clock: times are arguments. Chains and policies: it says what is written, not whether it
//! counts; of time-stamps `rustls-webpki` says it. The signatures in Intel's chains are for `dcap-qvl`.

#![forbid(unsafe_code)]

mod certificate;
pub mod der;
pub mod limits;
pub mod ocsp;
mod outline;
pub mod pem;
#[cfg(feature = "timestamp")]
pub mod timestamp;

// The public interface is:
pub use certificate::{
    Basic, Certificate, CertificateError, DIGITAL_SIGNATURE, ECDSA_WITH_SHA384, Extensions,
    KEY_CERT_SIGN, SHA384, TcbInfo, verifies,
};
pub use der::{Der, Value, p384_signature};
pub use outline::{CertificateOutline, RevocationListOutline};
