//! Provenance: who says that an image was built, out of what, in a form that other tools read.
//!
//! ```text
//! Statement (in-toto v1, predicate SLSA provenance v1) ──signed──► Envelope (DSSE) ──opened with a key──► the statement's bytes
//! ```
//! The statement lists every file of an image by size and digest, so that one signature covers all of them, and is the index of a
//! published release. It has no time and no name of a machine: the same inputs make the same bytes.
//!
//! **Trusts** the Ed25519 of `ed25519-dalek`. **Promises** that the content of an envelope is not read by accident before its
//! signature was checked. A signature says who claims that an image came of these inputs. It never stands in for registers:
//! what a guest runs is judged by `measurements`, whoever signed.

mod envelope;
mod key;
mod statement;

pub use envelope::{Envelope, EnvelopeError, PAYLOAD_TYPE, pre_authentication_encoding};
pub use key::{KeyError, PublicKey, SecretKey};
pub use statement::{
    BUILD_TYPE, Dependency, Facts, PREDICATE_TYPE, STATEMENT_TYPE, Statement, StatementError,
    Subject,
};
