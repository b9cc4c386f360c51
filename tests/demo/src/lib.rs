//! **What it is.** `cargo demo`, as far as it goes before anything else is compiled: its options, the command that compiles the
//! programs, and the plan of steps with the time that each will take. The scenario itself is in package `tests`.
//!
//! **Trusts.** The cargo that runs it.
//!
//! **Promises.** It compiles in a second, so that a newcomer is told at once what is wrong with an option, what will be done
//! and how long it will take. The demo and the tests compile the programs with the same command.
//!
//! **Lacks.** Dependencies, and anything that a trust decision could rest on.

#![forbid(unsafe_code)]

mod options;
mod plan;
mod programs;

// The public interface is:
pub use options::{Options, Stop, Tamper};
pub use plan::{Plan, Step};
pub use programs::{Guest, Programs, workspace_root};
