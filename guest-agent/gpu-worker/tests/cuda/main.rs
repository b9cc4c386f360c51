//! The kernels and the decoder under an EMULATION on the host, and on a GPU where there is one.

#[path = "../../../../engine/tests/engine/checkpoint.rs"]
mod checkpoint;
mod decoder;
mod device;
mod emulated;
mod flex;
