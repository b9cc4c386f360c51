//! The body of a sealed request. What decodes has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wire::{Endpoint, Request};

fuzz_target!(|bytes: &[u8]| {
    for endpoint in [Endpoint::Embeddings, Endpoint::Chat] {
        if let Ok(request) = Request::decode(endpoint, bytes) {
            assert_eq!(request.endpoint(), endpoint);
            assert_eq!(&request.encode()[..], bytes);
        }
    }
});
