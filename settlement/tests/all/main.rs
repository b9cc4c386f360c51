//! Everything that is tested from outside, in one binary.

mod contracts;
mod registry;
mod statements;
mod vectors;
