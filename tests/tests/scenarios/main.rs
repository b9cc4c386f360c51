//! The whole product on one machine, and the image that it boots. One program, so that it is linked once and that what waits
//! for a machine to boot runs beside something else.

mod common;

#[path = "../../../measurements/timestamp/tests/all/authority.rs"]
mod authority;
mod covered;
mod demo;
#[path = "../../../guest-agent/gpu-worker/tests/it/fake.rs"]
mod fake;
mod gpu;
#[path = "../../../guest-agent/tests/all/memory.rs"]
mod guest_memory;
mod kept_evidence;
mod killed;
mod machine;
#[path = "../../../measurements/gpu/tests/it/made.rs"]
mod made;
mod misuse;
mod model_volume;
mod operations;
mod proxy_memory;
mod reproducible;
mod stamped;
mod stream;
mod uki;
