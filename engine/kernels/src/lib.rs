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

pub mod path;

// The public interface is:
pub use path::Path;
