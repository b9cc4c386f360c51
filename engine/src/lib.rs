//! Tokens in, tokens out: language models on packed weights.
//!
//! **What it is.** Decoders of several families ([`decoder`]) and BERT ([`encoder`]) on the kernels of the crate `kernels`, as extensions
//! of a Burn backend; the same models as plain Burn modules ([`reference`](mod@reference)); the scheduler. The sampler is that of `kernels`. Text,
//! configuration, files of weights and roots belong to the crate `model`.
//!
//! **Trusts.** The files of a model once their root has been compared with a trusted one, and even then not to be well
//! formed: configuration, header and shapes are checked against each other before a model is built. Tokens of a caller
//! are checked against the vocabulary and the context.
//!
//! **Promises.** The same files, tokens and seed give the same tokens on the same set of instructions: bits of scores do not depend on
//! threads, on other jobs, or on how a prompt was divided. Bad files and bad requests are typed errors that say whose fault they
//! are. Weights are read into anonymous memory and never mapped from a file.
//!
//! **Lacks.** Text. Network, clock and randomness: a seed is an argument. Locking its memory against swapping: that is
//! left to the program (`mlockall`), because it covers more than weights. GPUs, for now.

pub mod backend;
pub mod cache;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod decoder;
pub mod embedder;
pub mod encoder;
mod error;
pub mod forward;
pub mod memory;
pub mod packed;
mod parallel_file;
pub mod reference;
pub mod scheduler;
pub mod scorer;
pub mod served;
pub mod weights;

pub use embedder::Embedder;
pub use error::{EngineError, RequestError};
pub use forward::{BLOCK_TOKENS, Before, BlockTable, Choosers, Forward, ForwardShape, Row};
pub use kernels::{Kernels, Kind, sampling};
pub use memory::{Memory, Needs};
pub use packed::Packing;
pub use scorer::Scorer;
pub use served::{Room, Served, kernels_of};
