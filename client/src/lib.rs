//! The developer's sidecar and SDK: private answers with a proof and a price.
//!
//! **What it is.** A library that attests a worker, seals jobs to it, recounts and verifies what comes back and pays for
//! it ([`Client`], stage by stage in [`job`]), and a program that offers this as the OpenAI API and the Anthropic API on
//! the loopback.
//!
//! **Trusts.** Its own disk, clock and random source, the configuration of its owner, and a worker only once
//! `attest::verify` has made a peer of it. It trusts the proxy to carry bytes, and the TON node for what a
//! channel's address does not already prove.
//!
//! **Promises.** Plaintext leaves only under the seal to an attested key. Nothing is paid that was not verified and
//! counted here, never above the deposit, and a voucher is on disk before it is sent. A proxy that dies or lies gives
//! a typed error that says whose fault it is and whether the job may have run, or a whole verified answer.
//!
//! **Lacks.** Several workers to choose from. It hides neither the payer's key, the model,
//! the size bucket nor the timing of a job.

#![forbid(unsafe_code)]

mod anthropic;
pub mod ask;
pub mod attestation;
pub mod budget;
pub mod chain;
pub mod check;
mod choices;
pub mod cli;
mod client;
mod completion;
pub mod config;
mod error;
mod files;
pub mod job;
mod kept;
pub mod limits;
mod objects;
mod off_thread;
pub mod openai;
pub mod serve;
mod session;
mod shape;
pub mod tokens;
pub mod transport;
pub mod trust;
mod vectors;
pub mod verdict;

// The public interface is:
pub use attestation::{Attestation, Verifier, verify};
pub use budget::{Budget, BudgetError, Spender};
pub use client::{Answer, Client, Sink, channel_address};
pub use config::{Config, ConfigError};
pub use error::{ClientError, Executed, Fault};
pub use files::api_key;
pub use job::{Answered, Answering, Job, Payment, Prepared, Sealed, Unfinished, VerifiedAnswer};
pub use session::{Session, Shared};
pub use tokens::model_root;
pub use transport::Transport;
pub use wire::Endpoint;
