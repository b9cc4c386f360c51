//! A keyset, as a client gets it from a proxy.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(keyset) = wire::Keyset::decode(bytes) {
        assert_eq!(keyset.encode(), bytes);
    }
});
