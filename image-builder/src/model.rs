//! A model as a volume: a directory in the form of Hugging Face's becomes a disk that a guest believes by one hash.
//!
//! ```text
//! DIR (untrusted files)  -> Directory (every file allowed, by digest) -> OUT: model.img      EROFS, and a dm-verity tree behind it
//!                                                                           model.json     root hash, salt, files: a claim
//!                                                                           model.sig.json the files in the form of OpenSSF Model Signing
//! ```
//! **Trusts** nobody's directory: what may be in it is a closed list ([`Directory`]), and each file is what its name says, as the crate
//! `model` judges it (a volume's files are judged again by [`verify`]); of a model in GGUF the small files are made ([`crate::formats::gguf`]). **Promises** that the same files make the same bytes, whatever their order, times, owners and modes on the disk; that
//! the output directory is whole or as it was; that memory does not grow with the weights. [`verify`] believes no byte of a volume
//! that is not checked against its description, and the description is checked against nothing but a root hash that the caller has.
//!
//! **Lacks** an opinion of the model: which one it is, whether an engine has its architecture, and who made it. A signature over the statement says who
//! says so.

mod bundle;
mod description;
mod directory;
mod loaded;
mod pack;
mod refused;
mod signed_files;
mod verify_volume;

pub use ::model::volume::{Description, Tool, VolumeFile};
pub use bundle::{ModelSigner, ModelVerifier};
pub use description::parse_description;
pub use directory::{ALWAYS_LEFT_OUT, Directory};
pub use pack::{claim, pack};
pub use signed_files::{PREDICATE_TYPE, STATEMENT_TYPE, Statement};
pub use verify_volume::verify;

/// What is being done, for a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// Something begins; [`Step::Bytes`] counts up to `total`.
    Begin {
        /// For people.
        what: &'a str,
        /// Bytes in all.
        total: u64,
    },
    /// Bytes done of what began last.
    Bytes(u64),
}

/// Names in a volume's directory.
pub const VOLUME: &str = "model.img";
/// See [`VOLUME`].
pub const DESCRIPTION: &str = "model.json";
/// See [`VOLUME`].
pub const SIGNATURE: &str = "model.sig.json";
