//! The agent from outside: as a program, and over an in-memory stream.

mod epochs;
mod erased;
mod gpu;
mod ids;
mod leaving;
#[path = "../../../measurements/gpu/tests/it/made.rs"]
mod made;
mod memory;
mod money;
mod panics;
mod program;
mod rerank;
mod sampling;
mod secret;
mod serving;
mod status;
mod tdx_attest;
mod world;
