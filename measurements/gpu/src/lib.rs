//! Whether an NVIDIA Hopper GPU is what it says: evidence, reference manifests and certificates, offline.
//!
//! **What it is.** A GPU signs measurements of its firmware under SPDM ([`GpuEvidence`]); NVIDIA signs what they should be, for each
//! driver and each VBIOS ([`Rim`]); [`verify`] compares. All in Rust, with `p384` for the signatures and `roxmltree` for the tree of an XML
//! file; SPDM, XML signatures and their canonical form are read here, certificates and OCSP by `pki`, strictly.
//!
//! **Trusts.** Two roots of NVIDIA's ([`GpuRoots`]), and the caller's clock.
//!
//! **Promises.** A [`Verified<Gpu>`](Verified) exists only if a device under the root signed, for the expected nonce, exactly what two
//! RIMs under the other root accept. All of it at one time, which is an argument.
//!
//! Without the feature `appraisal` it reads no RIM, and what it makes is [`Inspected`]: for guests, which have no clock to believe.
//!
//! **Lacks.** Other architectures than GH100, switches, NVIDIA's remote service and its tokens. It does not know which machine a GPU sits
//! in, nor whether confidential computing is on: the guest's measured driver says that. Files, sockets and a clock.

#![forbid(unsafe_code)]

mod chain;
mod evidence;
mod inspect;
pub mod limits;
mod ocsp;
mod refusal;
mod report;
#[cfg(feature = "appraisal")]
mod rim;
mod roots;
mod signatures;
#[cfg(feature = "appraisal")]
mod verify;
#[cfg(feature = "appraisal")]
mod xml;

// The public interface is:
pub use chain::ChainError;
pub use evidence::{EvidenceError, GpuBundle, GpuEvidence};
pub use inspect::{
    GpuNonce, GpuPolicy, Inspected, Revocation, inspect, inspect_bundle, inspect_without_clock,
};
pub use ocsp::{OcspError, OcspNonce, OcspResponses};
pub use pki::CertificateError;
pub use refusal::{GpuBundleRefusal, GpuRefusal, Mismatch, RimError, RimKind, XmlError};
pub use report::{GpuFeature, GpuFields, ReportError};
pub use roots::{GpuRootClass, GpuRoots, IsNvidia};
pub use signatures::Signatures;
#[cfg(feature = "appraisal")]
pub use {
    rim::Rim,
    verify::{Gpu, RimUsed, Verified, verify, verify_bundle, verify_with},
};
