//! Evidence in a wrapper, as somebody else hands it to a verifier, in CBOR or in JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(cmw) = wire::Cmw::decode(bytes) {
        assert_eq!(wire::Cmw::decode(&cmw.encode()).as_ref(), Ok(&cmw));
        assert_eq!(wire::Cmw::decode(cmw.to_json().as_bytes()).as_ref(), Ok(&cmw));
    }
});
