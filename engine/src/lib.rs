//! Tokens in, tokens out: Burn models.
//!
//! **What it is.** Two kinds of model, run on the CPU by Burn: sentence embeddings (BERT, for all-MiniLM-L6-v2) and chat
//! (Llama, for the small model this repository trains itself), with their tokenizers, the chat template and the sampler.
//!
//! **Trusts.** The files of a model once their [`ModelRoot`] has been compared with a trusted one, and even then not to
//! be well formed: configuration, header and shapes are checked against each other before a model is built. It does not
//! trust a caller's text to be free of control tokens.
//!
//! **Promises.** The same files, request and seed give the same tokens on the same machine. A text cannot speak in
//! another role. Bad files and bad requests are typed errors that say whose fault they are. Weights are read into
//! anonymous memory and never mapped from a file.
//!
//! **Lacks.** Network, clock and randomness: a seed is an argument. Locking its memory against swapping: that is the
//! program's affair (`mlockall`), since it covers more than weights. Batching, quantised weights and GPUs, for now.

pub mod backend;
pub mod bert;
pub mod chat;
pub mod embedder;
pub mod error;
pub mod limits;
pub mod llama;
pub mod sampler;
pub mod template;
pub mod tensors;
mod text;
pub mod weights;

pub use chat::{Chat, Finish, Generated, Step};
pub use embedder::{Embedder, Embedding};
pub use error::{EngineError, ModelError, RequestError};
pub use sampler::Sampling;
pub use template::{Message, Role};
pub use weights::{ModelFiles, ModelRoot, WeightsError};
