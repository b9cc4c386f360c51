//! Collateral from a cache.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = measurements::Collateral::from_json(bytes);
});
