//! Passes over memory that no address, branch or length of depends on a secret.
//!
//! **What it is.** Masks, vectors of sixteen lanes, the best of many scores, and rows of a table by number: each reads all that
//! there is, in order, and keeps what it wants by masks.
//!
//! **Trusts.** The compiler not at all: masks are hidden from it ([`mask`]), loads are whole ([`wide`]), and tests look at what
//! it made (`tests/constant.rs`).
//!
//! **Promises.** Who sees every address and every instruction of these functions learns lengths and options, never a token or
//! a score. [`mask::declassify`] is the one exception, a bit at a time.

pub mod argmax;
mod carry;
mod embed;
mod gather;
pub mod mask;
pub mod rows;
pub mod wide;

// The public interface is:
pub use argmax::{Best, argmax};
pub use carry::Choices;
