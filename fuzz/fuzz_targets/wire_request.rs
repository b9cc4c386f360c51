//! The body of a sealed request: as it is, and padded as its own header says. What decodes has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::limits::{REQUEST_HEADER_BYTES, REQUEST_WORDS_MIN};
use wire::{Endpoint, Request};

fuzz_target!(|bytes: &[u8]| {
    let mut padded = bytes.to_vec();
    padded.resize(REQUEST_HEADER_BYTES + 4 * REQUEST_WORDS_MIN, 0);
    for bytes in [bytes, &padded] {
        for endpoint in [Endpoint::Embeddings, Endpoint::Chat] {
            if let Ok(request) = Request::decode(endpoint, bytes) {
                assert_eq!(request.endpoint(), endpoint);
                let encoded = request.encode().expect("what decodes encodes");
                assert_eq!(&encoded[..], bytes);
            }
        }
    }
});
