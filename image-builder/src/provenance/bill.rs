//! The bill of materials: what an image is made of, as an SPDX document.
//!
//! SPDX 2.3 in JSON, and not 3.0: it is what scanners of vulnerabilities and licences read today, and its rules can be checked by the
//! reference validator. It asks for SHA-1 beside SHA-256 for each file; nothing here relies on SHA-1.
//!
//! Promises the same text for the same image and materials: identifiers are counted or made of names, the namespace of digests, and
//! the one date is that of the archive's release in the lock. **Lacks** licences of Debian packages, which say them in prose:
//! `NOASSERTION` is written where nothing is known.

mod check;
mod document;
mod purl;
mod spdx;

pub use check::{Bill, SbomError};
pub use document::document;
pub use purl::debian;
