//! A TDX quote in every form of file, and the platform that its certificate names.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(bytes) = attest::quote_in_file(bytes) else {
        return;
    };
    if let Ok(quote) = attest::Quote::parse(&bytes) {
        let _ = attest::Platform::of(&quote);
    }
});
