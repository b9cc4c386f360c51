//! Everything that is tested from outside, in one binary.

mod attest;
mod common;
mod gpu_guest;
#[path = "../../../measurements/gpu/tests/it/made.rs"]
mod made;
mod receipt;
mod transcript;
mod vectors;
