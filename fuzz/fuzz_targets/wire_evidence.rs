//! Evidence, the bundle that keeps it, and a signed refusal.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = wire::Evidence::decode(bytes);
    let _ = wire::Bundle::decode(bytes);
    let _ = wire::SignedRefusal::decode(bytes);
});
