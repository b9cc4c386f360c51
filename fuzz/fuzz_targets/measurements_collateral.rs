//! Collateral from a cache, and what it says of itself.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(collateral) = attest::Collateral::from_json(bytes) {
        let _ = collateral.claims();
    }
});
