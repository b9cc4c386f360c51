//! What the tests of this program share.

#![allow(unused_imports, reason = "each test module uses its part")]

#[path = "../../../attest/tests/it/case.rs"]
mod case;
#[path = "../../../predict/tests/it/image.rs"]
pub mod image;
#[path = "../../../predict/tests/it/made.rs"]
pub mod made;
#[path = "../../../predict/tests/it/platform.rs"]
mod platform_of;
#[path = "../../../tests/common/vectors.rs"]
mod vectors;

pub use case::*;
pub use platform_of::*;
pub use vectors::*;
