//! Collateral: what Intel and NVIDIA sign about platforms, fetched for clients who verify it themselves.
//!
//! ```text
//! client ──► routes, or the proxy's bundle ──► Depot ──► Cache (disk), as long as it holds
//!                                                  └────► sources in order, each checked before it is kept
//! ```
//! **Trusts** no source: what came is parsed and held against the question before it is kept, and the next source is asked
//! when it does not fit. No signature is checked here: a lie that keeps its shape reaches the client, whose verifier
//! refuses it.
//!
//! **Promises.** What is served was published for the thing asked and has not passed its own signed next update. One
//! question makes one fetch, however many ask. The cache holds whole answers only, whatever kills the program, and no
//! more bytes than it may. A failure names each source and what was wrong with it.
//!
//! **Lacks.** Anybody's belief, and a way to make an answer up.

mod ask;
mod cache;
mod depot;
mod fault;
mod intel;
mod nvidia;
mod ocsp;
mod routes;
mod want;

pub use cache::CacheError;
pub use depot::{Clock, Depot, Held};
pub use fault::{Fault, SourceFault, Unavailable};
pub use nvidia::rim_document;
pub use ocsp::OcspQuestion;
pub(crate) use routes::refusal;
pub use routes::{ServeError, router, serve};
pub use want::{RimId, Want, WantError};
