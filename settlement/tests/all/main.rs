//! Everything that is tested from outside, in one binary.

mod contracts;
mod statements;
mod vectors;
