//! A signed envelope, as the proxy and the guest get it: what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(envelope) = wire::SignedEnvelope::decode(bytes) {
        assert_eq!(envelope.encode(), bytes);
    }
    let _ = wire::SignedEnvelope::decode_prefix(bytes);
});
