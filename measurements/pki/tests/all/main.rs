//! What needs no insight into the crate.

#[cfg(feature = "timestamp")]
mod authority;
#[cfg(feature = "timestamp")]
mod timestamp;
