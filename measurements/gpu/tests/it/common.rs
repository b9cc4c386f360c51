//! What the tests of this program share.

#![allow(unused_imports, reason = "each test module uses its part")]

#[path = "../../../tests/common/vectors.rs"]
mod vectors;

pub use vectors::*;
