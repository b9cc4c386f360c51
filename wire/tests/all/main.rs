//! Everything that is tested from outside, in one binary.

mod attest;
mod common;
mod receipt;
mod transcript;
mod vectors;
