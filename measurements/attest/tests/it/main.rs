//! Quotes that are verified and refused.

mod common;
mod flips;
mod intel;
mod simulated;
mod tcb;
