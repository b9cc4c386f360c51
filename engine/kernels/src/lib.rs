//! Arithmetic of packed weights on the CPU.
//!
//! **What it is.** What a model computes most of its time, on slices of numbers: products with packed weights, norms, rotations,
//! attention, activations. [`path`] says which instructions compute it.
//!
//! **Trusts.** Its caller for the values. Shapes are checked against each other; a wrong one is a typed error.
//!
//! **Promises.** On one path a row's bits depend on that row, the weights and its keys and values alone: not on the rows beside
//! it, the number of threads or how a prompt was cut. No address, branch or length depends on a value.
//!
//! **Lacks.** Models, files, tokens and scheduling, which are the engine's.

mod activation;
mod activations;
mod attention;
mod dispatch;
mod error;
mod exp;
mod half;
mod kernels;
mod kv;
mod linear;
mod memory;
mod norm;
pub mod oblivious;
pub mod packed;
pub mod path;
mod pool;
mod rope;
pub mod sampling;
mod simd;

// The public interface is:
pub use attention::{Attend, AttendShape};
pub use error::KernelError;
pub use exp::exp;
pub use kernels::Kernels;
pub use kv::{BLOCK_TOKENS, KvCache, KvKind, KvShape};
pub use linear::Product;
pub use packed::{Kind, Packed};
pub use path::Path;
pub use pool::THREADS_MAX;
