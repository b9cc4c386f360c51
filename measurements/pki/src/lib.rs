//! A strict reader of DER, X.509 and OCSP.
//!
//! **What it is.** One certificate of NVIDIA's ([`Certificate`]), issuer and dates of any certificate or revocation list
//! ([`CertificateOutline`], [`RevocationListOutline`]), the certificates of a PEM text ([`pem`]), the messages of OCSP
//! ([`ocsp`]), and the values of DER below them ([`der`]). `attest` and `gpu` judge what is read here, `host-proxy` caches it.
//!
//! **Trusts.** `p384` for signatures, and nothing that it reads.
//!
//! **Promises.** One value has one encoding: a second one is refused. No input makes it panic, and no length is believed
//! before it is bounded.
//!
//! **Lacks.** Files, sockets and a clock: times are arguments. Chains and policies: it says what is written, not whether it
//! counts. The signatures in Intel's chains are for `dcap-qvl`.

#![forbid(unsafe_code)]

mod certificate;
pub mod der;
pub mod limits;
pub mod ocsp;
mod outline;
pub mod pem;

// The public interface is:
pub use certificate::{
    Basic, Certificate, CertificateError, DIGITAL_SIGNATURE, ECDSA_WITH_SHA384, Extensions,
    KEY_CERT_SIGN, SHA384, TcbInfo, verifies,
};
pub use der::{Der, Value, p384_signature};
pub use outline::{CertificateOutline, RevocationListOutline};
