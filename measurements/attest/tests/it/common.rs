//! What the tests of this program share.

#![allow(unused_imports, reason = "each test module uses its part")]

#[path = "case.rs"]
mod case;
#[path = "../../../tests/common/vectors.rs"]
mod vectors;

pub use case::*;
pub use vectors::*;
