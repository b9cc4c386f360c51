//! Provenance: who says that an image was built, and out of what, in forms that other tools read.
//!
//! ```text
//! manifest.json ─┐
//! the files ─────┼─► sbom.spdx.json (SPDX) ─┐
//! Materials ─────┤                          ├─► provenance.json (in-toto v1, SLSA v1) ──key──► provenance.dsse.json (DSSE)
//!                └──────────────────────────┘
//! ```
//! The statement lists every file of an image by size and digest, so that one signature covers all of them, and is the index of a
//! published release. It has no time and no name of a machine: the same image and materials give the same bytes. Without a key there
//! is no envelope, and whoever asks is told so.
//!
//! **Trusts** the Ed25519 of `ed25519-dalek`. **Promises** that the content of an envelope is not read by accident before its
//! signature was checked. A signature says who claims that an image came of these inputs. It never stands in for registers:
//! what a guest runs is judged by its registers, whoever signed.

mod bill;
mod envelope;
mod key;
mod materials;
mod statement;
mod write;

pub use bill::{Bill, SbomError};
pub use envelope::{Envelope, EnvelopeError, PAYLOAD_TYPE, pre_authentication_encoding};
pub use key::{KeyError, PublicKey, SecretKey};
pub use materials::{DebianPackage, Input, Materials, ModelInput, Sha1s};
pub use statement::{
    BUILD_TYPE, Dependency, Facts, PREDICATE_TYPE, STATEMENT_TYPE, Statement, StatementError,
    Subject,
};
pub(crate) use write::read;
pub use write::{sha1_of_stream, sign, write};

/// The manifest of the image.
pub const MANIFEST: &str = "manifest.json";
/// The kernel's command line.
pub const CMDLINE: &str = "cmdline";
/// The bill of materials.
pub const SBOM: &str = "sbom.spdx.json";
/// The statement, as it is signed.
pub const STATEMENT: &str = "provenance.json";
/// The envelope.
pub const ENVELOPE: &str = "provenance.dsse.json";
