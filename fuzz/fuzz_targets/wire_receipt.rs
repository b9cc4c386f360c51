//! A receipt, as a client gets it out of an answer, or a verifier out of a file.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(receipt) = wire::Receipt::decode(bytes) {
        assert_eq!(receipt.encode(), bytes);
    }
});
