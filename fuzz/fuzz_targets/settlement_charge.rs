//! A signed charge, as a proxy and a client get it from a guest.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(charge) = settlement::SignedCharge::decode(bytes) {
        assert_eq!(charge.encode(), bytes);
    }
});
