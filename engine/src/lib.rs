//! Tokens in, tokens out: Burn models.
//!
//! **What it is.** Two kinds of model, run on the CPU by Burn: sentence embeddings (BERT, for all-MiniLM-L6-v2) and chat
//! (Llama), with the sampler. Text, configuration and roots belong to the crate `model`.
//!
//! **Trusts.** The files of a model once their root has been compared with a trusted one, and even then not to be well
//! formed: configuration, header and shapes are checked against each other before a model is built. Tokens of a caller
//! are checked against the vocabulary and the context.
//!
//! **Promises.** The same files, tokens and seed give the same tokens on the same machine. Bad files and bad requests
//! are typed errors that say whose fault they are. Weights are read into anonymous memory and never mapped from a file.
//!
//! **Lacks.** Text. Network, clock and randomness: a seed is an argument. Locking its memory against swapping: that is
//! left to the program (`mlockall`), because it covers more than weights. Batching, quantised weights and GPUs, for now.

pub mod backend;
pub mod bert;
pub mod cache;
pub mod chat;
pub mod embedder;
mod error;
pub mod forward;
pub mod llama;
pub mod sampler;
pub mod scheduler;
pub mod tensors;
pub mod weights;

pub use chat::{Chat, Finish, Generated, Step};
pub use embedder::Embedder;
pub use error::{EngineError, RequestError};
pub use forward::{BLOCK_TOKENS, BlockTable, Forward, ForwardShape, Row};
pub use sampler::Sampling;
