//! What an agent and the process that computes on its GPU agree on, beyond messages: packets, jobs and events.
//!
//! **What it is.** The one way from a sealed request to a job of `engine`, which the agent takes for a model on the processor and
//! `gpu-worker` for one on the GPU; `engine`'s events as messages and back; a socket that keeps messages apart.
//!
//! **Trusts.** Nobody: what comes over the socket is bounded and decoded by `wire`.
//!
//! **Promises.** What `engine` says of a job comes out at the other end, up to why a job that never ran is refused.
//!
//! **Lacks.** Keys, files, processes.

#![forbid(unsafe_code)]

mod events;
mod job;
mod packets;

// The public interface is:
pub use events::{event, message, token};
pub use job::{job, kind};
pub use packets::{PacketError, Packets};
