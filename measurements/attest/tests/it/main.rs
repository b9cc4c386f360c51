//! Quotes that are verified and refused.

mod common;
mod fault;
mod flips;
mod intel;
mod simulated;
mod tcb;
