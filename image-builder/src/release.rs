//! An image in the hands of somebody who did not build it: what it says, whether that is so, how two differ, and where.
//!
//! ```text
//! a published directory or URL ──fetch──► image ──verify──► Report      image, image ──diff──► changes
//!        (signature, then every digest)                              image, rebuilt image ──differences──► artifact, file, byte
//! ```
//! **Trusts** the key that the caller names, and nobody else. **Promises** that nothing of a release reaches its final place before the
//! signature over its list was checked and every byte held against that list.

mod changes;
mod differences;
mod directory;
mod published;
mod registers;
mod verify;

pub use changes::{Change, changes};
pub use differences::{Difference, differences};
pub use directory::Directory;
pub use published::{Source, fetch};
pub use registers::checks as register_checks;
pub use verify::{Check, Outcome, Report, SIGNATURE, check};
