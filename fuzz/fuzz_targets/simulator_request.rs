//! What a guest asks of its simulated module: what decodes encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use simulator::protocol::{decode, decode_header, encode};

fuzz_target!(|bytes: &[u8]| {
    let Some((header, rest)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    if let Ok((op, length)) = decode_header(*header)
        && let Some(payload) = rest.get(..length)
        && let Ok(request) = decode(op, payload)
    {
        assert_eq!(encode(&request), [header.as_slice(), payload].concat());
    }
});
