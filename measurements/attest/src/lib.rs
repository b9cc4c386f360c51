//! Whether a peer is the TDX guest that its verifier expects: what a client audits.
//!
//! **What it is.** The one function that turns evidence into a peer, [`verify`], with what it takes: a quote, Intel's
//! [`Collateral`], a [`Policy`], a [`Root`]; and the [`Manifest`] of the registers that a guest should have.
//!
//! **Trusts.** One [`Root`] certificate named by the caller, Intel's by default; `dcap-qvl` for the certificate
//! chains, the signatures and the TCB levels; the caller's clock. Quotes, collateral and manifests come from
//! untrusted parties, and nothing in them is trusted until [`verify`] returns.
//!
//! **Promises.** A [`Verified<Peer>`](Verified) exists only if a quote was signed under the root, every attribute
//! of the guest is what the [`Policy`] allows, its registers are exactly ones the policy lists, and it bound the
//! caller's [`ReportData`](registers::ReportData). The same bytes and the same time give the same answer. No input makes
//! it panic, and no length is believed before it is bounded.
//!
//! **Lacks.** Files, sockets, a clock, a random source: time and collateral are arguments. It fetches no collateral, knows
//! no receipts, and cannot tell whether an attestation key was extracted from its platform. A peer is judged by its quote, a
//! GPU by its own evidence (crate `gpu`); what binds one to the other is not judged here.

#![forbid(unsafe_code)]

mod collateral;
mod collateral_claims;
pub mod limits;
mod manifest;
mod platform_family;
mod policy;
mod quote;
mod quote_file;
mod refusal;
mod root;
mod verify;

// The public interface is:
pub use collateral::{Collateral, CollateralError};
pub use collateral_claims::{ClaimError, CollateralClaims, CollateralDates, CollateralPart};
pub use manifest::{GuestImage, Manifest, ManifestError, Mode, Profile};
pub use platform_family::{PckCa, Platform, PlatformError};
pub use policy::{Advisories, Policy, PolicyError, TcbStatus};
pub use quote::{Extended, Quote, QuoteError, ReportType, TdReport};
pub use quote_file::{FileKind, QuoteFileError, bytes_of_text, quote_in_file};
pub use refusal::{Fault, QuoteCertificate, Refusal};
pub use root::{Root, RootClass, RootError};
pub use verify::{Comparison, Inspected, Peer, Verified, inspect, verify};
