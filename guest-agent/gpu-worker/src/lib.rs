//! What asks the driver of a GPU, in a process apart from the agent's keys.
//!
//! **What it is.** The program `gpu-worker`. With `--gate` it loads NVIDIA's management library, sees to it that there is one GPU
//! with confidential computing on, hands its evidence to the agent that started it, and lets it take work when told to. With
//! `--serve` it runs the jobs of one model, by `engine`'s scheduler over a decoder on that GPU ([`cuda`]).
//!
//! **Trusts.** The library that it loads, as the agent's image has it. The agent on the other end of its standard input.
//!
//! **Promises.** The gate carries bytes and decides nothing about trust: whether a GPU signed them is for clients. Each reason not to is
//! named. It answers at most two requests and ends. The worker is confined before it reads its first message (`confine`), and ends
//! with its agent.
//!
//! **Lacks.** Keys, sockets of its own, an environment that it would obey. It was never run with a GPU: tests load libraries of their
//! own, and a worker that is named as simulated computes on the processor (unverified on hardware).

#![warn(missing_docs)]

mod confine;
pub mod cuda;
mod gate;
mod jobs;
mod nvml;

// The public interface is:
pub use gate::serve;
pub use jobs::{Computing, JobsError, serve_jobs};
pub use nvml::{LIBRARY, Nvml};
