//! The guest agent: opens sealed jobs inside the confidential VM, runs them, and signs what it did.
//!
//! **What it is.** Four stages that consume each other, `Booted -> Measured -> Attested -> Serving`, and what serving
//! takes: a replay cache, what each channel owes, the requests it answers, frames on a stream.
//!
//! **Trusts.** Its measured configuration, its platform's quote, the engine. It trusts no byte from the host: jobs are
//! sealed and signed, and the host may set only a short list that can slow it but not change what it does.
//!
//! **Promises.** Keys exist only after everything that is to be measured was measured, live in memory for one boot, and
//! wear out after a number of jobs. A job runs once. A receipt is signed only for what was done, and never above what
//! the envelope allows. Nothing derived from a prompt is logged.
//!
//! **Lacks.** A network: its one way out is the stream it is given (vsock in a VM). No clock it would believe, no
//! persistent secret, no child process but those that speak to a GPU, and, in the production binary, no code that could talk to a simulator.
//!
//! In a VM it is PID 1: there is no other program. When it ends, for whatever reason, the kernel panics and the machine
//! stops, with its keys.

// The feature calls functions of a library.
#![cfg_attr(not(feature = "tdx-attest"), forbid(unsafe_code))]

mod arguments;
mod bill;
mod boot;
mod chunked_writer;
mod devices;
mod epochs;
mod exposure;
mod gpu;
mod job;
mod jobs;
mod listen;
mod log;
mod memory;
mod models;
mod out;
pub mod platform;
mod replay;
mod run;
mod serve;
mod source;
mod start;
mod turn;
mod volume;
mod worker;

// The public interface is:
pub use self::gpu::GpuError;
pub use arguments::{Start, arguments};
pub use boot::{Attested, BootError, Booted, Measured};
pub use devices::DeviceError;
pub use listen::{Listen, ListenError};
pub use memory::MemoryError;
pub use models::ModelError;
pub use serve::Serving;
pub use source::{Connection, Source, SourceError};
pub use start::{quiet_panics, run};
