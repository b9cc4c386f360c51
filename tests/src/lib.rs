//! Scenarios: the whole product running on one machine, for the demo and for tests.
//!
//! **What it is.** [`Stack`] starts ledger, simulator, guest agent and proxy as they run in the field (the last three
//! as their own programs); [`scenario`] is one private answer over it, from attestation to payment; [`hostile`] is a host that
//! changes bytes on their way.
//!
//! **Trusts.** Nothing more than the programs do: it plays developer, provider and host, each with its own files.
//!
//! **Promises.** What it starts, it ends. It talks to loopback and to files of its own directory, and says in its output
//! what is simulated. Only the building of a guest [`Image`] fetches anything, by digest.
//!
//! **Lacks.** Any check of its own that decides trust: it reports what the programs found.

#![forbid(unsafe_code)]

pub mod gpu;
mod guest;
pub mod hostile;
pub mod image;
pub mod machine;
pub mod recorder;
pub mod report;
pub mod scenario;
pub mod stack;
pub mod tools;

// The public interface is:
pub use demo::{Programs, Tamper, workspace_root};
pub use gpu::StackGpu;
pub use image::Image;
pub use machine::Machine;
pub use stack::{Child, Stack, StackOptions};
