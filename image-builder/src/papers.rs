//! The papers beside an image: bill of materials, provenance, and the signed envelope around the latter.
//!
//! ```text
//! manifest.json ─┐
//! the files ─────┼─► sbom.spdx.json ─┐
//! Materials ─────┤                   ├─► provenance.json ──key──► provenance.dsse.json
//!                └───────────────────┘
//! ```
//! Promises the same bytes for the same image and materials. Without a key there is no envelope, and whoever asks is told so.

mod gather;
mod materials;
mod write;

pub use gather::gather;
pub use materials::{DebianPackage, Input, Materials, ModelInput, Sha1s};
pub use write::{Kept, PaperError, sha1_of_stream, sign, write};

/// The bill of materials.
pub const SBOM: &str = "sbom.spdx.json";
/// The statement, as it is signed.
pub const STATEMENT: &str = "provenance.json";
/// The envelope.
pub const ENVELOPE: &str = "provenance.dsse.json";
