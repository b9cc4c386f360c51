//! An OCSP response.
#![no_main]

use libfuzzer_sys::fuzz_target;
use gpu::{OcspNonce, OcspResponses};

fuzz_target!(|bytes: &[u8]| {
    let _ = OcspResponses::parse(&[bytes.to_vec()], OcspNonce::Any);
});
