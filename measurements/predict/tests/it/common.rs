//! What the tests of this program share.

#![allow(unused_imports, reason = "each test module uses its part")]

#[path = "made.rs"]
pub mod made;
#[path = "platform.rs"]
mod platform_of;
#[path = "../../../tests/common/vectors.rs"]
mod vectors;

pub use platform_of::*;
pub use vectors::*;
