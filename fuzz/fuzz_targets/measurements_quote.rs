//! A TDX quote, and the platform that its certificate names.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(quote) = attest::Quote::parse(bytes) {
        let _ = attest::Platform::of(&quote);
    }
});
