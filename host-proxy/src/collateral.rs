//! Collateral: what Intel and NVIDIA sign about platforms and GPUs, fetched for clients, who verify it themselves.
//!
//! ```text
//! client ──► routes, or the proxy's bundle ──► CollateralCache ──► DiskCache, until what it holds expires
//!                                                  └─────────────► sources in order; each answer is checked, then kept
//! ```
//! **Trusts** no source: an answer is parsed and checked against its key before it is kept, and the next source is asked
//! when it does not fit. No signature is checked here: a well-formed forgery reaches the client, whose verifier refuses it.
//!
//! **Promises.** What is served was published for the key asked for and is before its own signed next update. Concurrent
//! requests for one key make one fetch. The cache holds whole answers only, whatever kills the program, and at most the
//! configured number of bytes. An error names each source and what was wrong with it.
//!
//! **Lacks.** A way to make an answer up.

mod cache;
mod disk_cache;
mod gpu;
pub(crate) mod http_client;
mod intel;
mod key;
mod nvidia;
mod routes;
mod source;
mod source_error;

pub use cache::{Clock, CollateralCache, Document};
pub use key::{CollateralKey, KeyError, OcspRequest, RimId};
pub use nvidia::rim_document;
pub use source_error::{SourceError, SourceFailure, Unavailable};

pub(crate) use routes::{router, serve};
pub(crate) use source::CollateralSource;
